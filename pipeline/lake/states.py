"""Merging states into a day's history and operations: the rules R1 to R3.

What the rules say is in the statements of lake/sql. They are asked of one piece of the day after the other,
ranges of ids, so that a day of any size needs the same memory, and what they give is written as it comes.
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
"""So many ids of each piece tell where it is."""

_IN_PIECE: Final = "is_in_piece(operation_id)"


@dataclass(frozen=True, slots=True)
class Changes:
    """What merging states did.

    Attributes:
        seen: operations that the states are of.
        new: those of them that were not known before.
        changed: those known before that have another newest state now.
        has_news: whether any of the states was not that of its operation already.
    """

    seen: int = 0
    new: int = 0
    changed: int = 0
    has_news: bool = False


class StatesMerge:
    """Merges states into the history and operations of a day: `add` them all, then `write`.

    Args:
        day: the day.
        is_anew: whether operations are taken from history as a whole, whatever they are.
        at_once: about how many states are merged at once.

    Raises:
        LakeError: there are operations and no history: what is left must not pass for all of it (R1).
    """

    def __init__(self, day: Day, *, is_anew: bool = False, at_once: int = AT_ONCE) -> None:
        self._day = day
        self._at_once = at_once
        self._belong_together = _belong_together(day)
        self._is_whole = self._belong_together and not is_anew
        self._waiting: list[pa.Table] = []
        for table in (HISTORY, OPERATIONS):
            day.view(table, _IN_PIECE)

    def add(self, states: pa.Table) -> None:
        """Add states in any order, known ones among them."""
        if states.num_rows:
            self._waiting.append(states)
        if sum(rows.num_rows for rows in self._waiting) >= self._at_once / 2:
            self._keep_news()

    def write(self) -> Changes:
        """Write history with the states, and operations with the newest of each."""
        self._keep_news()
        day = self._day
        if not self._is_whole:
            # They may not be those of history: all that they have was seen too (R1).
            _enter(day, _Piece("", None))
            day.connection.execute("INSERT INTO all_news FROM operations")
        seen, news = day.ask(statement("counts"))
        pieces = _cut(day, self._at_once)
        is_first = not day.file(HISTORY).exists()
        settled, version = self._write_history(pieces) if news else (_Settled(), None)
        if is_first and settled.states == settled.operations > 0:
            # Each has one state: both tables are the same rows.
            _copy(day, HISTORY, OPERATIONS)
            return Changes(seen, new=settled.operations, has_news=True)
        if not settled.changed:
            day.keep_file(HISTORY)
            version = day.version(HISTORY)
        counts = _Counts()
        if settled.changed or not self._is_whole:
            counts = self._write_operations(pieces, version, must=settled.changed > 0)
        else:
            day.keep_file(OPERATIONS)
        return Changes(seen, counts.new, counts.changed, has_news=news > 0)

    def _keep_news(self) -> None:
        """Put the states that are not those of their operations already into the table `all_news`.

        Asked of operations, the last of the two to be written: a merge that was killed between them left its
        landed files, and what these hold is not all in operations.
        """
        if not self._waiting:
            return
        day, waiting = self._day, pa.concat_tables(self._waiting)
        self._waiting.clear()
        news = statement("news") if self._is_whole else "FROM landed"
        # A landed file may have many times as many: joined as a whole they would not fit into memory.
        for begin in range(0, waiting.num_rows, self._at_once):
            states = waiting.slice(begin, self._at_once)
            ids = pc.min_max(states["operation_id"]).as_py()
            _enter(day, _Piece(ids["min"], ids["max"] + "\0"))
            day.connection.register("landed", states)
            day.connection.execute("INSERT INTO seen SELECT operation_id FROM landed")
            day.connection.execute(f"INSERT INTO all_news {news}")
            day.connection.unregister("landed")

    def _write_history(self, pieces: Sequence["_Piece"]) -> tuple["_Settled", str]:
        """Write history, if it changes; returns what was found, and its version if it was written."""
        day, version = self._day, secrets.token_hex(8)
        found: list[_Settled] = []

        def batches() -> Iterator[pa.RecordBatch]:
            for piece in pieces:
                found.append(_settle(day, piece))
                yield from day.batches(statement("history"))

        # A day that is taken together anew mostly is as it should be: it is looked at before it is written.
        if self._is_whole or any(_settle(day, piece).changed for piece in pieces):
            day.replace(HISTORY, batches(), version, lambda: any(one.changed for one in found))
        return sum(found, _Settled()), version

    def _write_operations(
        self, pieces: Sequence["_Piece"], version: str | None, *, must: bool
    ) -> "_Counts":
        """Write operations, if they change, if they must be written, or if they are not those of history."""
        day = self._day
        found: list[_Counts] = []
        day.view(HISTORY, _IN_PIECE)  # of the file that may have been written just now
        # Where operations are whole, only those with news can have another newest state.
        states = f"({statement('with_news')})" if self._is_whole else HISTORY.name

        def batches() -> Iterator[pa.RecordBatch]:
            for piece in pieces:
                found.append(_choose(day, piece, states))
                yield from day.batches(statement("operations"))

        must = must or not self._belong_together
        if must or any(_choose(day, piece, states) != _Counts() for piece in pieces):
            day.replace(OPERATIONS, batches(), version)
        else:
            day.keep_file(OPERATIONS)
        return sum(found, _Counts())


def _belong_together(day: Day) -> bool:
    """Whether operations are those of history; not if a merge was killed between the two."""
    history, operations = day.file(HISTORY), day.file(OPERATIONS)
    if operations.exists() and not history.exists():
        msg = (
            f"{history} is missing, though operations of its day are there: put it back; the day is not "
            "merged until then"
        )
        raise LakeError(msg)
    is_either = history.exists() == operations.exists()
    return is_either and day.version(HISTORY) == day.version(OPERATIONS)


class _Piece(NamedTuple):
    """The operations whose ids are `first_id` or after it, and before `end_id` unless that is None."""

    first_id: str
    end_id: str | None


def _cut(day: Day, at_once: int) -> list[_Piece]:
    """The day in pieces of about so many states, by what history and the news have."""
    rows = parquet.first_ids(day.file(HISTORY))
    each = max(at_once // _SAMPLES, 1)
    sample = day.connection.execute("SELECT operation_id FROM all_news WHERE rowid % ? = 0", [each])
    rows += [(one, each) for (one,) in sample.fetchall()]
    bounds, size = [""], 0
    for first_id, more in sorted(rows):
        if size >= at_once and first_id > bounds[-1]:
            bounds.append(first_id)
            size = 0
        size += more
    return [_Piece(*ends) for ends in zip_longest(bounds, bounds[1:])]


def _enter(day: Day, piece: _Piece) -> None:
    """Have the views show a piece."""
    first_id, end_id = ("NULL" if one is None else engine.literal(one) for one in piece)
    day.connection.execute(f"SET VARIABLE first_id = {first_id}; SET VARIABLE end_id = {end_id}")


@dataclass(frozen=True, slots=True)
class _Settled:
    """The operations with news: their states, themselves, and the states that history lacked."""

    states: int = 0
    operations: int = 0
    changed: int = 0

    def __add__(self, other: "_Settled") -> "_Settled":
        return _Settled(
            self.states + other.states,
            self.operations + other.operations,
            self.changed + other.changed,
        )


def _settle(day: Day, piece: _Piece) -> _Settled:
    """Make the table `states` of a piece."""
    _enter(day, piece)
    day.keep("states", statement("states"))
    return _Settled(*day.ask(statement("settled")))


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many operations are new, and how many have another newest state than before."""

    new: int = 0
    changed: int = 0

    def __add__(self, other: "_Counts") -> "_Counts":
        return _Counts(self.new + other.new, self.changed + other.changed)


def _choose(day: Day, piece: _Piece, states: str) -> _Counts:
    """Make the table `newest` of a piece, from some states."""
    _enter(day, piece)
    day.keep("newest", statement("newest", states=states))
    return _Counts(*day.ask(statement("changes")))


def _copy(day: Day, source: Table, target: Table) -> None:
    with (
        day.file(source).open("rb") as known,
        parquet.replacing(day.lake, target, day.partition) as copy,
    ):
        shutil.copyfileobj(known, copy)
