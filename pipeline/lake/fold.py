"""fold(): what landed for one day becomes that day's history, operations, coverage and rejects.

Each table's file is replaced by one rename, and only then are the landed files removed. Folding is a
union of sets, so folding the same files again, or in another order, gives the same tables (R5): a
crash anywhere leaves landed files behind, and the next fold does the same work again.
"""

import logging
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.facts import Partition
from pipeline.lake import landing, parquet
from pipeline.lake.coverage import cover, to_table
from pipeline.lake.layout import Lake
from pipeline.lake.states import (
    all_known,
    count_changes,
    distinct_rejects,
    distinct_states,
    newest_states,
    with_new_scans,
)
from pipeline.schema import COVERAGE, HISTORY, OPERATIONS, REJECTS, SLOT_COVERAGE, Table

log = logging.getLogger(__name__)


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


def fold(lake: Lake, partition: Partition) -> FoldReport:
    """Fold one partition, under its lock; nothing is written that would be the same.

    Args:
        lake: the archive.
        partition: the account and day.

    Raises:
        LakeError: a file of the partition is damaged or foreign. Nothing is lost or removed.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        return _fold(lake, partition)


def _fold(lake: Lake, partition: Partition) -> FoldReport:
    scans = [landing.read(path) for path in lake.landed(partition)]
    seen = pa.concat_tables([OPERATIONS.arrow.empty_table(), *(s.operations for s in scans)])
    before = _read(lake, OPERATIONS, partition)
    operations, states = before, None
    # Asked of operations, the last of the two to be written: a fold that was killed between them left
    # its landed files here, and what they hold is not all in operations.
    if not all_known(before, seen):
        known = _read(lake, HISTORY, partition)
        history = distinct_states(known, seen)
        operations = newest_states(history)
        states = history.num_rows
        if not operations.equals(before):
            lake.files.touch(lake.stale_marker(partition))
        _write_if_changed(lake, HISTORY, partition, known, history)
        _write_if_changed(lake, OPERATIONS, partition, before, operations)

    known_rejects = _read(lake, REJECTS, partition)
    rejects = known_rejects
    new_rejects = pa.concat_tables([REJECTS.arrow.empty_table(), *(s.rejects for s in scans)])
    if new_rejects.num_rows:
        rejects = distinct_rejects(known_rejects, new_rejects)
        _write_if_changed(lake, REJECTS, partition, known_rejects, rejects)

    if scans:
        # Last of the tables: coverage must not claim what the others do not hold yet (R4).
        known_scans = _read(lake, COVERAGE, partition)
        coverage = with_new_scans(known_scans, pa.concat_tables([s.coverage for s in scans]))
        _write_if_changed(lake, COVERAGE, partition, known_scans, coverage)
        _write_slots(lake, partition, coverage)
    for scan in scans:
        lake.files.remove(scan.path)

    new, changed = count_changes(before, operations)
    found = pc.count_distinct(seen["operation_id"]).as_py()
    report = FoldReport(
        partition,
        scans=len(scans),
        operations=operations.num_rows,
        states=parquet.count(lake.part(HISTORY, partition)) if states is None else states,
        new=new,
        changed=changed,
        unchanged=max(found - new - changed, 0),
        rejects=rejects.num_rows,
        new_rejects=rejects.num_rows - known_rejects.num_rows,
    )
    log.info(
        "folded %s: %d scans, %d new, %d changed, %d unchanged operations",
        partition,
        report.scans,
        report.new,
        report.changed,
        report.unchanged,
    )
    return report


def rebuild_slots(lake: Lake, partition: Partition) -> None:
    """Derive how a partition's slots are covered anew from its scans, under its lock."""
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        _write_slots(lake, partition, _read(lake, COVERAGE, partition))


def _write_slots(lake: Lake, partition: Partition, coverage: pa.Table) -> None:
    before = _read(lake, SLOT_COVERAGE, partition)
    slots = to_table(cover(partition.day, coverage))
    _write_if_changed(lake, SLOT_COVERAGE, partition, before, slots)


def _read(lake: Lake, table: Table, partition: Partition) -> pa.Table:
    return parquet.read(lake.part(table, partition), table.arrow)


def _write_if_changed(
    lake: Lake, table: Table, partition: Partition, before: pa.Table, after: pa.Table
) -> None:
    target = lake.part(table, partition)
    if not target.exists() or not after.equals(before):
        parquet.write(lake, after, target, lake.temporary_file(table.name, partition))
