"""Merging states into a day's history and operations: the rules R1 to R3.

The statements in lake/sql implement the rules. They run on one piece of the day after the other, a range of
ids each, and their results are written in batches, so that memory does not grow with the size of the day.
"""

import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import engine, parquet
from pipeline.lake.day import AT_ONCE, Day
from pipeline.lake.layout import LakeError
from pipeline.lake.statements import statement
from pipeline.model.schema import HISTORY, OPERATIONS, Table

_SAMPLES: Final = 256
"""Ids sampled per piece, to find its bounds."""

_IN_PIECE: Final = "is_in_piece(operation_id)"


@dataclass(frozen=True, slots=True)
class Changes:
    """What merging states did.

    Attributes:
        seen: operations of the states.
        new: those that the archive did not have.
        changed: those whose newest state has changed.
        has_changed_states: whether any state differed from the stored newest state of its operation, or was
            observed before it.
    """

    seen: int = 0
    new: int = 0
    changed: int = 0
    has_changed_states: bool = False


class StatesMerge:
    """Merges states into the history and operations of a day: `add` them all, then `write`.

    Args:
        day: the day.
        is_rebuild: whether all operations are made again from history.
        at_once: about how many states are merged at once.

    Raises:
        LakeError: there are operations but no history, which would be lost unnoticed (R1).
    """

    def __init__(self, day: Day, *, is_rebuild: bool = False, at_once: int = AT_ONCE) -> None:
        self._day = day
        self._at_once = at_once
        self._is_consistent = _are_consistent(day)
        self._is_incremental = self._is_consistent and not is_rebuild
        self._added: list[pa.Table] = []
        for table in (HISTORY, OPERATIONS):
            day.view(table, _IN_PIECE)

    def add(self, states: pa.Table) -> None:
        """Add states, in any order; stored ones may be among them."""
        if states.num_rows:
            self._added.append(states)
        if sum(rows.num_rows for rows in self._added) >= self._at_once / 2:
            self._store_changed_states()

    def write(self) -> Changes:
        """Write history with the added states, and operations with the newest state of each."""
        self._store_changed_states()
        day = self._day
        if not self._is_incremental:
            # Operations may have states that history lacks: these were observed too (R1).
            _set_piece(day, _Piece("", None))
            day.connection.execute("INSERT INTO all_changed_states FROM operations")
        seen, changed_states = day.fetch_row(statement("counts"))
        pieces = _pieces(day, self._at_once)
        is_first = not day.file(HISTORY).exists()
        counted, version = self._write_history(pieces) if changed_states else (_StateCounts(), None)
        if is_first and counted.states == counted.operations > 0:
            # Each operation has one state: both tables have the same rows.
            _copy(day, HISTORY, OPERATIONS)
            return Changes(seen, new=counted.operations, has_changed_states=True)
        if not counted.changed:
            day.keep_file(HISTORY)
            version = day.version(HISTORY)
        counts = _Counts()
        if counted.changed or not self._is_incremental:
            counts = self._write_operations(pieces, version, must=counted.changed > 0)
        else:
            day.keep_file(OPERATIONS)
        return Changes(seen, counts.new, counts.changed, has_changed_states=changed_states > 0)

    def _store_changed_states(self) -> None:
        """Insert the changed states into the table `all_changed_states`.

        They are compared with operations, which is written after history: if a merge was killed between the
        two, its landed states are not all in operations and are merged again.
        """
        if not self._added:
            return
        day, added = self._day, pa.concat_tables(self._added)
        self._added.clear()
        query = statement("changed_states") if self._is_incremental else "FROM landed"
        # A landed file may have many times as many: joining all at once would exceed the memory.
        for begin in range(0, added.num_rows, self._at_once):
            states = added.slice(begin, self._at_once)
            ids = pc.min_max(states["operation_id"]).as_py()
            _set_piece(day, _Piece(ids["min"], ids["max"] + "\0"))
            day.connection.register("landed", states)
            day.connection.execute("INSERT INTO seen SELECT operation_id FROM landed")
            day.connection.execute(f"INSERT INTO all_changed_states {query}")
            day.connection.unregister("landed")

    def _write_history(self, pieces: Sequence["_Piece"]) -> tuple["_StateCounts", str]:
        """Write history if it changes; return the counts, and the version that it has if it was written."""
        day, version = self._day, secrets.token_hex(8)
        found: list[_StateCounts] = []

        def batches() -> Iterator[pa.RecordBatch]:
            for piece in pieces:
                found.append(_make_states(day, piece))
                yield from day.batches(statement("history"))

        # A rebuild mostly changes nothing, so it checks for changes before it writes.
        if self._is_incremental or any(_make_states(day, piece).changed for piece in pieces):
            day.replace(HISTORY, batches(), version, lambda: any(one.changed for one in found))
        return sum(found, _StateCounts()), version

    def _write_operations(
        self, pieces: Sequence["_Piece"], version: str | None, *, must: bool
    ) -> "_Counts":
        """Write operations if they change, if `must`, or if they were not made from this history."""
        day = self._day
        found: list[_Counts] = []
        day.view(HISTORY, _IN_PIECE)  # the file may have just been written
        # If operations are consistent with history, only those with changed states can change.
        states = f"({statement('states_of_changed')})" if self._is_incremental else HISTORY.name

        def batches() -> Iterator[pa.RecordBatch]:
            for piece in pieces:
                found.append(_make_newest(day, piece, states))
                yield from day.batches(statement("operations"))

        must = must or not self._is_consistent
        if must or any(_make_newest(day, piece, states) != _Counts() for piece in pieces):
            day.replace(OPERATIONS, batches(), version)
        else:
            day.keep_file(OPERATIONS)
        return sum(found, _Counts())


