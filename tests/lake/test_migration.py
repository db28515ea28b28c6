"""Lakes that an older version wrote: read, brought up to date, and refused by what is older than they."""

import json
import shutil
import zipfile
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import Archive
from pipeline.access.query import ask
from pipeline.emulator import World
from pipeline.emulator.truth import differences
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.migration import up_to_date
from pipeline.model.records import Partition
from pipeline.model.schema import (
    FORMAT_VERSION,
    HISTORY,
    LAKE_TABLES,
    LOOKUPS,
    MARTS,
    OPERATIONS,
    SLOT_COVERAGE,
)
from pipeline.outputs.views import ask_lake
from pipeline.quality.status import status
from pipeline.rebuild import rebuild
from pipeline.sync import sync
from tests.support.archives import account as emulated
from tests.support.archives import rows, states, sync_all
from tests.support.disks import Crash, CrashingDisk
from tests.support.factories import at, snapshot

START = at("2026-09-01")
WORLD = World(77, 25.0, START, end=START + timedelta(days=3))
SYNCS = [START + timedelta(hours=9 * n) for n in range(1, 9)]
NOW = START + timedelta(hours=81)


@pytest.fixture
def old(tmp_path: Path) -> Lake:
    """What 0.1.0 left: format 1, with a scan of each day that is not merged yet."""
    lake = unpacked(1, tmp_path / "lake")
    assert len(lake.pending()) == 3
    return lake


def unpacked(version: int, folder: Path) -> Lake:
    """A stored lake of that format."""
    with zipfile.ZipFile(Path(__file__).parent / "old_lakes" / f"format-{version}.zip") as packed:
        packed.extractall(folder)
    lake = Lake(folder)
    assert lake.version() == version
    return lake


def test_older_lake_can_be_read_as_it_is(old: Lake):
    operations = Archive(old.root).operations()
    assert len(operations) == operations["operation_id"].nunique() == 87
    assert len(Archive(old.root).history()) > 87
    assert len(Archive(old.root).coverage()) == 64
    assert old.version() == 1


def test_status_of_an_older_lake_says_what_to_do(old: Lake):
    with pytest.raises(LakeError, match="has format 1, written by an older version: bring it to"):
        status(old, NOW)


def test_sync_goes_on_with_an_older_lake_and_loses_nothing(old: Lake):
    """R1, R2: states that 0.1.0 saw are all there, and so is what it had landed and not merged."""
    before = states(rows(old.root, HISTORY))
    with emulated(WORLD, NOW, old.root) as (emulator, settings):
        assert sync(settings).ok
        emulator.clock.step(timedelta(hours=9))
        assert sync_all(settings, publishing=True).ok
        moments = [*SYNCS, NOW, emulator.clock.now()]
    assert old.version() == FORMAT_VERSION
    assert old.pending() == set()
    assert before < states(rows(old.root, HISTORY))
    assert differences(WORLD, rows(old.root, OPERATIONS), START, moments) == []


def test_publishing_adds_tables_unknown_to_an_older_version(old: Lake):
    """The same as if this version had made the lake: slots from the scans, and every delivery table."""
    rebuild(old)
    assert old.version() == FORMAT_VERSION
    found = ask(
        old, "SELECT state, count(*) AS slots FROM coverage_slots GROUP BY ALL ORDER BY ALL"
    )
    assert sum(found["slots"].to_pylist()) > 72
    (account,) = status(old, NOW).accounts
    assert (account.operations, account.waiting, account.gaps) == (87, 0, 0)
    operations = rows(old.root, OPERATIONS).num_rows
    for mart in MARTS:
        assert rows(old.root, mart).num_rows > 0, mart.name
    daily = ask(old, "SELECT sum(operations)::BIGINT AS operations FROM delivery_daily").to_pylist()
    assert daily == [{"operations": operations}]


def test_version_is_written_last_and_a_crash_begins_anew(old: Lake):
    """R5"""
    whole = Lake(old.root.with_name("whole"))
    shutil.copytree(old.root, whole.root)
    up_to_date(whole)
    steps = 0
    while True:
        steps += 7
        disk = CrashingDisk(steps)
        lake = Lake(old.root, type(old.files)(disk))
        try:
            up_to_date(lake)
        except Crash:
            assert lake.version() == 1
        else:
            break
    assert steps > 7
    assert lake.version() == FORMAT_VERSION
    assert snapshot(lake, LAKE_TABLES) == snapshot(whole, LAKE_TABLES)


def test_damaged_day_does_not_keep_the_others_from_this_version(
    old: Lake, caplog: pytest.LogCaptureFixture
):
    next((old.root / "coverage").rglob("created_date=2026-09-02/*.parquet")).write_bytes(b"PAR1")
    up_to_date(old)
    assert old.version() == FORMAT_VERSION
    assert "created_date=2026-09-02/part-0.parquet is damaged" in caplog.text
    days = {partition.day.isoformat() for partition in old.partitions("slot_coverage")}
    assert {"2026-09-01", "2026-09-03"} <= days


def test_lake_of_this_version_is_refused_by_older_versions(tmp_path: Path):
    lake = up_to_date(Lake(tmp_path / "lake"))
    text = json.loads((lake.root / "lake.json").read_text())
    assert text == {"format": FORMAT_VERSION}
    (lake.root / "lake.json").write_text(json.dumps({"format": FORMAT_VERSION + 1}))
    for use in (lambda: up_to_date(lake), lake.must_exist):
        with pytest.raises(LakeError, match="written by a newer version"):
            use()
    assert {table.name for table in LAKE_TABLES} & {p.name for p in lake.root.iterdir()} == set()


