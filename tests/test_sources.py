"""A mart's rows kept together: what publish() builds from costs what changed."""

import os
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import sources
from pipeline.facts import Partition
from pipeline.lake.layout import Lake
from pipeline.schema import DELIVERY_HOURLY
from pipeline.windows import Window
from tests.support.factories import ACCOUNT, DAY, NOON, new_lake, record, scan, summarized

NEXT = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two days, two operations on the second one."""
    tomorrow = NOON + NEXT
    later = [record(n, created_at=tomorrow) for n in (2, 3)]
    window = Window.of_day(tomorrow.date())
    return summarized(
        new_lake(tmp_path),
        scan([record(1)]),
        scan(later, window=window, observed_at=tomorrow + timedelta(hours=2)),
    )


def collected(lake: Lake) -> list[tuple]:
    rows = sources.collect(lake, DELIVERY_HOURLY).to_pylist()
    return sorted((row["account_id"], row["created_date"], row["operations"]) for row in rows)


def test_rows_of_every_day_come_with_their_keys(lake: Lake):
    assert collected(lake) == [(ACCOUNT, DAY, 1), (ACCOUNT, DAY + NEXT, 2)]


def test_only_files_that_changed_are_opened(lake: Lake):
    """The other day's file is spoiled behind its stamp: whoever opened it would fail."""
    collected(lake)
    other = lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY + NEXT))
    times = other.stat()
    other.write_bytes(b"no Parquet")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    summarized(lake, scan([record(1), record(4)], observed_at=NOON + timedelta(hours=3)))
    assert collected(lake) == [(ACCOUNT, DAY, 2), (ACCOUNT, DAY + NEXT, 2)]


def test_day_that_is_gone_is_gone(lake: Lake):
    collected(lake)
    lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY)).unlink()
    assert collected(lake) == [(ACCOUNT, DAY + NEXT, 2)]


@pytest.mark.parametrize("damage", ["torn", "foreign", "gone"])
def test_without_what_was_kept_the_days_own_files_are_read(lake: Lake, damage: str):
    """R5: it is derived, so nothing depends on it."""
    expected = collected(lake)
    kept = lake.sources_file(DELIVERY_HOURLY)
    match damage:
        case "torn":
            kept.write_bytes(kept.read_bytes()[:100])
        case "foreign":
            pq.write_table(pq.read_table(kept).select(["hour"]), kept)
        case "gone":
            kept.unlink()
    assert collected(lake) == expected
