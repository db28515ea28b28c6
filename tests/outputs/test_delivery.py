"""The delivery tables of the warehouse: rates by period, how far they are known, curves, anomalies."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline.emulator.world import World
from pipeline.lake import engine
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition, Scan
from pipeline.model.schema import AGES, COVERAGE, DELIVERY_DAILY, DELIVERY_TABLES, SLOT_COVERAGE
from pipeline.model.windows import Window, midnight
from pipeline.outputs.warehouse import _ANOMALIES as ANOMALIES
from pipeline.outputs.warehouse import publish
from pipeline.quality.anomalies import latest_anomalies
from pipeline.quality.status import status
from tests.support.factories import ACCOUNT, NOON, at, derived, new_lake, record, scan

DAY = NOON.date()
FIRST = midnight(DAY)
WEEK = timedelta(days=7)
FINAL = (FIRST + WEEK - timedelta(seconds=1), FIRST + WEEK + timedelta(hours=11, minutes=59))
"""Two scans of the day that are final ones of all its slots."""


def day_scan(day: date, observed_at: datetime, *records: dict) -> Scan:
    return scan(records, observed_at=observed_at, window=Window.of_day(day))


def elsewhere(observed_at: datetime) -> Scan:
    """A scan of another day, which only tells that time has gone on."""
    return day_scan(observed_at.date(), observed_at)


def published(folder: Path, *scans: Scan) -> Lake:
    lake = derived(new_lake(folder), *scans)
    publish(lake)
    return lake


def ask(lake: Lake, query: str) -> list[tuple]:
    with engine.connect(str(lake.warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


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
        assert ask(lake, query) == [("gaps", 1, 1, *[None] * 8)]
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


# delivery_curve


def curve(lake: Lake, columns: str) -> dict[str, tuple]:
    query = f"SELECT age, {columns} FROM delivery_curve ORDER BY hour, age_minutes"
    return {age: tuple(rest) for age, *rest in ask(lake, query)}


def test_curve_names_the_scans_around_each_age(tmp_path: Path):
    """Seen from the middle of the hour, 12:30; looked at 12:40, 14:00, and four days later."""
    moments = [NOON + timedelta(minutes=40), NOON + timedelta(hours=2), NOON + timedelta(days=4)]
    lake = published(tmp_path, *(day_scan(DAY, moment, record(1)) for moment in moments))
    after = 4 * 1440 - 30.0
    assert curve(lake, "operations, scan_before_minutes, scan_after_minutes") == {
        "1 min": (None, None, 10.0),
        "5 min": (None, None, 10.0),
        "15 min": (None, 10.0, 90.0),
        "1 h": (1, 10.0, 90.0),
        "3 h": (1, 90.0, after),
        "6 h": (1, 90.0, after),
        "12 h": (1, 90.0, after),
        "24 h": (1, 90.0, after),
        "48 h": (1, 90.0, after),
        "72 h": (1, 90.0, after),
        "168 h": (None, None, None),  # not that old yet
    }


def test_curve_knows_a_later_look_though_it_found_nothing_new(tmp_path: Path):
    """The mart's file stays as it is; the view has the scan at once."""
    lake = published(tmp_path, day_scan(DAY, NOON + timedelta(hours=2), record(1)))
    assert curve(lake, "operations, scan_before_minutes")["3 h"] == (None, None)
    derived(lake, day_scan(DAY, NOON + timedelta(hours=5), record(1)))
    assert curve(lake, "operations, scan_after_minutes")["3 h"] == (1, 270.0)


def test_curve_ignores_scans_after_the_deadline_or_elsewhere(tmp_path: Path):
    """R4."""
    evening = Window(NOON + timedelta(hours=6), NOON + timedelta(hours=7))
    lake = published(
        tmp_path,
        day_scan(DAY, NOON + timedelta(hours=2), record(1)),
        scan([], observed_at=NOON + timedelta(hours=8), window=evening),
        day_scan(DAY, NOON + timedelta(days=9), record(1)),
    )
    ages = curve(lake, "scan_before_minutes, scan_after_minutes")
    assert {ages[age] for age in ("3 h", "12 h", "168 h")} == {(90.0, None)}


