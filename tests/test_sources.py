"""A mart's rows kept together: what publish() builds from costs what changed."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import sources
from pipeline.facts import Partition
from pipeline.lake.layout import Lake
from pipeline.schema import COVERAGE, DELIVERY_HOURLY
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


def stamp_again(lake: Lake, changes: object) -> None:
    """Say of what was kept that it came from other files: a part of its stamps, or all in their place."""
    kept = lake.sources_file(DELIVERY_HOURLY)
    rows = pq.read_table(kept)
    [(key, stamps)] = [
        (k, json.loads(v)) for k, v in rows.schema.metadata.items() if b"stamps" in k
    ]
    stamps = stamps | changes if isinstance(changes, dict) else changes
    pq.write_table(rows.replace_schema_metadata({key: json.dumps(stamps)}), kept)


def collected(lake: Lake) -> list[tuple]:
    rows = sources.collect(lake, DELIVERY_HOURLY).to_pylist()
    return sorted((row["account_id"], row["created_date"], row["operations"]) for row in rows)


def test_rows_of_every_day_come_with_their_keys(lake: Lake):
    assert collected(lake) == [(ACCOUNT, DAY, 1), (ACCOUNT, DAY + NEXT, 2)]


def test_only_files_that_changed_are_opened(lake: Lake):
    """The other day's file is spoiled behind its stamp: whoever opened it would fail."""
    collected(lake)
    other = lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY + NEXT))
    other.write_bytes(b"no Parquet")
    tomorrow = Partition(ACCOUNT, DAY + NEXT)
    stamp_again(lake, {str(tomorrow): sources.stamps(lake, DELIVERY_HOURLY)[tomorrow]})
    summarized(lake, scan([record(1), record(4)], observed_at=NOON + timedelta(hours=3)))
    assert collected(lake) == [(ACCOUNT, DAY, 2), (ACCOUNT, DAY + NEXT, 2)]


def test_day_that_is_gone_is_gone(lake: Lake):
    collected(lake)
    lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY)).unlink()
    assert collected(lake) == [(ACCOUNT, DAY + NEXT, 2)]


def test_columns_that_are_wanted_are_kept_alone(lake: Lake):
    """What publish() needs of the scans: a damaged file is noticed all the same."""
    names = ("observed_at", "completed_at")
    found = sources.collect(lake, COVERAGE, names)
    assert found.schema.names == ["account_id", "created_date", *names]
    assert found.num_rows == 2
    assert sources.collect(lake, COVERAGE, names).equals(found)


def test_file_of_the_same_age_and_inode_with_another_size_is_read_again(lake: Lake):
    collected(lake)
    file = lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY))
    other = lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY + NEXT))
    times = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_ino == times.st_ino
    assert collected(lake) == [(ACCOUNT, DAY, 2), (ACCOUNT, DAY + NEXT, 2)]


@pytest.mark.parametrize("damage", ["torn", "foreign", "gone", "no object"])
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
        case "no object":
            stamp_again(lake, [1])
    assert collected(lake) == expected


@pytest.mark.parametrize("outdated", [1, 3, 12])
def test_few_or_many_days_that_changed_are_taken_anew_and_the_others_stay(
    tmp_path: Path, outdated: int
):
    days = [NOON + n * NEXT for n in range(14)]
    lake = summarized(
        new_lake(tmp_path),
        *(
            scan(
                [record(n, created_at=noon)],
                window=Window.of_day(noon.date()),
                observed_at=noon + timedelta(hours=2),
            )
            for n, noon in enumerate(days)
        ),
    )
    before = collected(lake)
    assert [day for _, day, _ in before] == [noon.date() for noon in days]
    gone, *others = [Partition(ACCOUNT, noon.date()) for noon in days[:outdated]]
    stamp_again(lake, {str(day): "another file" for day in others})
    lake.part(DELIVERY_HOURLY, gone).unlink()
    assert collected(lake) == before[1:]


@pytest.mark.parametrize("name", [ACCOUNT, f"{ACCOUNT} 2026-11-2x", f"{ACCOUNT} 2026-11-20 x"])
def test_rows_kept_of_what_is_no_day_are_collected_anew(lake: Lake, name: str):
    """R9: the file is derived; damage to it stops no publish."""
    before = collected(lake)
    stamp_again(lake, {name: "a file"})
    assert collected(lake) == before
