"""Which states there are, and which is the newest: the rules R1 to R3 as pure functions on tables.

Everything is a function of a *set* of rows and ends in a total order, so that the same content is the
same file, whatever landed first or twice (R5). Sorting and comparing neighbours is what pyarrow does
fastest here: a third of the processor time of a GROUP BY over all columns.

Ids sort by creation, listings mostly come in that order, and most operations have one state. So rows are
ordered by id alone, which is next to nothing for what is in order already, and only the rows of operations
that have several go through an order of all columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.rows import differs_from_previous, first_of_each, sorted_by, unequal_rows
from pipeline.schema import OPERATIONS, TIMESTAMP
from pipeline.windows import RETENTION

_SEEN: Final = ("observed_at", "looked_up_at")
_STATE: Final = tuple(name for name in OPERATIONS.names if name not in _SEEN)
_COMING_ABOUT: Final = ("operation_id", "updated_at", "observed_at", *_STATE)
_HOUR_US: Final = 3_600_000_000
_RETENTION_US: Final = RETENTION // timedelta(microseconds=1)

Bools = npt.NDArray[np.bool_]


def distinct_states(known: pa.Table, landed: pa.Table) -> pa.Table:
    """All states that were ever seen, each once, with the moment when it was first seen (R1).

    A state is everything but the moments of seeing it. Absence removes nothing.

    Args:
        known: what an earlier call returned, or nothing.
        landed: states in any order, known ones among them.

    Returns:
        `schema.HISTORY`, ordered by operation, then as its states came about.
    """
    if not known.num_rows:
        return _settled(landed)
    return _replaced(known, *_settled_of(known, landed))


def _settled_of(known: pa.Table, landed: pa.Table) -> tuple[Bools, pa.Table]:
    """Which known states are of operations that landed, and all states of these, each once and in order.

    What is known of the others is distinct and in order: it is left as it is.
    """
    has_landed = _flags(pc.is_in(_ids(known), value_set=pc.unique(_ids(landed))))
    return has_landed, _settled(pa.concat_tables([known.filter(pa.array(has_landed)), landed]))


def _settled(states: pa.Table) -> pa.Table:
    """States in any order, each once and in order."""
    states = _with_lookups_merged(states)
    places = _places(states)
    return states if places is None else states.take(places).combine_chunks()


def _with_lookups_merged(states: pa.Table) -> pa.Table:
    """States of which some were fetched by id, each once, with the first moment of either kind.

    When a fetch by id had a state is kept only if that state was first seen after the deadline: before it,
    any answer is complete.
    """
    if not _has_lookups(states):
        return states
    groups = states.group_by(list(_STATE), use_threads=False)
    first = groups.aggregate([(name, "min") for name in _SEEN])
    names = {f"{name}_min": name for name in _SEEN}
    first = first.rename_columns([names.get(name, name) for name in first.schema.names])
    looked_up_at = pc.if_else(_is_late(first), first["looked_up_at"], pa.scalar(None, TIMESTAMP))
    place = first.schema.names.index("looked_up_at")
    first = first.set_column(place, "looked_up_at", looked_up_at)
    return first.select(OPERATIONS.names).cast(OPERATIONS.arrow)


def _has_lookups(states: pa.Table) -> bool:
    return bool(states["looked_up_at"].null_count < states.num_rows)


def _is_late(states: pa.Table) -> pa.ChunkedArray:
    """Whether a state was first seen after the deadline of its slot."""
    created = pc.cast(states["created_at"], pa.int64())
    slot = pc.multiply(pc.divide(created, _HOUR_US), _HOUR_US)
    return pc.greater_equal(pc.cast(states["observed_at"], pa.int64()), pc.add(slot, _RETENTION_US))


def _places(states: pa.Table) -> pa.Array | None:
    """Where the states, each once and in order, are in a table; None if they are the table as it is."""
    ids = _ids(states)
    is_ordered = pc.all(pc.less_equal(ids[:-1], ids[1:]), min_count=0).as_py()
    order = pa.array(np.arange(len(ids))) if is_ordered else _order(ids)
    ordered_ids = ids if is_ordered else ids.take(order)
    follows = _follows(ordered_ids)
    if not pc.any(follows, min_count=0).as_py():
        return None if is_ordered else order
    is_several = _of_the_same(follows)
    several = order.filter(is_several)
    rows = states.take(several).append_column("_place", several)
    first = _first_seen(rows)
    is_alone = pc.invert(is_several)
    before = _before(ordered_ids.filter(is_alone), _ids(first))
    alone = order.filter(is_alone).to_numpy()
    return pa.array(np.insert(alone, before, first["_place"].to_numpy()))


def _first_seen(rows: pa.Table) -> pa.Table:
    """Each state once, as it was first seen, in order; of rows that are ordered by operation."""
    follows = pc.invert(differs_from_previous(rows, ["operation_id"]))
    seen = _column(rows, "observed_at")
    is_same = pc.invert(differs_from_previous(rows, _STATE))
    is_later = pa.concat_arrays([pa.array([True]), pc.greater_equal(seen[1:], seen[:-1])])
    if pc.all(pc.or_(pc.invert(follows), pc.and_(is_same, is_later))).as_py():
        # What was listed twice, and had not changed: most of what comes twice, told without sorting.
        return rows.filter(pc.invert(follows))
    return sorted_by(first_of_each(rows, _STATE, then=("observed_at",)), _COMING_ABOUT)


def _replaced(rows: pa.Table, outdated: Bools | None, others: pa.Table) -> pa.Table:
    """Ordered rows without those that are outdated, and with others, ordered too, where they belong.

    No operation is in both, but for rows that are outdated; None is if none are.
    """
    if not others.num_rows:
        return rows if outdated is None else rows.filter(pa.array(~outdated))
    stays = np.ones(rows.num_rows, np.bool_) if outdated is None else ~outdated
    before = _before(_ids(rows), _ids(others))
    before -= np.concatenate([[0], np.cumsum(~stays)])[before]
    at = before + np.arange(others.num_rows)
    is_other = np.zeros(int(stays.sum()) + others.num_rows, dtype=np.bool_)
    is_other[at] = True
    places = np.empty(len(is_other), dtype=np.int64)
    places[~is_other] = np.flatnonzero(stays)
    places[at] = rows.num_rows + np.arange(others.num_rows)
    were = rows.take(pa.array(np.flatnonzero(~stays)))
    # Where the operations are the same, their columns often are too: these stay as they are.
    is_update = _ids(were).equals(_ids(others))
    columns = [
        rows[name]
        if is_update and were[name].equals(others[name])
        else _put_in(rows[name], others[name], at, places)
        for name in rows.schema.names
    ]
    return pa.table(columns, schema=rows.schema)


def _put_in(
    rows: pa.ChunkedArray,
    others: pa.ChunkedArray,
    at: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
) -> pa.Array:
    """Values from some places of rows and of others after them; those of the others come to `at`."""
    is_number = pa.types.is_int64(rows.type) or pa.types.is_timestamp(rows.type)
    if not is_number or rows.null_count or others.null_count:
        return pa.concat_arrays([*rows.chunks, *others.chunks]).take(pa.array(places))
    # What is a number and always there is copied once, in half of the time. Beyond the end, the last place
    # stands for one that is filled afterwards. Arrow's memory was touched before, and fresh pages cost more
    # than what is written to them.
    known = rows.cast(pa.int64()).to_numpy() if len(rows) else np.zeros(1, np.int64)
    buffer = pa.allocate_buffer(places.nbytes)
    numbers = np.frombuffer(buffer, np.int64)
    known.take(places, mode="clip", out=numbers)
    numbers[at] = others.cast(pa.int64()).to_numpy()
    return pa.Array.from_buffers(rows.type, len(numbers), [None, buffer])


def _flags(values: pa.ChunkedArray | pa.Array) -> Bools:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Merged:
    """A day's tables with what landed.

    Attributes:
        history: all states, as `distinct_states` returns them.
        operations: the newest of each operation, as `newest_states` returns them.
        new: operations that were not known before.
        changed: operations known before whose newest state is another now.
    """

    history: pa.Table
    operations: pa.Table
    new: int
    changed: int


def merged(known: pa.Table, operations: pa.Table, landed: pa.Table, *, is_whole: bool) -> Merged:
    """A day's history and operations with states that landed.

    Args:
        known: all states so far, as `distinct_states` returned them.
        operations: the newest of them.
        landed: states in any order, known ones among them.
        is_whole: whether `operations` has every operation of `known` with its newest state: then only those
            that landed are looked at again.
    """
    if not is_whole:
        history = distinct_states(known, landed)
        newest = newest_states(history)
        return Merged(history, newest, *count_changes(operations, newest))
    has_landed, settled = _settled_of(known, landed)
    newest = newest_states(settled)
    is_old = has_landed
    if operations is not known:
        is_old = _flags(pc.is_in(_ids(operations), value_set=_ids(newest)))
    new, changed = count_changes(operations.filter(pa.array(is_old)), newest)
    history = _replaced(known, has_landed, settled)
    return Merged(history, _replaced(operations, is_old, newest), new, changed)


def _before(many: pa.Array, few: pa.Array) -> npt.NDArray[np.int64]:
    """For each of few ids the place in many ordered ones that it comes before."""
    return np.asarray(pc.search_sorted(many, few).to_numpy(), dtype=np.int64)


def newest_states(states: pa.Table) -> pa.Table:
    """The newest state of each operation (R2, R3).

    It is the one with the highest `updated_at`. Of several, it is the one that came latest in a complete
    answer: one to a listing before the slot's deadline, or to a fetch by id at any time. A listing after the
    deadline may be incomplete: what came in nothing else gives way, and of several such the earliest stays.
    What is still equal was seen at one moment: the rest of the order only makes the choice the same
    every time.

    Returns:
        `schema.OPERATIONS`, ordered by operation.
    """
    rows = by_id(states)
    follows = _follows(_ids(rows))
    if not pc.any(follows, min_count=0).as_py():
        return rows
    # Where the states of an operation come about with rising times, the last one is the newest: also of those
    # that a listing after the deadline had, since it is strictly higher.
    updated = _column(rows, "updated_at")
    is_unclear = pc.and_(follows, pc.less_equal(updated[1:], updated[:-1]))
    unclear_ids = _ids(rows)[1:].filter(is_unclear)
    no = pa.array([False])
    is_last = pc.invert(pa.concat_arrays([follows, no]))
    if not len(unclear_ids):
        return rows.filter(is_last)
    is_unclear = pc.is_in(rows["operation_id"], value_set=unclear_ids)
    newest = _newest_of_several(rows.filter(is_unclear))
    others = rows.filter(pc.and_(is_last, pc.invert(is_unclear)))
    return _replaced(others, None, newest)


def _newest_of_several(states: pa.Table) -> pa.Table:
    ranked = newest_first(states)
    return ranked.filter(differs_from_previous(ranked, ["operation_id"]))


def newest_first(states: pa.Table) -> pa.Table:
    """States by operation, the newest of each ahead (R3); `extra`, the last to decide, may lack."""
    seen, looked_up = (pc.cast(states[name], pa.int64()) for name in _SEEN)
    complete = pc.negate(pc.if_else(_is_late(states), looked_up, seen))
    # Negative if a complete answer had it: all of these come first, the latest of them ahead.
    ranked = states.append_column("_seen", pc.coalesce(complete, seen))
    rest = [name for name in _STATE if name in states.schema.names]
    order = [
        ("operation_id", "ascending"),
        ("updated_at", "descending"),
        ("_seen", "ascending"),
        ("observed_at", "ascending"),
        *((name, "descending") for name in rest if name not in ("operation_id", "updated_at")),
    ]
    return ranked.sort_by(order).combine_chunks().select(states.schema.names)


def with_looked_up_at(states: pa.Table, lookups: pa.Table) -> pa.Table:
    """Of states that an earlier version kept those that a fetch by id returned, with `looked_up_at`.

    They are told by their moments, those of the lookups. What a listing had returned before can't be told.
    """
    is_answered = pc.and_(lookups["gone_at"].is_null(), lookups["refusal"].is_null())
    is_answered = pc.and_(is_answered, pc.equal(lookups["subject"], "operation"))
    answered = _sighting(lookups.filter(is_answered), "asked_at").combine_chunks()
    found = states.filter(pc.is_in(_sighting(states, "observed_at"), value_set=answered))
    place = found.schema.names.index("looked_up_at")
    return found.set_column(place, found.schema.field(place), found["observed_at"])


def _sighting(rows: pa.Table, moment: str) -> pa.ChunkedArray:
    """An operation with a moment, as one text."""
    moments = pc.cast(pc.cast(rows[moment], pa.int64()), pa.string())
    return pc.binary_join_element_wise(rows["operation_id"], moments, " ")


def known_by(states: pa.Table, moment: datetime) -> pa.Table:
    """The states that had been seen by a moment, as they were known then."""
    then = pa.scalar(moment, TIMESTAMP)
    states = states.filter(pc.less_equal(states["observed_at"], then))
    looked_up_at = states["looked_up_at"]
    looked_up_at = pc.if_else(pc.less_equal(looked_up_at, then), looked_up_at, None)
    place = states.schema.names.index("looked_up_at")
    return states.set_column(place, states.schema.field(place), looked_up_at)


def by_id(rows: pa.Table) -> pa.Table:
    """Rows in one piece and ordered by operation; those of one operation stay in their order."""
    if any(column.num_chunks != 1 for column in rows.columns):
        rows = rows.combine_chunks()
    ids = _ids(rows)
    is_ordered = pc.all(pc.less_equal(ids[:-1], ids[1:]), min_count=0).as_py()
    return rows if is_ordered else rows.take(_order(ids))


def gathered(tables: list[pa.Table]) -> pa.Table:
    """The states of some tables in one piece, each once and in order.

    Scans are mostly ranges of ids, each in order: so only those that overlap are put in order together.

    Args:
        tables: the states; the list is emptied, so that the memory of each column is free again once it
            is copied: a whole day goes through here.
    """
    settled = []
    tables.reverse()
    while tables:
        settled.append(_settled(tables.pop()))
    groups = _overlapping([one for one in settled if one.num_rows])
    settled.clear()
    groups.reverse()
    while groups:
        group = groups.pop()
        if any(map(_has_lookups, group)):
            tables.append(_settled(pa.concat_tables(group)))
        else:
            tables.append(group[0] if len(group) == 1 else _copied(group, _places))
        group.clear()
    return _copied(tables) if tables else OPERATIONS.arrow.empty_table()


def _overlapping(tables: list[pa.Table]) -> list[list[pa.Table]]:
    """Ordered tables in groups, by their ids: those of one group overlap, and the groups are in order."""
    # Of those that begin alike, what was seen first comes first: it stays, should the rest be the same.
    tables.sort(key=lambda one: (_first_id(one), one["observed_at"][0].value))
    groups: list[list[pa.Table]] = []
    end = ""
    for one in tables:
        if groups and _first_id(one) <= end:
            groups[-1].append(one)
        else:
            groups.append([one])
        end = max(end, str(one["operation_id"][-1]))
    return groups


def _first_id(rows: pa.Table) -> str:
    return str(rows["operation_id"][0])


def _copied(
    tables: list[pa.Table], places_in: Callable[[pa.Table], pa.Array | None] = lambda _: None
) -> pa.Table:
    """Rows of tables in one piece; the list is emptied: a column's memory is free once it is copied."""
    rows = pa.concat_tables(tables)
    tables.clear()
    places = places_in(rows)
    columns = rows.columns
    del rows
    columns.reverse()
    copied = []
    while columns:
        column = columns.pop()
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        copied.append(whole if places is None else whole.take(places))
        del column, whole
    return pa.table(copied, schema=OPERATIONS.arrow)


