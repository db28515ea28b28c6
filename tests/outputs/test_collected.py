"""The small tables' rows kept from one publish to the next: publish and status cost what changed."""

import json
import os
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from pipeline.access.query import ask
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, DELIVERY_HOURLY, SLOT_COVERAGE
from pipeline.model.windows import Window
from pipeline.outputs import collected
from pipeline.outputs.warehouse import publish
from tests.support.cases import some
from tests.support.factories import ACCOUNT, DAY, NOON, derived, new_lake, record, scan

NEXT = timedelta(days=1)
TOMORROW = Partition(ACCOUNT, DAY + NEXT)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two days, two operations on the second one; published."""
    tomorrow = NOON + NEXT
    later = [record(n, created_at=tomorrow) for n in (2, 3)]
    window = Window.of_day(tomorrow.date())
    found = derived(
        new_lake(tmp_path),
        scan([record(1)]),
        scan(later, window=window, observed_at=tomorrow + timedelta(hours=2)),
    )
    publish(found)
    return found


def note_versions(lake: Lake, versions: object) -> None:
    """Say of which versions the rows of delivery_hourly are."""
    file = lake.derived("published.json")
    note = json.loads(file.read_text())
    note["versions"]["delivery_hourly"] = versions
    file.write_text(json.dumps(note))


def noted_versions(lake: Lake) -> dict[str, str]:
    return json.loads(lake.derived("published.json").read_text())["versions"]["delivery_hourly"]


def published(lake: Lake) -> list[tuple]:
    publish(lake, force=False)
    rows = ask(lake, "FROM delivery_hourly ORDER BY created_date").to_pylist()
    return [(row["created_date"], row["operations"]) for row in rows]


def test_publish_opens_only_changed_files(lake: Lake):
    """The other day's file is spoiled, and noted as the one that was read: whoever opened it would fail."""
    lake.part(DELIVERY_HOURLY, TOMORROW).write_bytes(b"no Parquet")
    version = collected.versions(lake, DELIVERY_HOURLY)[TOMORROW]
    note_versions(lake, noted_versions(lake) | {str(TOMORROW): version})
    derived(lake, scan([record(1), record(4)], observed_at=NOON + timedelta(hours=3)))
    assert published(lake) == [(DAY, 2), (DAY + NEXT, 2)]


def test_status_opens_only_changed_files(lake: Lake):
    lake.part(COVERAGE, TOMORROW).write_bytes(b"no Parquet")
    file = lake.derived("published.json")
    note = json.loads(file.read_text())
    note["versions"]["coverage"][str(TOMORROW)] = collected.versions(lake, COVERAGE)[TOMORROW]
    file.write_text(json.dumps(note))
    derived(lake, scan([record(1)], observed_at=NOON + timedelta(hours=3)))
    assert collected.scan_times(lake).num_rows == 3


def test_removed_partition_leaves_the_warehouse(lake: Lake):
    lake.part(DELIVERY_HOURLY, TOMORROW).unlink()
    lake.part(SLOT_COVERAGE, TOMORROW).unlink()
    assert published(lake) == [(DAY, 1)]


def test_file_with_another_size_is_read_again(lake: Lake):
    file = lake.part(DELIVERY_HOURLY, Partition(ACCOUNT, DAY))
    times = file.stat()
    file.write_bytes(lake.part(DELIVERY_HOURLY, TOMORROW).read_bytes())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_ino == times.st_ino
    assert published(lake) == [(DAY, 2), (DAY + NEXT, 2)]


@pytest.mark.parametrize(
    "damage", some(["torn", "other versions", "other tables", "gone", "no object"], 2)
)
def test_without_kept_rows_every_file_is_read(lake: Lake, damage: str):
    """R5: they are derived, so nothing depends on them."""
    kept = lake.derived("rows.duckdb")
    kept.chmod(0o600)
    match damage:
        case "torn":
            kept.write_bytes(kept.read_bytes()[:100])
        case "other tables":
            with duckdb.connect(str(kept)) as connection:
                connection.execute("ALTER TABLE delivery_hourly DROP COLUMN operations")
        case "gone":
            kept.unlink()
        case "no object":
            note_versions(lake, [1])
        case "other versions":
            note_versions(lake, {str(TOMORROW): "another", "what is no partition": "a version"})
    lake.warehouse.unlink()
    assert published(lake) == [(DAY, 1), (DAY + NEXT, 2)]


def test_changed_partitions_are_replaced_and_others_stay(tmp_path: Path):
    days = [NOON + n * NEXT for n in range(14)]
    lake = derived(
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
    before = published(lake)
    assert [day for day, _ in before] == [noon.date() for noon in days]
    for outdated in (1, 3, 12):
        others = {str(Partition(ACCOUNT, noon.date())): "another" for noon in days[:outdated]}
        note_versions(lake, noted_versions(lake) | others)
        assert published(lake) == before


def test_publish_killed_after_its_rows_repeats_safely(lake: Lake):
    """R5: rows that are newer than the note are replaced once more."""
    note = lake.derived("published.json").read_text()
    derived(lake, scan([record(1), record(4)], observed_at=NOON + timedelta(hours=3)))
    publish(lake)
    lake.derived("published.json").write_text(note)
    assert published(lake) == [(DAY, 2), (DAY + NEXT, 2)]
    assert publish(lake, force=False) is False


def test_warehouse_is_published_anew_by_another_version(lake: Lake):
    file = lake.derived("published.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"made_by": "another version"}))
    assert publish(lake, force=False)
    assert publish(lake, force=False) is False
