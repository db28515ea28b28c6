"""Columns may come with any version: older files read as NULL there, newer ones are read and never cut.

An archive that this version wrote becomes an older one by taking a nullable column out of each file, and a
newer one by putting a column into each that this version does not know.
"""

import io
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from pipeline.access.archive import Archive
from pipeline.access.export import export
from pipeline.access.query import ask
from pipeline.emulator import Clock, Faults, Options, World, running
from pipeline.lake import parquet
from pipeline.lake.compact import compact
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.marts.derive import derive
from pipeline.model.schema import (
    COVERAGE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    FACTS,
    HISTORY,
    LAKE_TABLES,
    LOOKUPS,
    MARTS,
    OPERATION_ERRORS,
    OPERATION_SIZES,
    OPERATIONS,
    PUBLISHED,
    REJECTS,
    SLOT_COVERAGE,
    Table,
)
from pipeline.outputs.warehouse import publish
from pipeline.quality.checks import CHECKS, failing_rows, recent_states, silent_accounts
from pipeline.quality.repair import Bounds, find
from pipeline.quality.status import status
from pipeline.quality.verify import verify
from pipeline.rebuild import rebuild
from pipeline.report.write import draw
from pipeline.sync import DUE, EVERYTHING, Scope, sync
from pipeline.sync_report import SyncReport
from tests.support.archives import rows, settings_for
from tests.support.factories import PARTITION, at, derived, landed, new_lake, record, scan

START = at("2026-11-10")
NOW = at("2026-11-19 15:00")
WORLD = World(5, 80.0, START)
NEW = "column_of_2031"

LACKING = {
    OPERATIONS: "recipients",
    HISTORY: "recipients",
    REJECTS: "operation_id",
    LOOKUPS: "error",
    OPERATION_ERRORS: "message",
    SLOT_COVERAGE: "first_scan_at",
    DELIVERY_HOURLY: "recipients",
    OPERATION_SIZES: "recipients",
    DELIVERY_CURVE: "rated_operations",
}
"""A nullable column of each table that has any."""


class Account:
    """An archive that is synced with an emulated account."""

    def __init__(self, data: Path, now: datetime) -> None:
        self.data, self.lake, self.clock = data, Lake(data), Clock(now)

    def sync(self, scope: Scope = DUE, faults: Faults | None = None) -> SyncReport:
        with running(WORLD, clock=self.clock, options=Options(faults=faults)) as emulator:
            return sync(settings_for(emulator, self.data), scope=scope, sleep=lambda _: None)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with rows in every table, of days that are compacted and days that are not."""
    one = Account(tmp_path_factory.mktemp("stored"), NOW - timedelta(days=4))
    one.sync(EVERYTHING, Faults(3, {"malformed": 0.05}))
    one.clock.set(NOW)
    one.sync(EVERYTHING)
    assert all(rows(one.data, table).num_rows for table in (*LAKE_TABLES, *MARTS))
    return one.data


def edited(stored: Path, data: Path, edit: Callable[[Table, pa.Table], pa.Table]) -> Account:
    """A copy of the archive in which each table's files are edited."""
    shutil.copytree(stored, data)
    one = Account(data, NOW)
    for name in ("rows.duckdb", "published.json"):
        one.lake.derived(name).unlink()
    for table in (*LAKE_TABLES, *MARTS):
        for partition in one.lake.partitions(table.name):
            file = one.lake.part(table, partition)
            pq.write_table(edit(table, pq.ParquetFile(file).read()), file)
    return one


def older(table: Table, found: pa.Table) -> pa.Table:
    return found.drop_columns([LACKING[table]]) if table in LACKING else found


def newer(_: Table, found: pa.Table) -> pa.Table:
    return found.add_column(1, NEW, pa.repeat("known in 2031", found.num_rows))


def bytes_of(lake: Lake, tables: Sequence[Table] = (*LAKE_TABLES, *MARTS)) -> dict[Path, bytes]:
    """The content of each file of tables."""
    files = [lake.part(table, p) for table in tables for p in lake.partitions(table.name)]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("edit", [older, newer])
