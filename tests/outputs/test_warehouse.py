"""publish(): what SQL sees."""

import io
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from pipeline.access import query
from pipeline.access.export import export
from pipeline.errors import ArchiveError
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    PUBLISHED,
    SLOT_COVERAGE,
    WAREHOUSE_TABLES,
    WAREHOUSE_VIEWS,
)
from pipeline.model.windows import Window
from pipeline.outputs.warehouse import publish
from pipeline.report.data import read_accounts
from tests.support.factories import (
    ACCOUNT,
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    derived,
    landed,
    new_lake,
    record,
    scan,
)

TEN = {"total": 10, "sent": 10, "delivered": 8, "opened": 2, "undelivered": 1, "failed": 1}


def ask(lake: Lake, query: str) -> list[tuple]:
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def published(folder: Path, *records: dict) -> Lake:
    lake = derived(new_lake(folder), scan(records))
    publish(lake)
    return lake


def test_tables_and_columns_match_the_schema_with_comments(tmp_path: Path):
    lake = published(tmp_path, record(1))
    columns = ask(
        lake,
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY table_name, column_index",
    )
    assert columns == [
        (table.name, column.name, column.sql_type, column.comment)
        for table in sorted(PUBLISHED, key=lambda table: table.name)
        for column in table.published
    ]
    comments = ask(
        lake,
        "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal "
        "UNION ALL SELECT table_name, comment FROM duckdb_tables() ORDER BY ALL",
    )
    assert comments == sorted((table.name, table.comment) for table in PUBLISHED)


def test_empty_archive_publishes_empty_tables(tmp_path: Path):
    lake = new_lake(tmp_path)
    publish(lake)
    for table in (*WAREHOUSE_VIEWS, *WAREHOUSE_TABLES):
        assert ask(lake, f"SELECT count(*) FROM {table.name}") == [(0,)]


def test_views_give_the_hive_keys_proper_types(tmp_path: Path):
    lake = published(tmp_path, record(1))
    query = "SELECT account_id, created_date, created_at = TIMESTAMPTZ '2026-11-20 12:00Z' FROM operations"
    assert ask(lake, query) == [(ACCOUNT, date(2026, 11, 20), True)]


BOTH_READINGS = (
    "SELECT delivery_rate_cumulative, delivery_rate_exclusive, open_rate_cumulative, open_rate_exclusive "
    "FROM delivery_readings"
)


def test_rates_under_the_cumulative_reading(tmp_path: Path):
    """The reference's samples: `delivered` still counts what was opened."""
    decisive = record(2, stats={"total": 2, "sent": 2, "delivered": 2, "opened": 1})
    lake = published(tmp_path, record(1, stats=TEN), decisive)
    query = "SELECT delivery_rate, open_rate, undelivered_rate, failure_rate FROM delivery_daily"
    assert ask(lake, query) == [(10 / 12, 3 / 10, 1 / 12, 1 / 12)]
    assert ask(lake, BOTH_READINGS) == [(10 / 12, 13 / 12, 3 / 10, 3 / 13)]


def test_rates_under_the_exclusive_reading(tmp_path: Path):
    """The guide's sample: an email has one status, and an opened one is no longer "delivered"."""
    stats = {"total": 10, "sent": 0, "delivered": 2, "opened": 6, "undelivered": 1, "failed": 1}
    lake = published(tmp_path, *(record(n, stats=stats) for n in range(5)))
    assert ask(lake, "SELECT delivery_rate, open_rate FROM delivery_daily") == [(0.8, 0.75)]
    assert ask(lake, BOTH_READINGS) == [(0.2, 0.8, 3.0, 0.75)]


def test_rate_over_nothing_is_null(tmp_path: Path):
    waiting = record(1, status="SCHEDULED", stats={"scheduled": 1, "sent": 0, "delivered": 0})
    lake = published(tmp_path, waiting)
    for table in ("delivery_hourly", "delivery_daily", "delivery_monthly"):
        query = f"SELECT delivery_rate, open_rate, failure_rate, undelivered_rate FROM {table}"
        assert ask(lake, query) == [(None, None, None, None)]


def test_monthly_rates_are_sums_over_sums_and_no_average_of_rates(tmp_path: Path):
    small = record(1, stats={"total": 1, "sent": 1, "delivered": 0, "undelivered": 1})
    day_before = NOON - timedelta(days=1)
    big = record(2, created_at=day_before, stats={"total": 99, "sent": 99, "delivered": 99})
    lake = derived(
        new_lake(tmp_path), scan([small]), scan([big], window=Window.of_day(day_before.date()))
    )
    publish(lake)
    query = "SELECT month, days, operations, total, delivery_rate FROM delivery_monthly"
    assert ask(lake, query) == [(date(2026, 11, 1), 2, 2, 100, 0.99)]