def _are_consistent(day: Day) -> bool:
    """Whether operations were made from this history; not if a merge was killed between the two writes."""
    history, operations = day.file(HISTORY), day.file(OPERATIONS)
    if operations.exists() and not history.exists():
        msg = (
            f"{history} is missing, but operations of its day exist: restore it; the day is not merged "
            "until then"
        )
        raise LakeError(msg)
    is_either = history.exists() == operations.exists()
    return is_either and day.version(HISTORY) == day.version(OPERATIONS)


class _Piece(NamedTuple):
    """The operations whose ids are `first_id` or after it, and before `end_id` unless that is None."""

    first_id: str
    end_id: str | None


def _pieces(day: Day, at_once: int) -> list[_Piece]:
    """The day in pieces of about `at_once` states, counting history and the changed states."""
    rows = parquet.first_ids(day.file(HISTORY))
    each = max(at_once // _SAMPLES, 1)
    sample = day.connection.execute(
        "SELECT operation_id FROM all_changed_states WHERE rowid % ? = 0", [each]
    )
    rows += [(one, each) for (one,) in sample.fetchall()]
    bounds, size = [""], 0
    for first_id, more in sorted(rows):
        if size >= at_once and first_id > bounds[-1]:
            bounds.append(first_id)
            size = 0
        size += more
    return [_Piece(*ends) for ends in zip_longest(bounds, bounds[1:])]


def _set_piece(day: Day, piece: _Piece) -> None:
    """Make a piece the current one, which the views show."""
    first_id, end_id = ("NULL" if one is None else engine.literal(one) for one in piece)
    day.connection.execute(f"SET VARIABLE first_id = {first_id}; SET VARIABLE end_id = {end_id}")


@dataclass(frozen=True, slots=True)
class _StateCounts:
    """Numbers for operations with changed states: their states, the operations, and states new to history."""

    states: int = 0
    operations: int = 0
    changed: int = 0

    def __add__(self, other: "_StateCounts") -> "_StateCounts":
        return _StateCounts(
            self.states + other.states,
            self.operations + other.operations,
            self.changed + other.changed,
        )


def _make_states(day: Day, piece: _Piece) -> _StateCounts:
    """Make the table `states` for a piece, and count its rows."""
    _set_piece(day, piece)
    day.keep("states", statement("states"))
    return _StateCounts(*day.fetch_row(statement("state_counts")))


@dataclass(frozen=True, slots=True)
class _Counts:
    """The number of new operations, and of operations whose newest state has changed."""

    new: int = 0
    changed: int = 0

    def __add__(self, other: "_Counts") -> "_Counts":
        return _Counts(self.new + other.new, self.changed + other.changed)


def _make_newest(day: Day, piece: _Piece, states: str) -> _Counts:
    """Make the table `newest` for a piece from a table or query of states, and count the changes."""
    _set_piece(day, piece)
    day.keep("newest", statement("newest", states=states))
    return _Counts(*day.fetch_row(statement("changes")))


def _copy(day: Day, source: Table, target: Table) -> None:
    with (
        day.file(source).open("rb") as known,
        parquet.replacing(day.lake, target, day.partition) as copy,
    ):
        shutil.copyfileobj(known, copy)
