"""fold(): what landed for one day becomes that day's history, operations, coverage and rejects.

Each table's file is replaced by one rename, and only then are the landed files removed. Folding is a
union of sets, so folding the same files again, or in another order, gives the same tables (R5): a
crash anywhere leaves landed files behind, and the next fold does the same work again. A table that is
as it should be already is made to last before they go: a fold that was killed may not have done that.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.facts import Partition, Watched
from pipeline.lake import landing, parquet
from pipeline.lake.coverage import cover, to_table
from pipeline.lake.faults import refusals
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.rows import distinct_errors, distinct_lookups, distinct_rejects, with_new_scans
from pipeline.lake.states import (
    count_operations,
    distinct_states,
    merged,
    newest_states,
    news,
    with_looked_up_at,
)
from pipeline.lake.watch import watched
from pipeline.schema import (
    COVERAGE,
    HISTORY,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    SLOT_COVERAGE,
    TIMESTAMP,
    WATCHED,
    Table,
)
from pipeline.windows import midnight

log = logging.getLogger(__name__)

Derive: TypeAlias = Callable[[Partition, pa.Table, pa.Table], None]
"""What is to be derived of a day's operations and history while they are at hand, under its lock."""


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What folding one partition did.

    Attributes:
        partition: the account and day.
        scans: landed scans that were folded.
        operations: operations that the day has now.
        states: distinct states in its history now.
        new: operations that were not known before.
        changed: operations known before whose newest state is another now.
        unchanged: operations that the scans saw as they were known.
        rejects: distinct records that could not be read, ever, on this day.
        new_rejects: those of them that are new.
        lookups: questions about single operations that were folded.
        observed_at: when the latest of the folded scans began: UTC, by the API's clock.
    """

    partition: Partition
    scans: int
    operations: int
    states: int
    new: int
    changed: int
    unchanged: int
    rejects: int
    new_rejects: int
    lookups: int
    observed_at: datetime | None


@refusals()
def fold(lake: Lake, partition: Partition, derive: Derive | None = None) -> FoldReport:
    """Fold one partition, under its lock; nothing is written that would be the same.

    Args:
        lake: the archive.
        partition: the account and day.
        derive: is given the day's tables if they changed, so that they need not be read again.

    Raises:
        LakeError: a file of the partition is damaged or foreign. Nothing is lost or removed.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        return _fold(lake, partition, derive)