def test_archive_of_another_version_is_read_and_not_rewritten(
    tmp_path: Path, stored: Path, edit: Callable[[Table, pa.Table], pa.Table]
):
    """By sync, publish, SQL, export, report, notebook, status, verify, checks and repair."""
    one = edited(stored, tmp_path / "archive", edit)
    lake, before = one.lake, bytes_of(one.lake)
    assert one.sync().published
    assert bytes_of(lake) == before
    for table in PUBLISHED:
        found = ask(lake, f"FROM {table.name}")
        assert found.column_names == [column.name for column in table.published]
        assert export(lake, table.name, "parquet", io.BytesIO()) == found.num_rows
    as_of = f"SELECT count(*) AS n FROM operations_as_of('{NOW:%Y-%m-%d %H:%M}Z')"
    operations = rows(stored, OPERATIONS).num_rows
    assert ask(lake, as_of).to_pylist() == [{"n": operations}]
    assert len(draw(lake).content) > 100_000
    archive = Archive(one.data)
    for read in (archive.operations, archive.history, archive.coverage, archive.rejects,
                 archive.delivery_hourly, archive.operation_sizes, archive.delivery_curve):  # fmt: skip
        assert len(read())
    assert len(archive.operations(as_of=NOW)) == operations
    found = status(lake, NOW)
    assert found.ok
    assert found.accounts[0].operations == operations
    with running(WORLD, clock=one.clock) as emulator:
        verified = verify(settings_for(emulator, one.data))
    assert not verified.missing
    failing_rows(lake, CHECKS, lake.partitions("operations"))
    recent_states(lake)
    silent_accounts(lake)
    assert find(lake, Bounds(NOW)) == ()
    assert bytes_of(lake) == before
    _, errors = rebuild(lake)  # the delivery tables too
    assert errors == ()
    for table in PUBLISHED:
        ask(lake, f"FROM {table.name}")
    assert bytes_of(lake, FACTS) == {file: before[file] for file in bytes_of(lake, FACTS)}


@pytest.mark.parametrize("edit", [older, newer, lambda _, found: found])
def test_query_of_a_day_opens_no_other_days_files(
    tmp_path: Path, stored: Path, edit: Callable[[Table, pa.Table], pa.Table]
):
    """Whatever columns the other files have."""
    one = edited(stored, tmp_path / "archive", edit)
    publish(one.lake)
    *others, last = sorted(one.lake.partitions("operations"))
    for partition in others:
        one.lake.part(OPERATIONS, partition).write_bytes(b"damaged")
    query = f"SELECT count(*) > 0 AS found FROM operations WHERE created_date = '{last.day}'"
    assert ask(one.lake, query).to_pylist() == [{"found": True}]


def test_new_archive_opens_no_other_days_files(tmp_path: Path):
    one = Account(tmp_path, NOW)
    one.sync(EVERYTHING)
    _, other, *_, last = sorted(one.lake.partitions("operations"))
    one.lake.part(OPERATIONS, other).write_bytes(b"damaged")  # the first one tells the columns
    query = f"SELECT count(*) > 0 AS found FROM operations WHERE created_date = '{last.day}'"
    assert ask(one.lake, query).to_pylist() == [{"found": True}]


def test_column_missing_from_older_files_is_null(tmp_path: Path, stored: Path):
    one = edited(stored, tmp_path / "archive", older)
    assert rows(one.data, OPERATIONS)["recipients"].null_count == rows(stored, OPERATIONS).num_rows
    one.clock.step(timedelta(hours=2))
    assert one.sync(EVERYTHING).ok
    by_day = ask(
        one.lake,
        "SELECT created_date, count(recipients) = count(*) AS whole, count(recipients) AS known "
        "FROM operations GROUP BY created_date ORDER BY created_date",
    ).to_pylist()
    assert by_day[-1]["whole"]
    assert by_day[0]["known"] == 0