def _ids(rows: pa.Table) -> pa.Array:
    return _column(rows, "operation_id")


def _column(rows: pa.Table, name: str) -> pa.Array:
    """A column in one piece; copied only if it is in several."""
    column = rows[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _order(ids: pa.Array) -> pa.Array:
    """The places of ids in their order, those of equal ones as they were: quick for what is nearly so."""
    return pc.array_sort_indices(ids)


def _follows(ids: pa.Array) -> pa.BooleanArray:
    """For each id but the first, whether it is the same as the one before it."""
    return pc.equal(ids[1:], ids[:-1])


def _of_the_same(follows: pa.BooleanArray) -> pa.BooleanArray:
    """For each row whether the one before or after it is of the same operation."""
    no = pa.array([False])
    return pc.or_(pa.concat_arrays([no, follows]), pa.concat_arrays([follows, no]))


def news(operations: pa.Table, tables: list[pa.Table]) -> tuple[pa.Table, int]:
    """What scans saw that is not the newest state of its operation, or was not known by then.

    Folding the rest changes nothing: the common case of a rescan, told without reading history, and without
    putting what was seen in order.

    Args:
        operations: the newest states, ordered by operation.
        tables: what each scan saw, in any order; emptied, as by `gathered`.

    Returns:
        The states, as `gathered` returns them, and how many operations the scans saw.
    """
    if not operations.num_rows:
        seen = gathered(tables)
        return seen, count_operations(seen)
    if any(column.num_chunks != 1 for column in operations.columns):
        operations = operations.combine_chunks()
    was_seen = np.zeros(operations.num_rows, dtype=np.bool_)
    found = []
    while tables:
        found.append(_news(operations, tables.pop(), was_seen))
    states = gathered(found)
    _, is_new = _as_known(operations.select(["operation_id"]), states)
    return states, int(was_seen.sum()) + count_operations(states.filter(is_new))


def _news(operations: pa.Table, seen: pa.Table, was_seen: Bools) -> pa.Table:
    """The same of one scan, in any order; marks those of the operations that it saw."""
    if not seen.num_rows:
        return seen
    # Most scans see a range of the known operations in nearly their order: row beside row.
    begin = pc.search_sorted(_ids(operations), pc.min(_ids(seen))).as_py()
    beside = operations.slice(begin, seen.num_rows)
    is_same = _are_beside(seen, beside)
    if 2 * is_same.sum() < seen.num_rows:
        seen = by_id(seen)
        is_same = _are_beside(seen, beside)
    if 2 * is_same.sum() < seen.num_rows:
        return _news_looked_up(operations, seen, was_seen)
    first = seen.slice(0, beside.num_rows)
    was_seen[begin : begin + len(is_same)] |= is_same
    is_news, is_rest = np.zeros(seen.num_rows, np.bool_), np.ones(seen.num_rows, np.bool_)
    is_news[: len(is_same)] = is_same & _flags(_is_other(first, beside))
    is_rest[: len(is_same)] = ~is_same
    rest = _news_looked_up(operations, seen.filter(pa.array(is_rest)), was_seen)
    return pa.concat_tables([seen.filter(pa.array(is_news)), rest])


def _are_beside(seen: pa.Table, known: pa.Table) -> Bools:
    """For each row of known whether the row of seen beside it is of the same operation."""
    return _flags(pc.equal(_ids(seen.slice(0, known.num_rows)), _ids(known)))


def _news_looked_up(operations: pa.Table, seen: pa.Table, was_seen: Bools) -> pa.Table:
    """The same, each row looked up."""
    if not seen.num_rows:
        return seen
    known = _ids(operations)
    places = np.minimum(_before(known, _ids(seen)), len(known) - 1)
    is_new = _flags(pc.not_equal(_ids(seen), known.take(pa.array(places))))
    was_seen[places[~is_new]] = True
    is_other = _flags(_is_other(seen, operations.take(pa.array(places))))
    return seen.filter(pa.array(is_new | is_other))


def _is_other(seen: pa.Table, known: pa.Table) -> pa.ChunkedArray:
    """Whether states of the same operations, row by row, are others, or were seen earlier.

    A fetch by id that returned a state which so far came only in listings after the deadline adds to it.
    """
    is_other = pc.less(seen["observed_at"], known["observed_at"])
    if _has_lookups(seen):
        looked_up_earlier = pc.less(seen["looked_up_at"], known["looked_up_at"])
        adds = pc.coalesce(looked_up_earlier, seen["looked_up_at"].is_valid())
        is_other = pc.or_(is_other, pc.and_(_is_late(known), adds))
    for name in _STATE:
        if name != "operation_id":
            is_other = pc.or_(is_other, unequal_rows(seen[name], known[name]))
    return is_other


def is_newest(operations: pa.Table, seen: pa.Table) -> pa.ChunkedArray:
    """For each state in `seen`, whether it is the newest one of its operation.

    Args:
        operations: the newest states, ordered by operation.
        seen: states that were seen.
    """
    if not operations.num_rows:
        return pa.chunked_array([pa.repeat(pa.scalar(value=False), seen.num_rows)])
    known, differs = _as_known(operations, seen)
    for name in _STATE:
        differs = pc.or_(differs, unequal_rows(seen[name], known[name]))
    return pc.invert(differs)


def count_changes(before: pa.Table, after: pa.Table) -> tuple[int, int]:
    """How many operations are new in `after`, and how many have another state than in `before`.

    Both are ordered by operation, and `after` has every operation of `before`.
    """
    if not before.num_rows or after.equals(before):
        return after.num_rows - before.num_rows, 0
    same, differs = _as_known(after, before)
    for name in before.schema.names:
        differs = pc.or_(differs, unequal_rows(before[name], same[name]))
    return after.num_rows - before.num_rows, int(pc.sum(differs).as_py() or 0)


def count_operations(states: pa.Table) -> int:
    """How many operations there are in states that are ordered by operation."""
    return int(states.num_rows) - int(pc.sum(_follows(_ids(states))).as_py() or 0)


def _as_known(operations: pa.Table, seen: pa.Table) -> tuple[pa.Table, pa.ChunkedArray]:
    """For each row of `seen` the row of the same operation, and whether there is none.

    Args:
        operations: each operation once, ordered, and not empty.
        seen: rows in any order; the row beside one that has none is any.
    """
    if not seen.num_rows:
        return operations.slice(0, 0), pa.chunked_array([pa.array([], pa.bool_())])
    known, wanted = _ids(operations), _ids(seen)
    begin = pc.search_sorted(known, wanted[0]).as_py()
    end = begin + len(wanted)
    if end <= len(known) and known[begin:end].equals(wanted):
        nothing = pa.repeat(pa.scalar(value=False), len(wanted))
        return operations.slice(begin, len(wanted)), pa.chunked_array([nothing])
    places = pc.min_element_wise(pc.search_sorted(known, wanted), len(known) - 1)
    found = operations.take(places)
    return found, unequal_rows(seen["operation_id"], found["operation_id"])
