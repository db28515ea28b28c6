"""merge(): apply what landed for one day to that day's history, operations, coverage and rejects.

Merging is a union of sets: the same files again, or in another order, give the same tables (R5). Each table's
file is replaced by one rename, history before operations and coverage last (R4), and only then are the landed
files removed. A crash anywhere leaves them behind, and the next merge repeats the work.

What states and operations a day has then is in `states`; here is the order in which its tables are written.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import landing, parquet
from pipeline.lake.coverage import cover, to_table
from pipeline.lake.day import AT_ONCE, Day, open_day
from pipeline.lake.faults import refusals
from pipeline.lake.layout import DERIVE, Lake
from pipeline.lake.pending_lookups import write_pending_lookups
from pipeline.lake.statements import small_table, statement
from pipeline.lake.states import StatesMerge
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    HISTORY,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    SLOT_COVERAGE,
    Table,
)

log = logging.getLogger(__name__)

Derive: TypeAlias = Callable[[Partition], None]
"""What is to be derived of a day that changed, under its lock."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What merging one partition did.

    Attributes:
        partition: the account and day.
        scans: landed scans that were merged.
        operations: operations that the day has now.
        states: distinct states in its history now.
        new: operations that were not known before.
        changed: operations known before that have another newest state now.
        unchanged: operations that the scans saw as they were known.
        rejects: distinct records that could not be read, ever, on this day.
        new_rejects: those of them that are new.
        lookups: lookups of single operations that were merged.
        observed_at: when the latest of the merged scans began: UTC, by the API's clock.
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
def merge(
    lake: Lake,
    partition: Partition,
    connection: duckdb.DuckDBPyConnection | None = None,
    derive: Derive | None = None,
    *,
    at_once: int = AT_ONCE,
) -> MergeReport:
    """Merge one partition, under its lock; nothing is written that would be the same.

    Args:
        lake: the archive.
        partition: the account and day.
        connection: one of `day.connect`; by default one of its own.
        derive: called if the day changed, once it is merged.
        at_once: about how many states are merged at once: memory follows it.

    Raises:
        LakeError: a file of the partition is damaged or foreign, or DuckDB could not do it. Nothing is lost
            or removed.
    """
    began = time.monotonic()
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        paths = lake.landed(partition)
        if paths:
            with open_day(lake, partition, connection) as day:
                report, changed = _merge(day, paths, at_once)
            if derive and changed and lake.has_work(partition, DERIVE):
                derive(partition)
        else:
            report = _nothing_landed(lake, partition)
    _log(report, time.monotonic() - began)
    return report


def _merge(day: Day, paths: Sequence[Path], at_once: int) -> tuple[MergeReport, bool]:
    small = {
        table: [table.arrow.empty_table()]
        for table in (COVERAGE, REJECTS, LOOKUPS, OPERATION_ERRORS)
    }
    states = StatesMerge(day, at_once=at_once)
    for path in paths:
        one = landing.read(path)
        states.add(one.operations)
        for table, rows in one.small().items():
            small[table].append(rows)
    changes = states.write()
    landed = {table: pa.concat_tables(rows) for table, rows in small.items()}
    known_rejects, rejects = _merge_rows(day, REJECTS, landed[REJECTS])
    _merge_rows(day, OPERATION_ERRORS, landed[OPERATION_ERRORS])
    # After what was answered, and before the files go: what was asked must not be asked again.
    _merge_rows(day, LOOKUPS, landed[LOOKUPS])
    if changes.seen or landed[LOOKUPS].num_rows:
        write_pending_lookups(day)
    # Last of the tables: coverage must not claim what the others do not hold yet (R4).
    _, coverage = _merge_rows(day, COVERAGE, landed[COVERAGE])
    if landed[COVERAGE].num_rows:
        _write_slots(day, coverage)
    for path in paths:
        day.lake.files.remove(path)
    report = MergeReport(
        day.partition,
        scans=landed[COVERAGE].num_rows,
        operations=parquet.count(day.file(OPERATIONS)),
        states=parquet.count(day.file(HISTORY)),
        new=changes.new,
        changed=changes.changed,
        unchanged=max(changes.seen - changes.new - changes.changed, 0),
        rejects=rejects.num_rows,
        new_rejects=rejects.num_rows - known_rejects.num_rows,
        lookups=landed[LOOKUPS].num_rows,
        observed_at=pc.max(landed[COVERAGE]["observed_at"]).as_py(),
    )
    return report, changes.has_news


def _merge_rows(day: Day, table: Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """A small table's rows before and after new ones were merged, written if that is a difference."""
    known = day.read(table)
    if not new.num_rows:
        return known, known
    merged = day.select(small_table(table), table, known=known, new=new)
    day.write_if_changed(table, known, merged)
    return known, merged


def _write_slots(day: Day, coverage: pa.Table) -> None:
    slots = to_table(cover(day.partition.day, coverage))
    before = parquet.read_derived(day.file(SLOT_COVERAGE), SLOT_COVERAGE.arrow)
    day.write_if_changed(SLOT_COVERAGE, before, slots)


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
    with (
        lake.files.locked(lake.partition_lock(partition), str(partition)),
        open_day(lake, partition) as day,
    ):
        day.view(HISTORY)
        day.view(LOOKUPS)
        looked_up = day.select(statement("looked_up"), HISTORY)
        states = StatesMerge(day, is_anew=True)
        states.add(looked_up)
        states.write()


@refusals()
def rebuild_derived(lake: Lake, partition: Partition) -> None:
    """Derive what the facts of a partition amount to anew, under its lock: slots and pending lookups."""
    with (
        lake.files.locked(lake.partition_lock(partition), str(partition)),
        open_day(lake, partition) as day,
    ):
        _write_slots(day, day.read(COVERAGE))
        write_pending_lookups(day)


def _nothing_landed(lake: Lake, partition: Partition) -> MergeReport:
    operations, states, rejects = (
        parquet.count(lake.part(table, partition)) for table in (OPERATIONS, HISTORY, REJECTS)
    )
    return MergeReport(partition, 0, operations, states, 0, 0, 0, rejects, 0, 0, None)


def _log(report: MergeReport, seconds: float) -> None:
    log.info(
        "merged %s: %d scans, %d new, %d changed, %d unchanged operations",
        report.partition,
        report.scans,
        report.new,
        report.changed,
        report.unchanged,
        extra={
            "event": "merge",
            **report.partition.fields(),
            "scans": report.scans,
            "lookups": report.lookups,
            "operations": report.operations,
            "states": report.states,
            "new": report.new,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "new_rejects": report.new_rejects,
            "seconds": round(seconds, 6),
        },
    )
