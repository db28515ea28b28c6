"""Slots, days, windows and deadlines."""

import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.windows import (
    DAY,
    Window,
    days_between,
    deadline,
    retained_days,
    slot_start,
    windows_between,
)
from tests.support.factories import at

moments = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone itself
    max_value=datetime(2035, 1, 1),  # noqa: DTZ001 - as above
    timezones=st.just(UTC),
)


def test_query_bounds_add_one_second_on_both_sides():
    """R7: the documented bounds may be exclusive, so they are never relied on."""
    window = Window(at("2026-11-20 10:00"), at("2026-11-20 11:00"))
    assert window.query_bounds() == (at("2026-11-20 09:59:59"), at("2026-11-20 11:00:01"))


def test_query_bounds_round_fractions_outwards():
    """R7: times may be whole seconds at the API, so a fraction is rounded outwards."""
    window = Window(at("2026-11-20 10:00:00.5"), at("2026-11-20 11:00:00.5"))
    assert window.query_bounds() == (at("2026-11-20 09:59:59"), at("2026-11-20 11:00:02"))


@given(start=moments, length=st.timedeltas(timedelta(microseconds=1), timedelta(days=30)))
def test_windows_tile_a_range_without_hole_or_overlap(start: datetime, length: timedelta):
    """R7: no record falls between windows."""
    windows = windows_between(start, start + length)
    assert windows[0].start == start
    assert windows[-1].end == start + length
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))
    assert all(w.day == w.start.date() for w in windows)


@pytest.mark.parametrize(
    ("day", "slots"),
    [
        (date(2026, 3, 29), 24),  # daylight saving begins in Europe
        (date(2026, 11, 1), 24),  # and ends in America
        (date(2028, 2, 29), 24),
        (date(2026, 12, 31), 24),
    ],
)
def test_every_day_has_24_slots(day: date, slots: int):
    assert len(list(Window.of_day(day).slots())) == slots
    assert Window.of_day(day).end - Window.of_day(day).start == DAY


def test_window_touches_the_slots_of_its_range():
    window = Window(at("2026-11-20 10:30"), at("2026-11-20 12:00"))
    assert list(window.slots()) == [at("2026-11-20 10:00"), at("2026-11-20 11:00")]


def test_deadline_is_seven_days_after_the_start_of_the_slot():
    assert deadline(at("2026-11-20 10:59:59")) == at("2026-11-27 10:00")


def test_times_with_another_zone_mean_the_same_instant():
    berlin = timezone(timedelta(hours=1))
    assert slot_start(datetime(2026, 11, 20, 0, 30, tzinfo=berlin)) == at("2026-11-19 23:00")


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2026-11-20 10:00", "2026-11-20 10:00", "start lies before its end"),
        ("2026-11-20 23:00", "2026-11-21 00:01", "inside one UTC day"),
    ],
)
def test_invalid_window_is_refused(start: str, end: str, message: str):
    with pytest.raises(ValueError, match=message):
        Window(at(start), at(end))


def test_window_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        Window(datetime(2026, 11, 20), datetime(2026, 11, 21))  # noqa: DTZ001 - what is refused


def test_retention_touches_eight_days():
    """The reference: "Data retention is limited to 7 days after creation"."""
    assert retained_days(at("2026-11-20 12:00")) == days_between(
        date(2026, 11, 13), date(2026, 11, 20)
    )