def test_curve_has_rates_under_the_accounts_reading(tmp_path: Path):
    exclusive = {"total": 10, "sent": 0, "delivered": 2, "opened": 6, "undelivered": 2}
    created = NOON + timedelta(minutes=30)
    operations = [record(n, created_at=created, stats=exclusive) for n in range(5)]
    lake = published(
        tmp_path,
        day_scan(DAY, NOON + timedelta(minutes=70), *operations),
        elsewhere(NOON + timedelta(days=1)),
    )
    rates = "completeness, delivery_rate, open_rate, undelivered_rate"
    assert curve(lake, rates)["1 h"] == ("changing", 0.8, 0.75, 0.2)


def test_curve_has_no_rate_at_ages_without_scans(tmp_path: Path):
    """Looked at 13:30, an hour after the middle of the hour, and never again."""
    one = record(1, created_at=NOON + timedelta(minutes=30))
    lake = published(
        tmp_path,
        day_scan(DAY, NOON + timedelta(minutes=90), one),
        elsewhere(FIRST + timedelta(days=9)),
    )
    found = curve(lake, "completeness, delivered, delivery_rate")
    assert {age: found[age] for age in ("15 min", "1 h", "3 h", "168 h")} == {
        "15 min": ("closed", None, None),
        "1 h": ("closed", 1, 1.0),
        "3 h": ("closed", 1, None),
        "168 h": ("closed", 1, None),
    }


def test_curve_of_a_lost_hour_has_no_rates(tmp_path: Path):
    """The hour was last scanned before it was over."""
    one = record(1, created_at=NOON + timedelta(minutes=1))
    lake = published(
        tmp_path,
        day_scan(DAY, NOON + timedelta(minutes=59), one),
        elsewhere(FIRST + timedelta(days=9)),
    )
    found = curve(lake, "completeness, operations, scan_before_minutes, delivery_rate, open_rate")
    assert found["1 h"] == ("gaps", 1, 29.0, None, None)
    assert set(curve(lake, "delivery_rate").values()) == {(None,)}


# the account's reading


def test_sums_of_every_delivery_table_give_the_rates_of_the_reading(tmp_path: Path):
    """Whoever adds up periods divides the same sums as the table: an exclusive account's too."""
    exclusive = {"total": 10, "sent": 0, "delivered": 2, "opened": 6, "undelivered": 2}
    records = [record(n, created_at=FIRST, stats=exclusive) for n in range(20)]
    lake = published(tmp_path, *(day_scan(DAY, moment, *records) for moment in FINAL))
    rates = (
        "sum(rated_delivered) / sum(rated_attempted), sum(rated_opened) / sum(rated_delivered), "
        "any_value(delivery_rate), any_value(open_rate), any_value(delivery_rate_cumulative), "
        "any_value(reading), bool_and(reading_decided)"
    )
    for table in DELIVERY_TABLES:
        query = f"SELECT {rates} FROM {table.name} WHERE operations > 0"
        assert ask(lake, query) == [(0.8, 0.75, 0.8, 0.75, 0.2, "exclusive", True)], table.name
    query = (
        "SELECT sum(delivered) / sum(attempted), sum(opened) / sum(delivered), max(reading), "
        "bool_and(reading_decided) FROM delivery_curve WHERE age = '168 h'"
    )
    assert ask(lake, query) == [(0.8, 0.75, "exclusive", True)]


# delivery_anomalies


