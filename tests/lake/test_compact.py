"""Compacted days: written once compactly, then left alone, until something new is found."""

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.emulator import World
from pipeline.lake import parquet
from pipeline.lake.compact import can_be_compacted, compact
from pipeline.lake.layout import COMPACT, Lake
from pipeline.model.schema import HISTORY, LAKE_TABLES, OPERATIONS
from pipeline.model.windows import deadline
from pipeline.sync import Range, sync
from tests.support.archives import account, sync_all
from tests.support.factories import (
    NOON,
    PARTITION,
    at,
    derived,
    landed,
    new_lake,
    record,
    scan,
    snapshot,
)

START = at("2026-11-10")
WORLD = World(8, 400.0, START, end=START + timedelta(days=2))
LAST_DEADLINE = deadline(NOON.replace(hour=23))


def files(lake: Lake) -> dict[str, int]:
    """The inode of every file of the public tables of the first two days."""
    return {
        str(path.relative_to(lake.root)): path.stat().st_ino
        for table in LAKE_TABLES
        for path in (lake.root / table.name).rglob("*.parquet")
        if "2026-11-10" in str(path) or "2026-11-11" in str(path)
    }


def unsealed(lake: Lake) -> set[str]:
    return {partition.day.isoformat() for partition in lake.with_work(COMPACT)}


def test_day_is_compacted_once_after_its_last_deadline(tmp_path: Path):
    """R5: the content stays what it was."""
    with account(WORLD, START + timedelta(days=2), tmp_path) as (emulator, settings):
        lake = Lake(tmp_path)
        sync_all(settings)
        emulator.clock.set(START + timedelta(days=7, hours=22))
        sync(settings, publishing=False)
        assert unsealed(lake) >= {"2026-11-10", "2026-11-11"}
        before = snapshot(lake)
        emulator.clock.set(START + timedelta(days=7, hours=23))
        assert sync(settings, publishing=False).compacted == 1
        assert "2026-11-10" not in unsealed(lake)
        emulator.clock.set(START + timedelta(days=8, hours=23))
        assert sync(settings, publishing=False).compacted >= 1
        assert "2026-11-11" not in unsealed(lake)
        after = snapshot(lake)
        key = f"operations {settings.account_sid} 2026-11-10"
        assert {row["operation_id"] for row in after[key]} == {
            row["operation_id"] for row in before[key]
        }
        compacted = files(lake)
        for _ in range(3):
            emulator.clock.step(timedelta(hours=5))
            sync(settings, publishing=False)
        assert files(lake) == compacted
        metadata = pq.ParquetFile(lake.root / next(iter(compacted))).metadata
        assert metadata.row_group(0).column(0).is_stats_set


def test_compacting_keeps_rows_and_order_and_prunes_by_small_row_groups(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(n) for n in range(40_000)]))
    before = snapshot(lake)
    order = parquet.read(lake.part(HISTORY, PARTITION), HISTORY.arrow)
    assert can_be_compacted(lake, LAST_DEADLINE - timedelta(seconds=1)) == []
    assert can_be_compacted(lake, LAST_DEADLINE) == [PARTITION]
    compact(lake, PARTITION)
    assert can_be_compacted(lake, LAST_DEADLINE) == []
    assert snapshot(lake) == before
    assert parquet.read(lake.part(HISTORY, PARTITION), HISTORY.arrow).equals(order)
    metadata = pq.ParquetFile(lake.part(OPERATIONS, PARTITION)).metadata
    assert metadata.num_row_groups == 2
    assert metadata.row_group(0).column(0).has_offset_index


def test_day_scanned_after_compaction_is_compacted_again(tmp_path: Path):
    """R1: what a late scan finds is added all the same."""
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    compact(lake, PARTITION)
    late = scan([record(1), record(2)], observed_at=LAST_DEADLINE + timedelta(days=1))
    landed(lake, late)
    assert not compact(lake, PARTITION)  # what landed is merged first
    derived(lake)
    assert parquet.count(lake.part(OPERATIONS, PARTITION)) == 2
    assert can_be_compacted(lake, LAST_DEADLINE) == [PARTITION]
    assert compact(lake, PARTITION)


def test_range_by_hand_reopens_only_what_it_changes(tmp_path: Path):
    with account(WORLD, START + timedelta(days=2), tmp_path) as (emulator, settings):
        sync_all(settings)
        emulator.clock.set(START + timedelta(days=9))
        sync(settings, publishing=False)
        report = sync(settings, scope=Range(START, START + timedelta(days=1)), publishing=False)
        assert report.compacted == 1


def test_damaged_file_is_not_compacted_and_keeps_nothing_else_from_it(tmp_path: Path):
    with account(WORLD, START + timedelta(days=2), tmp_path) as (emulator, settings):
        sync_all(settings)
        (part,) = (tmp_path / "history").glob("*/created_date=2026-11-10/part-0.parquet")
        part.write_bytes(b"PAR1 not really")
        emulator.clock.set(START + timedelta(days=9))
        report = sync(settings, publishing=False)
        assert unsealed(Lake(tmp_path)) >= {"2026-11-10"}
        assert "2026-11-11" not in unsealed(Lake(tmp_path))
        assert not report.ok
        assert any("part-0.parquet" in str(error) for error in report.errors)
