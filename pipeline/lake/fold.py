"""fold(): what landed for one day becomes that day's history, operations, coverage and rejects.

Each table's file is replaced by one rename, and only then are the landed files removed. Folding is a
union of sets, so folding the same files again, or in another order, gives the same tables (R5): a
crash anywhere leaves landed files behind, and the next fold does the same work again.
"""

import logging
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import engine
from pipeline.facts import Partition
from pipeline.lake import landing, parquet
from pipeline.lake.layout import Lake
from pipeline.schema import COVERAGE, HISTORY, OPERATIONS, REJECTS, Table

log = logging.getLogger(__name__)

_IDENTITY = ("operation_id", "updated_at", "observed_at")
_STATE = [name for name in OPERATIONS.names if name not in _IDENTITY]


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


def fold(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection | None = None
) -> FoldReport:
    """Fold one partition, under its lock; nothing is written that would be the same.

    Args:
        lake: the archive.
        partition: the account and day.
        connection: an in-memory connection of `engine.connect` to work in, for many folds in a row.

    Raises:
        LakeError: a file of the partition is damaged or foreign. Nothing is lost or removed.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        if connection is not None:
            return _fold(lake, partition, connection)
        with engine.connect() as own:
            return _fold(lake, partition, own)


def _fold(lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection) -> FoldReport:
    scans = [landing.read(path) for path in lake.landed(partition)]
    seen = pa.concat_tables([OPERATIONS.arrow.empty_table(), *(s.operations for s in scans)])
    before = _read(lake, OPERATIONS, partition)
    known = _read(lake, HISTORY, partition)
    # An earlier fold may have been killed between its renames: then operations may lag behind.
    stale = lake.stale_marker(partition).exists()

    history, operations = known, before
    if seen.num_rows or stale:
        history = _union(connection, HISTORY, "history", known, seen)
    if stale or not history.equals(known):
        operations = _newest(connection, history)
        lake.files.touch(lake.stale_marker(partition))
        _write_if_changed(lake, HISTORY, partition, known, history)
        _write_if_changed(lake, OPERATIONS, partition, before, operations)

    known_rejects = _read(lake, REJECTS, partition)
    rejects = known_rejects
    new_rejects = pa.concat_tables([REJECTS.arrow.empty_table(), *(s.rejects for s in scans)])
    if new_rejects.num_rows:
        rejects = _union(connection, REJECTS, "rejects", known_rejects, new_rejects)
        _write_if_changed(lake, REJECTS, partition, known_rejects, rejects)

    if scans:
        # Last of the tables: coverage must not claim what the others do not hold yet (R4).
        known_scans = _read(lake, COVERAGE, partition)
        coverage = _with_new(known_scans, pa.concat_tables([s.coverage for s in scans]))
        _write_if_changed(lake, COVERAGE, partition, known_scans, coverage)
    for scan in scans:
        lake.files.remove(scan.path)

    new, new_or_changed, found = _difference(connection, before, operations, seen)
    report = FoldReport(
        partition,
        scans=len(scans),
        operations=operations.num_rows,
        states=history.num_rows,
        new=new,
        changed=new_or_changed - new,
        unchanged=max(found - new_or_changed, 0),
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


def _union(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    name: str,
    known: pa.Table,
    landed: pa.Table,
) -> pa.Table:
    query = engine.render(engine.sql("pipeline.lake", name), state=", ".join(_STATE))
    return _query(connection, query, table, known=known, landed=landed)


def _with_new(known: pa.Table, landed: pa.Table) -> pa.Table:
    """Coverage with the scans that are new: one folded before, whose file stayed, counts once (R5)."""
    is_known = pc.is_in(landed["scan_id"], value_set=known["scan_id"].combine_chunks())
    together = pa.concat_tables([known, landed.filter(pc.invert(is_known))])
    return together.sort_by([("observed_at", "ascending"), ("scan_id", "ascending")])


def _newest(connection: duckdb.DuckDBPyConnection, history: pa.Table) -> pa.Table:
    descending = ", ".join(f"{name} DESC" for name in _STATE)
    query = engine.render(engine.sql("pipeline.lake", "operations"), state_descending=descending)
    return _query(connection, query, OPERATIONS, states=history)


def _difference(
    connection: duckdb.DuckDBPyConnection, before: pa.Table, after: pa.Table, landed: pa.Table
) -> tuple[int, int, int]:
    if after.equals(before):
        return 0, 0, pc.count_distinct(landed["operation_id"]).as_py()
    with connection.cursor() as cursor:
        for name, table in (("before", before), ("after", after), ("landed", landed)):
            cursor.register(name, table)
        row = cursor.execute(engine.sql("pipeline.lake", "difference")).fetchone()
    new, new_or_changed, found = row or (0, 0, 0)
    return new, new_or_changed, found


def _query(
    connection: duckdb.DuckDBPyConnection, query: str, table: Table, **inputs: pa.Table
) -> pa.Table:
    with connection.cursor() as cursor:
        for name, rows in inputs.items():
            cursor.register(name, rows)
        result = cursor.sql(query).to_arrow_table()
    return result.select(table.names).cast(table.arrow)


def _read(lake: Lake, table: Table, partition: Partition) -> pa.Table:
    return parquet.read(lake.part(table, partition), table.arrow)


def _write_if_changed(
    lake: Lake, table: Table, partition: Partition, before: pa.Table, after: pa.Table
) -> None:
    target = lake.part(table, partition)
    if not target.exists() or not after.equals(before):
        parquet.write(lake, after, target, lake.temporary_file(table.name, partition))
