"""The rows of the small tables, of all days, in one DuckDB file for publish and status.

Without it they would open thousands of Parquet files each time. A note beside it has the version of each
Parquet file that was read, so that only rows of changed files are read again. Both files are derived: if they
are missing, all files are read.
"""

import json
import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa

from pipeline.lake import engine, parquet
from pipeline.lake.accounts import retired_accounts
from pipeline.lake.layout import Lake, file_version
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COUNTING_EVIDENCE,
    COVERAGE,
    DELIVERY_HOURLY,
    HIVE_KEYS,
    OPERATION_SIZES,
    SLOT_COVERAGE,
    Table,
    arrow_schema,
)
from pipeline.outputs import views

log = logging.getLogger(__name__)

Versions: TypeAlias = Mapping[Partition, str]

SUMMED: Final = (DELIVERY_HOURLY, COUNTING_EVIDENCE, OPERATION_SIZES)
"""The marts that the warehouse's tables are computed from."""
SCANNED: Final = (COVERAGE, SLOT_COVERAGE)
"""The tables that the states of slots are computed from."""

_COLUMNS: Final = {COVERAGE.name: ("account_id", "created_date", "observed_at", "completed_at")}


def rows_file(lake: Lake) -> Path:
    """The DuckDB file of the collected rows."""
    return lake.derived("rows.duckdb")


def note_file(lake: Lake) -> Path:
    """The note of the last publish: its inputs and their versions."""
    return lake.derived("published.json")


def noted(lake: Lake) -> dict[str, Any]:
    """The content of the note of the last publish; empty if it can't be read."""
    try:
        found = json.loads(note_file(lake).read_text(encoding="utf-8"))
        is_whole = all(isinstance(each, dict) for each in found["versions"].values())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found if is_whole else {}


def versions(lake: Lake, table: Table) -> Versions:
    """The version of each partition's file."""
    return {partition: file_version(stat) for partition, stat in lake.files_of(table)}


def collect(
    connection: duckdb.DuckDBPyConnection, lake: Lake, wanted: Mapping[Table, Versions]
) -> None:
    """Create tables of all rows, with the hive keys, in the attached database ``collected``.

    Args:
        connection: a connection of `engine.connect`.
        lake: the archive.
        wanted: for each table, its partitions and the versions of their files.

    Raises:
        LakeError: a file is damaged or foreign.
        duckdb.Error: a file was replaced while it was read.
    """
    # Read the note first, so that the rows are at least as new.
    known = noted(lake).get("versions", {})
    if known and rows_file(lake).exists():
        try:
            kept = engine.literal(str(rows_file(lake).absolute()))
            connection.execute(f"ATTACH {kept} AS kept (READ_ONLY)")
            for table, partitions in wanted.items():
                _collect(connection, lake, table, partitions, known.get(table.name, {}))
        except duckdb.Error as error:
            log.warning("%s is built again (%s)", rows_file(lake), error)
        else:
            connection.execute("DETACH kept")
            return
    for table, partitions in wanted.items():
        _collect(connection, lake, table, partitions, {})


def _collect(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    table: Table,
    wanted: Versions,
    known: Mapping[str, str],
) -> None:
    changed = check_changed(lake, table, wanted, known)
    same = [partition for partition in wanted if partition not in changed]
    published = {column.name: column for column in table.published}
    columns = ", ".join(
        f"{name}::{published[name].sql_type} AS {name}"
        for name in _COLUMNS.get(table.name, published)
    )
    typed = engine.sql("pipeline.outputs", "columns")
    rows = engine.render(typed, columns=columns, query=views.select(lake, table, changed))
    connection.execute(f"CREATE OR REPLACE TABLE collected.{table.name} AS {rows}")
    if same:
        keys = [[p.account_id for p in same], [p.day for p in same]]
        connection.register("unchanged", pa.table(keys, schema=arrow_schema(HIVE_KEYS)))
        kept = f"FROM kept.{table.name} SEMI JOIN unchanged USING (account_id, created_date)"
        rows = engine.render(typed, columns=columns, query=kept)
        connection.execute(f"INSERT INTO collected.{table.name} {rows}")
        connection.unregister("unchanged")


def check_changed(
    lake: Lake, table: Table, wanted: Versions, known: Mapping[str, str]
) -> set[Partition]:
    """The partitions whose files have other versions than the known ones.

    Raises:
        LakeError: one of these files is damaged or foreign.
    """
    changed = {p for p, version in wanted.items() if known.get(str(p)) != version}
    for partition in changed:
        parquet.check(lake.part(table, partition), table.arrow)
    return changed


def slot_states(lake: Lake, now: datetime, without: Collection[Partition] = ()) -> pa.Table:
    """The state of every slot as of `now`, or of the latest scan if that is later.

    Those of a retired account are as of its latest scan.

    Args:
        lake: the archive.
        now: the moment; UTC.
        without: partitions whose files are not read. The states of their slots are meaningless.

    Returns:
        Rows of `schema.COVERAGE_SLOTS`, by account and slot.

    Raises:
        LakeError: a file is damaged or foreign.
    """
    retired = ", ".join(engine.literal(sid) for sid in sorted(retired_accounts(lake)))
    moments = engine.render(
        engine.sql("pipeline.outputs", "last_scans_or_now"),
        now=engine.literal(now.isoformat()),
        retired=f"[{retired}]",
    )
    return _ask(lake, SCANNED, views.coverage_slots(moments), without)


def scan_times(lake: Lake, without: Collection[Partition] = ()) -> pa.Table:
    """When each scan began and ended, with the hive keys.

    Args:
        lake: the archive.
        without: partitions whose files are not read.

    Raises:
        LakeError: a file is damaged or foreign.
    """
    return _ask(lake, (COVERAGE,), f"FROM {COVERAGE.name}", without)


def _ask(
    lake: Lake, tables: Collection[Table], query: str, without: Collection[Partition]
) -> pa.Table:
    def ask() -> pa.Table:
        wanted = {
            table: {p: v for p, v in versions(lake, table).items() if p not in without}
            for table in tables
        }
        with engine.connect(spill=lake.spill) as connection:
            connection.execute("ATTACH ':memory:' AS collected")
            connection.execute("USE collected")
            collect(connection, lake, wanted)
            return connection.sql(query).to_arrow_table()

    return views.reading(lake, tables, ask)