def test_publishing_without_change_builds_nothing(tmp_path: Path):
    lake = published(tmp_path, record(1))
    before = lake.warehouse.stat().st_ino
    assert publish(lake, force=False) is False
    assert lake.warehouse.stat().st_ino == before
    derived(lake, scan([record(2)]))
    assert publish(lake, force=False) is True
    assert ask(lake, "SELECT sum(operations) FROM delivery_daily") == [(2,)]


def test_moved_archive_is_mended_by_publishing(tmp_path: Path):
    """The views hold absolute paths, since DuckDB takes relative ones from the reader's folder."""
    lake = published(tmp_path, record(1))
    moved = Lake(lake.root.rename(tmp_path / "elsewhere it's"))
    with pytest.raises(duckdb.IOException):
        ask(moved, "SELECT count(*) FROM operations")
    assert publish(moved, force=False) is True
    assert ask(moved, "SELECT count(*) FROM operations") == [(1,)]


@pytest.mark.parametrize(
    "asking",
    [
        pytest.param(lambda lake: query.ask(lake, "FROM operations"), id="sql"),
        pytest.param(lambda lake: export(lake, "operations", "csv", io.BytesIO()), id="export"),
        pytest.param(read_accounts, id="report"),
    ],
)
def test_query_of_a_moved_archive_says_how_to_repair_it(
    tmp_path: Path, asking: Callable[[Lake], object]
):
    lake = Lake(published(tmp_path / "old", record(1)).root.rename(tmp_path / "new"))
    with pytest.raises(
        ArchiveError,
        match=r"(No files found|Cannot access file)(.|\n)*`email-archive publish` updates",
    ):
        asking(lake)


def test_publish_is_not_suggested_where_it_does_not_help(tmp_path: Path):
    lake = published(tmp_path, record(1))
    with pytest.raises(ArchiveError, match="Conversion Error") as caught:
        query.ask(lake, "SELECT 'x'::INTEGER FROM operations")
    assert "publish" not in str(caught.value)


def test_reader_with_the_old_warehouse_open_goes_on_reading_it(tmp_path: Path):
    """R6: publishing neither waits for readers nor breaks them."""
    lake = published(tmp_path, record(1))
    with duckdb.connect(str(lake.warehouse), read_only=True) as reader:
        derived(lake, scan([record(2)]))
        publish(lake)
        query = "SELECT sum(operations) FROM delivery_daily"
        assert reader.execute(query).fetchall() == [(1,)]
    assert ask(lake, query) == [(2,)]


def test_killed_build_leaves_no_trace_in_the_next_one(tmp_path: Path):
    """R5."""
    lake = published(tmp_path, record(1))
    temporary = lake.temporary_file("warehouse.duckdb")
    for leftover in (temporary, temporary.with_name(f"{temporary.name}.wal")):
        leftover.write_bytes(b"torn")
    publish(lake)
    assert ask(lake, "SELECT count(*) FROM operations") == [(1,)]


def test_marts_without_coverage_are_published_as_before_archive(tmp_path: Path):
    """Coverage that was moved away is no reason to publish nothing: it claims nothing either (R4)."""
    lake = published(tmp_path, record(1))
    for table in (COVERAGE, SLOT_COVERAGE):
        shutil.rmtree(lake.root / table.name)
    publish(lake)
    for table, slots in (("daily", 24), ("weekly", 7 * 24), ("monthly", 30 * 24)):
        columns = "operations, completeness, final_slots, before_archive_slots, delivery_rate"
        found = ask(lake, f"SELECT {columns} FROM delivery_{table}")
        assert found == [(1, "gaps", 0, slots, None)]


@pytest.mark.parametrize("moment", [1, 2])
def test_merge_while_publishing_is_in_this_warehouse_or_the_next(tmp_path: Path, moment: int):
    """R4, R5: slots are counted from the coverage that says they are final."""

    class Meanwhile(Lake):
        """Another process merges a scan before this one lists the files for the first or second time."""

        def partitions(self, folder: str) -> Iterator[Partition]:
            if folder == SLOT_COVERAGE.name:
                asked.append(folder)
                if len(asked) == moment:
                    landed(lake, last)
                    merge(lake, PARTITION)
            yield from super().partitions(folder)

    first = scan([record(1)], observed_at=NOON + timedelta(hours=2))
    last = scan([record(1)], observed_at=NOON + timedelta(days=7, hours=-13))
    asked: list[str] = []
    lake = derived(new_lake(tmp_path), first)
    publish(lake)
    landed(lake, scan([record(2)], account_id=OTHER_ACCOUNT))
    merge_pending(lake, deriving=True)
    publish(Meanwhile(lake.root), force=False)
    assert len(asked) >= moment
    publish(lake, force=False)
    told = ask(lake, "SELECT sum(final_slots) FROM delivery_daily")
    assert told == ask(lake, "SELECT count(*) FROM coverage_slots WHERE state = 'final'")
    assert told[0][0] > 0
