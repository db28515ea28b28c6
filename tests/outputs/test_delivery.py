"""The delivery tables of the warehouse: rates by period, and how far they are known."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline.lake.layout import LakeError
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, DELIVERY_DAILY, DELIVERY_TABLES, SLOT_COVERAGE
from pipeline.model.windows import midnight
from pipeline.outputs.warehouse import publish
from tests.support.delivery import DAY, FINAL, FIRST, WEEK, ask, day_scan, elsewhere, published
from tests.support.factories import ACCOUNT, NOON, at, derived, record

COUNTS = "final_slots, closed_slots, changing_slots, gap_slots, before_archive_slots"
DAILY = (
    f"SELECT completeness, delivery_rate, {COUNTS} FROM delivery_daily WHERE created_date = '{DAY}'"
)


def test_day_is_final_when_every_slot_has_its_final_scan(tmp_path: Path):
    lake = published(tmp_path, *(day_scan(DAY, moment, record(1)) for moment in FINAL))
    assert ask(lake, DAILY) == [("final", 1.0, 24, 0, 0, 0, 0)]
    assert ask(lake, "SELECT DISTINCT completeness FROM delivery_hourly") == [("final",)]


def test_day_is_closed_when_late_changes_may_be_missing(tmp_path: Path):
    after = day_scan(DAY, FIRST + timedelta(days=2), record(1))
    lake = published(tmp_path, after, elsewhere(FIRST + timedelta(days=9)))
    assert ask(lake, DAILY) == [("closed", 1.0, 0, 24, 0, 0, 0)]


def test_day_is_changing_until_over_and_scanned(tmp_path: Path):
    """At 14:00 there are 15 slots, and 9 are still to come."""
    lake = published(tmp_path, day_scan(DAY, NOON + timedelta(hours=2), record(1)))
    assert ask(lake, DAILY) == [("changing", 1.0, 0, 0, 24, 0, 0)]


def test_lost_data_leaves_sums_and_no_rate(tmp_path: Path):
    """The afternoon was never scanned: what is there of the day is not its delivery rate."""
    morning = day_scan(DAY, NOON + timedelta(minutes=30), record(1))
    lake = published(tmp_path, morning, elsewhere(FIRST + timedelta(days=9)))
    assert ask(lake, DAILY) == [("gaps", None, 0, 12, 0, 12, 0)]
    for table in ("delivery_daily", "delivery_weekly", "delivery_monthly", "operation_sizes"):
        rates = ", ".join(c.name for c in DELIVERY_DAILY.columns if "_rate" in c.name)
        query = (
            f"SELECT completeness, rated_attempted, rated_delivered, {rates} FROM {table} "
            "WHERE operations > 0"
        )
        assert ask(lake, query) == [("gaps", 1, 1, *[None] * 4)]
    query = (
        "SELECT rated_delivered_exclusive, COLUMNS('^(delivery|open)_rate') FROM delivery_readings"
    )
    assert ask(lake, f"{query} WHERE rated_attempted > 0") == [(1, *[None] * 4)]
    query = "SELECT completeness, delivery_rate, rated_delivered FROM delivery_hourly"
    assert ask(lake, query) == [("gaps", None, 1)]


def test_lost_and_empty_periods_have_rows(tmp_path: Path):
    """R4: from the first day with operations on, a day that nobody scanned has a row that says so."""
    scans = [day_scan(DAY, moment, record(1)) for moment in FINAL]
    empty = DAY + timedelta(days=1)
    scans += [day_scan(empty, moment + timedelta(days=1)) for moment in FINAL]
    lake = published(tmp_path, *scans, elsewhere(FIRST + timedelta(days=14)))
    columns = "completeness, operations, delivery_rate"
    found = ask(lake, f"SELECT {columns} FROM delivery_daily ORDER BY created_date")
    assert found[:3] == [("final", 1, 1.0), ("final", 0, None), ("gaps", 0, None)]
    assert len(found) == 15
    assert found[-1] == ("changing", 0, None)
    query = f"SELECT {columns}, days FROM delivery_weekly ORDER BY week"
    assert ask(lake, query)[1] == ("gaps", 0, None, 0)


def test_day_on_which_the_archive_began_is_partial(tmp_path: Path):
    """At noon the API has forgotten the 12 hours of 7 days ago: they were nobody's to lose."""
    old = DAY - WEEK
    afternoon = record(1, created_at=NOON - WEEK + timedelta(hours=5))
    lake = published(
        tmp_path,
        day_scan(old, NOON, afternoon),
        day_scan(old, NOON + timedelta(hours=11, minutes=30), afternoon),
        elsewhere(NOON + timedelta(days=2)),
    )
    query = f"SELECT completeness, delivery_rate, {COUNTS} FROM delivery_daily WHERE operations > 0"
    assert ask(lake, query) == [("partial", 1.0, 11, 0, 0, 0, 13)]


def test_hour_scanned_too_late_has_no_rate(tmp_path: Path):
    """What the API still told of it may be a part."""
    lake = published(tmp_path, day_scan(DAY, FIRST + timedelta(days=30), record(1)))
    for table in ("delivery_hourly", "delivery_daily"):
        query = f"SELECT completeness, operations, delivery_rate FROM {table} WHERE operations > 0"
        assert ask(lake, query) == [("gaps", 1, None)]


