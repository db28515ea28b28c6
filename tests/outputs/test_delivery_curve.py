"""delivery_curve: what was known of an hour at each age."""

from datetime import timedelta
from pathlib import Path

from pipeline.lake.layout import Lake
from pipeline.model.schema import AGES
from pipeline.model.windows import Window
from tests.support.delivery import DAY, FIRST, ask, day_scan, elsewhere, published
from tests.support.factories import NOON, derived, record, scan


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


def test_ages_rise_and_are_shown_as_what_they_are():
    units = {"min": 1, "h": 60}
    shown = [int(age.split()[0]) * units[age.split()[1]] for age, _ in AGES]
    assert shown == sorted(minutes for _, minutes in AGES)
