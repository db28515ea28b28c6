"""Days of one account with given counts, published."""

from datetime import date, datetime, timedelta
from pathlib import Path

from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.records import Scan
from pipeline.model.windows import Window, midnight
from pipeline.outputs.warehouse import publish
from tests.support.factories import NOON, derived, new_lake, scan

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