def _fold(lake: Lake, partition: Partition, derive: Derive | None) -> FoldReport:
    began = time.monotonic()
    landed = [landing.read(path) for path in lake.landed(partition)]
    tables = [one.operations for one in landed]
    landed = [replace(one, operations=OPERATIONS.arrow.empty_table()) for one in landed]
    before = _read(lake, OPERATIONS, partition)
    operations, history, states = before, None, None
    new = changed = 0
    # Asked of operations, the last of the two to be written: a fold that was killed between them left
    # its landed files here, and what they hold is not all in operations.
    unknown, found = news(before, tables)
    if found:
        _require_history(lake, partition, before)
    if unknown.num_rows:
        parts = [lake.part(table, partition) for table in (HISTORY, OPERATIONS)]
        known = before if parquet.are_same(*parts) else _read(lake, HISTORY, partition)
        # Where operations are whole, only those that have other states now need another look.
        is_whole = (
            before.num_rows > 0
            and count_operations(known) == before.num_rows
            and not lake.torn_marker(partition).exists()
        )
        after = merged(known, before, unknown, is_whole=is_whole)
        del unknown
        history, operations = after.history, after.operations
        new, changed = after.new, after.changed
        del after
        states = history.num_rows
        if not (operations.equals(before) and history.equals(known)):
            lake.files.touch(lake.stale_marker(partition))
            lake.files.touch(lake.torn_marker(partition))
        encoded = parquet.encode(history)
        _write_if_changed(lake, HISTORY, partition, known, history, encoded=encoded)
        # Where each operation has one state, both tables are the same rows: they are encoded once.
        if states != operations.num_rows:
            encoded = parquet.encode(operations)
        _write_if_changed(lake, OPERATIONS, partition, before, operations, encoded=encoded)
        _mark_whole(lake, partition)
        del known, encoded
    elif found:
        for table in (HISTORY, OPERATIONS):
            lake.files.keep(lake.part(table, partition))
    del before

    found_rejects = [one.rejects for one in landed]
    known_rejects, rejects = _fold_in(lake, REJECTS, partition, found_rejects, distinct_rejects)
    errors = [one.errors for one in landed]
    _fold_in(lake, OPERATION_ERRORS, partition, errors, distinct_errors)
    # After what was answered, and before the files go: what was asked must not be asked again.
    asked = [one.lookups for one in landed]
    _, lookups = _fold_in(lake, LOOKUPS, partition, asked, distinct_lookups)
    if landed:
        _write_watched(lake, partition, operations, lookups)

    new_scans = pa.concat_tables([COVERAGE.arrow.empty_table(), *(one.coverage for one in landed)])
    if new_scans.num_rows:
        # Last of the tables: coverage must not claim what the others do not hold yet (R4).
        _, coverage = _fold_in(lake, COVERAGE, partition, [new_scans], with_new_scans)
        _write_slots(lake, partition, coverage)
    for one in landed:
        lake.files.remove(one.path)

    if derive and history is not None and lake.stale_marker(partition).exists():
        derive(partition, operations, history)
    report = FoldReport(
        partition,
        scans=new_scans.num_rows,
        operations=operations.num_rows,
        states=parquet.count(lake.part(HISTORY, partition)) if states is None else states,
        new=new,
        changed=changed,
        unchanged=max(found - new - changed, 0),
        rejects=rejects.num_rows,
        new_rejects=rejects.num_rows - known_rejects.num_rows,
        lookups=sum(one.num_rows for one in asked),
        observed_at=pc.max(new_scans["observed_at"]).as_py(),
    )
    log.info(
        "folded %s: %d scans, %d new, %d changed, %d unchanged operations",
        partition,
        report.scans,
        report.new,
        report.changed,
        report.unchanged,
        extra={
            "event": "fold",
            **partition.fields(),
            "scans": report.scans,
            "lookups": report.lookups,
            "operations": report.operations,
            "states": report.states,
            "new": report.new,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "new_rejects": report.new_rejects,
            "seconds": round(time.monotonic() - began, 6),
        },
    )
    return report


def _mark_whole(lake: Lake, partition: Partition) -> None:
    if lake.torn_marker(partition).exists():
        lake.files.remove(lake.torn_marker(partition))


def _require_history(lake: Lake, partition: Partition, operations: pa.Table) -> None:
    """Refuse a day whose history is missing: what is left of it must not pass for all of it (R1)."""
    file = lake.part(HISTORY, partition)
    if operations.num_rows and not file.exists():
        msg = (
            f"{file} is missing, though operations of its day are there: put it back; the day is not "
            "folded until then"
        )
        raise LakeError(msg)