def test_scan_without_changes_can_make_a_day_final(tmp_path: Path):
    lake = published(tmp_path, day_scan(DAY, FINAL[0], record(1)))
    assert ask(lake, DAILY)[0][0] == "changing"
    derived(lake, day_scan(DAY, FINAL[1], record(1)))
    assert publish(lake, force=False) is True
    assert ask(lake, DAILY)[0][0] == "final"


def test_weeks_begin_on_monday_and_count_their_days(tmp_path: Path):
    """2026-11-22 is a Sunday, 2026-11-23 a Monday."""
    days = [date(2026, 11, day) for day in (20, 22, 23)]
    scans = [
        day_scan(day, at("2026-11-24"), record(n, created_at=midnight(day)))
        for n, day in enumerate(days)
    ]
    lake = published(tmp_path, *scans)
    query = "SELECT week, days, operations, completeness FROM delivery_weekly ORDER BY week"
    assert ask(lake, query) == [
        (date(2026, 11, 16), 2, 2, "changing"),
        (date(2026, 11, 23), 1, 1, "changing"),
    ]


def test_month_before_the_archive_counts_as_before_archive(tmp_path: Path):
    """The 20th is final; the 19 days before it had nobody to ask, those after it are still to come."""
    lake = published(tmp_path, *(day_scan(DAY, moment, record(1)) for moment in FINAL))
    query = f"SELECT completeness, delivery_rate, {COUNTS} FROM delivery_monthly"
    ((completeness, rate, *counts),) = ask(lake, query)
    assert (completeness, rate) == ("changing", 1.0)
    assert sum(counts) == 30 * 24
    assert (counts[0], counts[4]) == (24, 19 * 24)


def test_weekday_and_hour_sum_only_what_is_past_its_deadline(tmp_path: Path):
    undelivered = {"delivered": 0, "undelivered": 1}
    young = FINAL[1].replace(hour=10)  # seven days later, the same weekday
    lake = published(
        tmp_path,
        *(day_scan(DAY, moment, record(1, created_at=FIRST)) for moment in FINAL),
        day_scan(young.date(), FINAL[1], record(2, created_at=FIRST + WEEK, stats=undelivered)),
    )
    query = (
        "SELECT weekday, hour, operations, delivery_rate, final_slots, changing_slots, completeness "
        "FROM delivery_by_weekday_hour ORDER BY operations DESC, weekday = 5 DESC, hour"
    )
    rows = ask(lake, query)
    assert len(rows) == 168
    assert rows[0] == (5, 0, 1, 1.0, 1, 1, "final")
    assert rows[1] == (5, 1, 0, None, 1, 1, "final")
    assert rows[-1][-1] == "changing"


# the account's reading


def test_sums_of_every_delivery_table_give_the_rates_of_the_reading(tmp_path: Path):
    """Whoever adds up periods divides the same sums as the table: an exclusive account's too."""
    exclusive = {"total": 10, "sent": 0, "delivered": 2, "opened": 6, "undelivered": 2}
    records = [record(n, created_at=FIRST, stats=exclusive) for n in range(20)]
    lake = published(tmp_path, *(day_scan(DAY, moment, *records) for moment in FINAL))
    rates = (
        "sum(rated_delivered) / sum(rated_attempted), sum(rated_opened) / sum(rated_delivered), "
        "any_value(delivery_rate), any_value(open_rate), any_value(reading), bool_and(reading_decided)"
    )
    for table in DELIVERY_TABLES:
        query = f"SELECT {rates} FROM {table.name} WHERE operations > 0"
        assert ask(lake, query) == [(0.8, 0.75, 0.8, 0.75, "exclusive", True)], table.name
    query = (
        "SELECT sum(delivered) / sum(attempted), sum(opened) / sum(delivered), max(reading), "
        "bool_and(reading_decided) FROM delivery_curve WHERE age = '168 h'"
    )
    assert ask(lake, query) == [(0.8, 0.75, "exclusive", True)]


def test_scan_without_effect_does_not_publish(tmp_path: Path):
    lake = published(tmp_path, day_scan(DAY, NOON + timedelta(hours=2), record(1)))
    derived(lake, day_scan(DAY, NOON + timedelta(hours=2, minutes=50), record(1)))
    assert publish(lake, force=False) is False
    assert publish(lake, force=False) is False
    derived(lake, day_scan(DAY, FINAL[0], record(1)))
    assert publish(lake, force=False) is True


def test_damaged_coverage_keeps_the_old_warehouse(tmp_path: Path):
    lake = published(tmp_path, day_scan(DAY, NOON, record(1)))
    before = lake.warehouse.stat().st_ino
    for table in (COVERAGE, SLOT_COVERAGE):
        lake.part(table, Partition(ACCOUNT, DAY)).write_bytes(b"PAR1 torn PAR1")
    with pytest.raises(LakeError, match=r"/coverage/.*part-0\.parquet is damaged"):
        publish(lake, force=False)
    assert lake.warehouse.stat().st_ino == before