def anomalies(days: Iterable[tuple]) -> list[tuple[int, str, str]]:
    """What the query finds in days of (attempted, delivered, opened, undelivered, failed, completeness)."""
    with engine.connect() as connection:
        connection.execute(
            "CREATE TABLE delivery_daily (account_id VARCHAR, created_date DATE, completeness VARCHAR, "
            "reading VARCHAR, reading_decided BOOLEAN, rated_attempted BIGINT, rated_delivered BIGINT, "
            "delivery_rate DOUBLE, open_rate DOUBLE, undelivered_rate DOUBLE, failure_rate DOUBLE)"
        )
        rows = [
            (
                ACCOUNT,
                DAY + timedelta(days=n),
                completeness,
                "cumulative",
                True,
                attempted,
                delivered,
                delivered / attempted,
                opened / delivered if delivered else None,
                undelivered / attempted,
                failed / attempted,
            )
            for n, (attempted, delivered, opened, undelivered, failed, completeness) in enumerate(
                days
            )
        ]
        connection.executemany(
            "INSERT INTO delivery_daily VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        query = engine.render(engine.sql("pipeline.outputs", "delivery_anomalies"), **ANOMALIES)
        found = connection.execute(query).fetchall()
        names = [column[0] for column in connection.description]
    places = [names.index(name) for name in ("created_date", "rate", "direction")]
    return [((row[places[0]] - DAY).days, row[places[1]], row[places[2]]) for row in sorted(found)]


USUAL = (1000, 970, 300, 25, 5, "final")


def test_usual_days_are_no_anomalies_and_an_outage_is_one():
    outage = (1000, 780, 60, 215, 5, "final")
    assert anomalies([USUAL] * 30) == []
    assert anomalies([*[USUAL] * 20, outage, *[USUAL] * 20]) == [
        (20, "delivery_rate", "below"),
        (20, "open_rate", "below"),
        (20, "undelivered_rate", "above"),
    ]


def test_too_few_days_give_no_anomalies():
    outage = (1000, 780, 60, 215, 5, "final")
    assert anomalies([*[USUAL] * 13, outage]) == []
    assert anomalies([*[USUAL] * 14, outage]) != []
    assert anomalies([*[(*USUAL[:5], "gaps")] * 14, outage]) == []


def test_changing_day_is_judged_only_by_growing_counts():
    """Opens come over days, deliveries over hours: a young day has few of both."""
    young = (1000, 500, 10, 5, 0, "changing")
    assert anomalies([*[USUAL] * 20, young]) == []
    failing = (1000, 500, 10, 200, 100, "changing")
    assert anomalies([*[USUAL] * 20, failing]) == [
        (20, "failure_rate", "above"),
        (20, "undelivered_rate", "above"),
    ]


def test_day_last_scanned_early_is_neither_judged_nor_baseline():
    """The archive was off for days: when it looked last, few emails had been opened."""
    closed = (1000, 900, 90, 20, 5, "closed")
    assert anomalies([*[USUAL] * 20, *[closed] * 3, *[USUAL] * 10]) == []
    assert anomalies([*[closed] * 20, USUAL]) == []
    assert anomalies([*[USUAL] * 13, closed, (1000, 780, 60, 215, 5, "final")]) == [
        (14, "undelivered_rate", "above")
    ]
    assert anomalies([*[USUAL] * 20, (1000, 780, 60, 215, 5, "closed")]) == [
        (20, "undelivered_rate", "above")
    ]


def test_weekend_like_earlier_weekends_is_usual():
    weekend = (1000, 970, 90, 25, 5, "final")
    weeks = [weekend if n % 7 in (5, 6) else USUAL for n in range(60)]
    assert anomalies(weeks) == []
    worse = (1000, 900, 20, 95, 5, "final")
    for day in (40, 43):  # a Saturday and a Tuesday of these
        assert anomalies([*weeks[:day], worse, *weeks[day + 1 :]]) == [
            (day, "delivery_rate", "below"),
            (day, "open_rate", "below"),
            (day, "undelivered_rate", "above"),
        ]


def test_incident_a_week_ago_does_not_make_one_of_today_usual():
    outage = (1000, 780, 60, 215, 5, "final")
    days = [USUAL] * 40
    days[20] = days[27] = outage
    assert {day for day, _, _ in anomalies(days)} == {20, 27}


@pytest.mark.parametrize("emails", [1, 2, 5])
def test_few_emails_are_no_anomaly_whatever_became_of_them(emails: int):
    assert anomalies([*[USUAL] * 28, (emails, 0, 0, 0, emails, "final")]) == []


def test_one_failure_is_no_anomaly_of_a_zero_rate():
    clean = (1000, 1000, 300, 0, 0, "final")
    assert anomalies([*[clean] * 28, (1000, 999, 300, 0, 1, "final")]) == []
    assert anomalies([*[clean] * 28, (1000, 950, 300, 0, 50, "final")]) == [
        (28, "delivery_rate", "below"),
        (28, "failure_rate", "above"),
    ]


def test_steady_rates_leave_room_for_the_lot_of_few_emails():
    """A median absolute deviation of 0 makes no band of 0: 40 emails have their own lot."""
    steady = (40, 39, 12, 1, 0, "final")
    assert anomalies([*[steady] * 28, (40, 37, 12, 3, 0, "final")]) == []


@pytest.mark.parametrize("per_day", [40.0, 400.0])
def test_emulated_accounts_have_their_outage_as_the_only_anomaly(per_day: float):
    start = datetime(2026, 9, 1, tzinfo=UTC)
    false, found = 0, 0
    for seed in range(10):
        outage = date(2026, 9, 21)
        world = World(seed, per_day, start, outage=outage)
        days = []
        for n in range(45):
            begin = start + timedelta(days=n)
            numbers = np.asarray(world.numbers(begin, begin + timedelta(days=1)))
            sums = {
                name: int(values.sum())
                for name, values in world.columns(numbers, begin + timedelta(days=20)).items()
                if values.dtype.kind == "i"
            }
            attempted = sums["total"] - sums["canceled"]
            parts = (sums[name] for name in ("delivered", "opened", "undelivered", "failed"))
            days.append((attempted, *parts, "final"))
        unusual = anomalies(days)
        found += (20, "undelivered_rate", "above") in unusual
        false += sum(day != 20 for day, _, _ in unusual)
    assert (found, false) == (10, 0)


def test_status_and_readers_have_the_latest_anomalies(tmp_path: Path):
    delivered = {"total": 200, "sent": 200, "delivered": 195, "undelivered": 5, "opened": 50}
    outage = {**delivered, "delivered": 120, "undelivered": 80}
    days = [DAY + timedelta(days=n) for n in range(21)]
    scans = [
        day_scan(
            day,
            midnight(day) + timedelta(days=2),
            record(n, created_at=midnight(day), stats=outage if n == 18 else delivered),
        )
        for n, day in enumerate(days)
    ]
    lake = new_lake(tmp_path)
    assert latest_anomalies(lake) == ()
    derived(lake, *scans)
    assert latest_anomalies(lake) == ()
    publish(lake)
    (found,) = [one for one in latest_anomalies(lake) if one.rate == "undelivered_rate"]
    assert (found.created_date, found.value, found.age_days) == (days[18], 0.4, 2)
    assert str(found).startswith(f"{days[18]} undelivered_rate 40.00%, expected 0.00% to ")
    (account,) = status(lake, midnight(days[-1])).accounts
    assert found in account.anomalies


def test_warehouse_of_an_older_version_has_no_anomalies(tmp_path: Path):
    lake = published(tmp_path, day_scan(DAY, NOON, record(1)))
    lake.warehouse.chmod(0o600)
    with duckdb.connect(str(lake.warehouse)) as connection:
        connection.execute("DROP TABLE delivery_anomalies")
    assert latest_anomalies(lake) == ()


def test_ages_rise_and_are_shown_as_what_they_are():
    units = {"min": 1, "h": 60}
    shown = [int(age.split()[0]) * units[age.split()[1]] for age, _ in AGES]
    assert shown == sorted(minutes for _, minutes in AGES)


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
