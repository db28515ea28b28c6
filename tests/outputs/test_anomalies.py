"""delivery_anomalies: days whose rates are unlike those before."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline.emulator.world import World
from pipeline.lake import engine
from pipeline.model.windows import midnight
from pipeline.outputs.warehouse import _ANOMALIES as ANOMALIES
from pipeline.outputs.warehouse import publish
from pipeline.quality.anomalies import latest_anomalies
from pipeline.quality.status import status
from tests.support.delivery import DAY, day_scan, published
from tests.support.factories import ACCOUNT, NOON, derived, new_lake, record


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
