"""Readers in any time zone: whatever their session's zone, the warehouse tells the same."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipeline.lake.layout import Lake
from pipeline.model.schema import PUBLISHED
from pipeline.model.windows import RETENTION, Window
from pipeline.outputs.warehouse import publish
from tests.support.factories import NOON, derived, new_lake, record, scan

ZONES = ["America/New_York", "Asia/Kolkata", "Asia/Kathmandu"]
MINUTE = timedelta(minutes=1)
LATE = NOON + 50 * MINUTE


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """An hour of which each half was scanned, and an operation that was seen around its deadline."""
    lake = new_lake(tmp_path_factory.mktemp("zones"))
    early, late = record(1, created_at=NOON + 10 * MINUTE), record(2, created_at=LATE)
    halves = [Window(NOON - 30 * MINUTE, NOON + 31 * MINUTE), Window(NOON, NOON + 2 * 60 * MINUTE)]
    opened = late | {"stats": late["stats"] | {"opened": 1}}
    deadline = NOON + RETENTION
    derived(
        lake,
        scan([early], observed_at=NOON + 70 * MINUTE, window=halves[0]),
        scan([early, late, {"id": "odd"}], observed_at=NOON + 130 * MINUTE, window=halves[1]),
        scan([late], observed_at=deadline - 15 * MINUTE),
        scan([opened], observed_at=deadline + 15 * MINUTE),
    )
    publish(lake)
    return lake


def answers(lake: Lake, zone: str, query: str) -> list[dict[str, Any]]:
    """The rows that a reader in a time zone gets, with their times in UTC."""
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        rows = connection.sql(query).to_arrow_table()
    return rows.cast(pa.schema(_in_utc(rows.schema))).to_pylist()


def _in_utc(schema: pa.Schema) -> Iterator[pa.Field]:
    for field in schema:
        is_time = pa.types.is_timestamp(field.type)
        yield pa.field(field.name, pa.timestamp("us", tz="UTC") if is_time else field.type)


@pytest.mark.parametrize("zone", ZONES)
def test_readers_in_any_time_zone_see_the_same_tables(lake: Lake, zone: str):
    for table in PUBLISHED:
        query = f"FROM {table.name} ORDER BY ALL"
        assert answers(lake, zone, query) == answers(lake, "UTC", query), table.name


@pytest.mark.parametrize("zone", ["UTC", *ZONES])
def test_as_of_is_the_same_in_any_time_zone(lake: Lake, zone: str):
    """R3: the state that was seen before the deadline, and not the one after it."""
    query = "SELECT created_at, opened FROM operations_as_of('2026-12-01') ORDER BY created_at"
    assert answers(lake, zone, query) == [
        {"created_at": NOON + 10 * MINUTE, "opened": 0},
        {"created_at": LATE, "opened": 0},
    ]


@pytest.mark.parametrize("zone", ["UTC", *ZONES])
@pytest.mark.parametrize(
    ("moment", "known"),
    [
        ("'2026-11-20 13:10'", 1),
        ("'2026-11-20 13:09'", 0),
        ("TIMESTAMP '2026-11-20 14:10'", 2),
        ("TIMESTAMP '2026-11-20 14:09'", 1),
        ("'2026-11-20T19:40:00+05:30'", 2),
        ("'2026-11-20T19:39:00+05:30'", 1),
        ("'2026-11-20 15:09 Europe/Berlin'", 1),
        ("TIMESTAMPTZ '2026-11-20 14:10:00Z'", 2),
        ("TIMESTAMPTZ '2026-11-20 14:09:59.999999Z'", 1),
        ("'2026-11-20'", 0),
        ("DATE '2026-11-21'", 2),
        ("(SELECT max(observed_at) FROM coverage)", 2),
    ],
)
def test_moment_without_a_time_zone_is_one_of_utc(lake: Lake, zone: str, moment: str, known: int):
    query = f"SELECT count(*)::BIGINT AS known FROM operations_as_of({moment})"
    assert answers(lake, zone, query) == [{"known": known}]