def test_day_of_a_newer_version_is_not_merged_and_loses_nothing(tmp_path: Path, stored: Path):
    """R1: what landed waits for the newer version, and the other days are merged."""
    one = edited(stored, tmp_path / "archive", newer)
    today = max(one.lake.partitions("operations"))
    assert today.day == NOW.date()
    for table in LAKE_TABLES:
        for partition in one.lake.partitions(table.name):
            if partition != today:
                shutil.copy(Lake(stored).part(table, partition), one.lake.part(table, partition))
    facts = [one.lake.part(table, today) for table in (OPERATIONS, HISTORY, COVERAGE)]
    before = [file.read_bytes() for file in facts]
    one.clock.step(timedelta(hours=3))
    report = one.sync(EVERYTHING)
    assert not report.ok
    (error,) = report.errors
    assert f"was written by a newer version, with the columns {NEW}" in str(error)
    assert [file.read_bytes() for file in facts] == before
    assert one.lake.landed(today)
    assert one.lake.pending() == {today}
    assert {merge.partition for merge in report.merges} != set()


@pytest.mark.parametrize("table", FACTS, ids=lambda table: table.name)
def test_no_file_is_rewritten_without_its_unknown_columns(tmp_path: Path, table: Table):
    """R1: whichever of a day's tables has the column."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2) | {"stats": None}]))
    file = lake.part(table, PARTITION)
    if not file.exists():
        parquet.write(lake, table.arrow.empty_table(), file, lake.temporary_file("x"))
    pq.write_table(newer(table, pq.ParquetFile(file).read()), file)
    before = file.read_bytes()
    with pytest.raises(LakeError, match="written by a newer version"):
        compact(lake, PARTITION)
    if table in (OPERATIONS, HISTORY, COVERAGE, REJECTS):
        landed(lake, scan([record(1, stats={"opened": 1}), record(3) | {"status": 1}]))
        with pytest.raises(LakeError, match="written by a newer version"):
            merge(lake, PARTITION)
        assert lake.landed(PARTITION)
    assert file.read_bytes() == before


@pytest.mark.parametrize("table", [SLOT_COVERAGE, *MARTS], ids=lambda table: table.name)
def test_derived_table_of_another_version_is_derived_anew(tmp_path: Path, table: Table):
    """It holds nothing that facts do not: neither a lacking nor an unknown column keeps it stale."""
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    file = lake.part(table, PARTITION)
    required = next(c.name for c in table.columns if not c.nullable)
    for edit in (newer, lambda _, found: found.drop_columns([required])):
        if table is SLOT_COVERAGE and edit is not newer:
            continue
        pq.write_table(edit(table, pq.ParquetFile(file).read()), file)
        landed(lake, scan([record(1, stats={"opened": 1})]))
        merge(lake, PARTITION)
        derive(lake, PARTITION)
        assert pq.read_schema(file).names == list(table.names)


def test_landed_file_of_an_older_version_lacks_what_came_since(tmp_path: Path):
    """Its reads are NULL there."""
    lake = landed(new_lake(tmp_path), scan([record(1), record(2) | {"stats": None}]))
    rewrite_landed(lake, lambda found: found.drop_columns(["recipients", "reject_operation_id"]))
    merge(lake, PARTITION)
    assert rows(lake.root, OPERATIONS)["recipients"].to_pylist() == [None]
    assert rows(lake.root, REJECTS)["operation_id"].to_pylist() == [None]


@pytest.mark.parametrize("name", [NEW, f"reject_{NEW}"])
def test_landed_file_of_a_newer_version_stays(tmp_path: Path, name: str):
    """R1: merged, it would be removed."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    rewrite_landed(lake, lambda found: found.append_column(name, pa.array(["x"])))
    with pytest.raises(LakeError, match=f"written by a newer version, with the columns {name}"):
        merge(lake, PARTITION)
    assert lake.landed(PARTITION)


def rewrite_landed(lake: Lake, edit: Callable[[pa.Table], pa.Table]) -> None:
    (file,) = lake.landed(PARTITION)
    found = edit(ipc.open_file(file.read_bytes()).read_all())
    with ipc.new_file(file, found.schema) as written:
        written.write_table(found)


def test_file_without_a_required_column_is_none_of_the_archives(tmp_path: Path):
    """R9: that is more than a new column."""
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    file = lake.part(OPERATIONS, PARTITION)
    pq.write_table(pq.ParquetFile(file).read().drop_columns(["updated_at"]), file)
    with pytest.raises(LakeError, match=r"expected updated_at timestamp\[us, tz=UTC\]; got"):
        parquet.read(file, OPERATIONS.arrow)
