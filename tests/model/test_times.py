"""Moments as text."""

from datetime import datetime, timedelta, timezone

from pipeline.model.times import iso, iso_compact, iso_seconds
from tests.support.factories import at

QUARTER = at("2026-11-20 14:00:00.25")


def test_times_are_iso_8601_in_utc():
    assert iso(QUARTER) == "2026-11-20T14:00:00.250000Z"
    assert iso(QUARTER.astimezone(timezone(timedelta(hours=2)))) == iso(QUARTER)
    assert iso_seconds(QUARTER) == "2026-11-20T14:00:00Z"
    assert iso_compact(QUARTER) == "20261120T140000.250000Z"


def test_time_without_a_zone_is_written_without_one():
    assert iso(datetime(2026, 11, 20)) == "2026-11-20T00:00:00"  # noqa: DTZ001 - the point