@pytest.mark.parametrize("version", [1, 2])
def test_migrated_lake_has_at_most_five_hidden_names(tmp_path: Path, version: int):
    """What older versions kept beside the tables is removed."""
    lake = unpacked(version, tmp_path / "lake")
    for name in (".columns", ".marts", ".published"):
        (lake.root / name).write_text("{}")
    for name in (".cache", ".sources"):
        (lake.root / name).mkdir()
        (lake.root / name / "file").touch()
    rebuild(lake)
    hidden = {path.name for path in lake.root.iterdir() if path.name.startswith(".")}
    assert hidden <= {".derived", ".locks", ".pending", ".set-aside", ".tmp"}


def test_lake_of_format_2_equals_itself_with_its_fetched_state_newest(tmp_path: Path):
    """R1, R2, R3: nothing is lost, and the operation that was canceled after its deadline is."""
    lake = unpacked(2, tmp_path / "lake")
    facts = [table for table in LAKE_TABLES if table is not SLOT_COVERAGE]
    before = snapshot(lake, facts)
    up_to_date(lake)
    after = snapshot(lake, facts)
    assert lake.version() == FORMAT_VERSION
    changed = {key for key, content in before.items() if after[key] != content}
    day = "AC00000000000000000000000000000001 2026-09-01"
    assert changed == {f"history {day}", f"operations {day}"}
    statuses = [Counter(r["status"] for r in one[f"operations {day}"]) for one in (before, after)]
    assert statuses == [{"COMPLETED": 66, "SCHEDULED": 1}, {"COMPLETED": 66, "CANCELED": 1}]
    (found,) = (row for row in after[f"operations {day}"] if row["status"] == "CANCELED")
    assert found["looked_up_at"] == found["observed_at"]
    assert [row for row in after[f"history {day}"] if row["looked_up_at"]] == [found]


def test_publishing_finishes_what_a_format_2_lake_began(tmp_path: Path):
    """R5: what a killed merge left is done, and the days it had landed are in."""
    lake = unpacked(2, tmp_path / "lake")
    _, errors = rebuild(lake)
    assert not errors
    assert lake.pending() == lake.with_work(DERIVE) == set()
    known = ask(lake, "SELECT status, count(*) AS n FROM operations GROUP BY ALL ORDER BY ALL")
    assert {"status": "CANCELED", "n": 1} in known.to_pylist()
    query = "SELECT count(*) AS n FROM history WHERE looked_up_at IS NOT NULL"
    assert ask(lake, query).to_pylist() == [{"n": 1}]


def lookups_of(lake: Lake) -> Counter[tuple[str, bool, bool]]:
    """The lookups by subject, and whether they have a time of a 404 and an error."""
    found = ask_lake(lake, (LOOKUPS,), "FROM lookups").to_pylist()
    assert all(row["requested_at"] for row in found)
    return Counter(
        (row["subject"], row["not_found_at"] is not None, row["error"] is not None) for row in found
    )


MERGED = {("errors", False, False): 6, ("errors", False, True): 2}
"""What format 3 stored, and below what it had landed too."""
ALL = MERGED | {("errors", False, False): 8, ("operation", True, False): 1}


def test_lookups_of_format_3_are_read_under_their_new_names(tmp_path: Path):
    lake = unpacked(3, tmp_path / "lake")
    assert lookups_of(lake) == MERGED
    assert rows(lake.root, LOOKUPS).num_rows == 8
    assert lake.version() == 3


def test_lookups_of_format_3_are_migrated_and_landed_ones_merged(tmp_path: Path):
    """R1"""
    lake = unpacked(3, tmp_path / "lake")
    before = snapshot(lake, LAKE_TABLES)
    up_to_date(lake)
    assert snapshot(lake, LAKE_TABLES) == before
    for partition in lake.partitions(LOOKUPS.name):
        assert tuple(pq.read_schema(lake.part(LOOKUPS, partition)).names) == LOOKUPS.names
    _, errors = rebuild(lake)
    assert (errors, lake.pending(), lake.version()) == ((), set(), FORMAT_VERSION)
    assert lookups_of(lake) == ALL
    query = "SELECT count(not_found_at) AS not_found, count(error) AS failed FROM lookups"
    assert ask(lake, query).to_pylist() == [{"not_found": 1, "failed": 2}]


def test_file_with_old_names_put_back_is_read_and_merged(tmp_path: Path):
    """R1: as a backup of a day is that was made before the migration."""
    lake = up_to_date(unpacked(3, tmp_path / "lake"))
    shutil.copytree(
        unpacked(3, tmp_path / "backup").root / "lookups", lake.root / "lookups", dirs_exist_ok=True
    )
    assert lookups_of(lake) == MERGED
    _, errors = rebuild(lake)
    assert errors == ()
    assert lookups_of(lake) == ALL
    merged = lake.part(LOOKUPS, Partition("AC0123456789abcdef0123456789abcdef", date(2026, 9, 3)))
    assert tuple(pq.read_schema(merged).names) == LOOKUPS.names
