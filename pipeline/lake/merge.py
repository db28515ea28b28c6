"""merge(): apply what landed for one day to that day's history, operations, coverage and rejects.

Merging is a union of sets: the same files again, or in another order, give the same tables (R5). Each table's
file is replaced by one rename, history before operations and coverage last (R4), and only then are the landed
files removed. A crash anywhere leaves them behind, and the next merge repeats the work.

`states` merges history and operations. This module has the order in which a day's tables are written.
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
"""Called with a day that changed, under its lock, to derive its tables."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What merging one partition did.

    Attributes:
        partition: the account and day.
        scans: landed scans that were merged.
        operations: operations of the day, after the merge.
        states: distinct states in its history, after the merge.
        new: operations that the archive did not have.
        changed: operations whose newest state has changed.
        unchanged: operations that scans returned unchanged.
        rejects: distinct records of the day that could not be parsed, in all its scans.
        new_rejects: the new ones among them.
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
    """Merge one partition, under its lock; files that would not change are not written.

    Args:
        lake: the archive.
        partition: the account and day.
        connection: made by `day.connect`; by default a new one.
        derive: called after the merge, if the day changed.
        at_once: about how many states are merged at once: it bounds the memory.

    Raises:
        LakeError: a file of the partition is damaged or foreign, or a DuckDB query failed. Nothing is lost
            or removed.
    """
    began = time.monotonic()
    with lake.locked(partition):
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
    # After the states and errors that lookups returned, and before the landed files are removed: no lookup is
    # repeated.
    _merge_rows(day, LOOKUPS, landed[LOOKUPS])
    if changes.seen or landed[LOOKUPS].num_rows:
        write_pending_lookups(day)
    # Last: coverage must not claim states that the other tables do not have yet (R4).
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
    return report, changes.has_changed_states


def _merge_rows(day: Day, table: Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Merge new rows into a small table, and write it if it changed; its rows before and after."""
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
    """Make a partition's history and operations consistent, under its lock.

    In a copy made during a sync, one of the two files may be older than the other. Rows of operations that
    history lacks are added to it (R1), and operations are made the newest states of history (R2). States from
    lookups by id of an earlier version get their `looked_up_at`. If the process is killed between the two
    writes, call it again.

    Raises:
        LakeError: there are operations but no history, which would be lost unnoticed.
    """
    with lake.locked(partition), open_day(lake, partition) as day:
        day.view(HISTORY)
        day.view(LOOKUPS)
        looked_up = day.select(statement("looked_up"), HISTORY)
        states = StatesMerge(day, is_rebuild=True)
        states.add(looked_up)
        states.write()


@refusals()
def rebuild_derived(lake: Lake, partition: Partition) -> None:
    """Derive a partition's slots and pending lookups again from its stored tables, under its lock."""
    with lake.locked(partition), open_day(lake, partition) as day:
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