@refusals()
def rebuild_operations(lake: Lake, partition: Partition) -> None:
    """Take a partition's history and operations together again, under its lock.

    They belong together, and a copy made while the archive was written may have one of an earlier moment
    than the other. Each row of operations was seen, so it is in history afterwards (R1), and operations are
    the newest of these (R2). States that an earlier version fetched by id get their `looked_up_at`. One that
    is killed between its two writes is to be called again.

    Raises:
        LakeError: there are operations and no history: what is left must not pass for all of it.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        known, before = (_read(lake, table, partition) for table in (HISTORY, OPERATIONS))
        _require_history(lake, partition, before)
        lookups = with_looked_up_at(known, _read(lake, LOOKUPS, partition))
        history = distinct_states(known, pa.concat_tables([before, lookups]))
        operations = newest_states(history)
        if not (history.equals(known) and operations.equals(before)):
            lake.files.touch(lake.stale_marker(partition))
            _write_if_changed(lake, HISTORY, partition, known, history)
            _write_if_changed(lake, OPERATIONS, partition, before, operations)
        _mark_whole(lake, partition)


@refusals()
def rebuild_derived(lake: Lake, partition: Partition) -> None:
    """Derive what the facts of a partition amount to anew, under its lock: slots, what is watched."""
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        _write_slots(lake, partition, _read(lake, COVERAGE, partition))
        operations, lookups = (_read(lake, table, partition) for table in (OPERATIONS, LOOKUPS))
        _write_watched(lake, partition, operations, lookups)


def _write_slots(lake: Lake, partition: Partition, coverage: pa.Table) -> None:
    before = parquet.read_derived(lake.part(SLOT_COVERAGE, partition), SLOT_COVERAGE.arrow)
    slots = to_table(cover(partition.day, coverage))
    _write_if_changed(lake, SLOT_COVERAGE, partition, before, slots)


def _write_watched(
    lake: Lake, partition: Partition, operations: pa.Table, lookups: pa.Table
) -> None:
    target = lake.watched_file(partition)
    rows = watched(operations, lookups)
    if rows.num_rows == 0:
        if target.exists():
            lake.files.remove(target)
    else:
        known = parquet.read_derived(target, WATCHED.arrow)
        temporary = lake.temporary_file(WATCHED.name, partition)
        parquet.write_if_changed(lake, known, rows, target, temporary)


def read_watched(
    lake: Lake, account_id: str, *, errors: bool = True, states_before: datetime | None = None
) -> list[Watched]:
    """The operations of an account that are to be asked about by their ids.

    A file that can't be read is derived anew; where that can't be done either, its day's fold will say
    what is wrong.

    Args:
        lake: the archive.
        account_id: the account.
        errors: whether those whose errors are wanted are among them.
        states_before: of those whose state is wanted only what was created before then: a file that
            has none of these is not opened.
    """
    found: list[Watched] = []
    for partition in sorted(p for p in lake.watched() if p.account_id == account_id):
        if not errors and states_before and midnight(partition.day) >= states_before:
            continue
        rows = parquet.read_derived(lake.watched_file(partition), WATCHED.arrow)
        if rows is None:
            try:
                rebuild_derived(lake, partition)
            except LakeError as error:
                log.warning("what is to be asked of %s is not known: %s", partition, error)
                continue
            rows = parquet.read(lake.watched_file(partition), WATCHED.arrow)
        if not errors:
            rows = rows.filter(pc.equal(rows["subject"], "operation"))
        if states_before:
            is_early = pc.less(rows["created_at"], pa.scalar(states_before, TIMESTAMP))
            rows = rows.filter(pc.or_(pc.equal(rows["subject"], "errors"), is_early))
        found += [Watched(partition, **row) for row in rows.to_pylist()]
    return found


def _fold_in(
    lake: Lake,
    table: Table,
    partition: Partition,
    landed: Sequence[pa.Table],
    merge: Callable[[pa.Table, pa.Table], pa.Table],
) -> tuple[pa.Table, pa.Table]:
    """A table's rows before and after what landed was merged in, written if that is a difference."""
    known = _read(lake, table, partition)
    new = pa.concat_tables([table.arrow.empty_table(), *landed])
    if not new.num_rows:
        return known, known
    merged = merge(known, new)
    _write_if_changed(lake, table, partition, known, merged)
    return known, merged


def _read(lake: Lake, table: Table, partition: Partition) -> pa.Table:
    return parquet.read(lake.part(table, partition), table.arrow)


def _write_if_changed(
    lake: Lake,
    table: Table,
    partition: Partition,
    before: pa.Table | None,
    after: pa.Table,
    *,
    encoded: pa.Buffer | None = None,
) -> None:
    target = lake.part(table, partition)
    if before is not None and target.exists() and after.equals(before):
        lake.files.keep(target)
        return
    marker = lake.unsealed_marker(partition)
    if not marker.exists():
        lake.files.touch(marker)
    parquet.replace(lake, table, partition, after, encoded=encoded)
