"""verify(): what the API knows, compared with what the archive has."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline.emulator import Emulator, World
from pipeline.errors import UsageError
from pipeline.extract.scan import ScanResult, scan_windows
from pipeline.lake.landing import land
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.schema import OPERATIONS
from pipeline.model.windows import Window
from pipeline.quality.verify import Comparison, Verification, verify
from pipeline.settings import Settings
from pipeline.sync import Range, sync
from pipeline.twilio.client import OperationsClient
from tests.support.archives import account, rows, sync_all
from tests.support.cases import some
from tests.support.factories import ACCOUNT, NOON, at, body, landed, operation_id, record, scan
from tests.support.scripted_api import Answer, Received, scripted

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 400.0, START)


@pytest.fixture
def archived(tmp_path: Path) -> Iterator[tuple[Emulator, Settings]]:
    """An account whose archive knows all of it, up to now."""
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        sync(settings, publishing=False)
        yield emulator, settings


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def created(world: World, start: datetime, end: datetime) -> int:
    return len(world.numbers(start, end))


def test_just_synced_archive_is_current(archived: tuple[Emulator, Settings]):
    _, settings = archived
    found = verify(settings)
    known = created(WORLD, START, NOW)
    assert found.ok
    assert found.total == Comparison(listed=known, current=known)
    assert {day: one.listed for day, one in found.days.items() if one.listed} == {
        (START + n * DAY).date(): created(WORLD, START + n * DAY, min(START + (n + 1) * DAY, NOW))
        for n in range(5)
    }
    assert (found.start, found.end) == (NOW - 7 * DAY, NOW)


@pytest.mark.parametrize("past_the_hour", some([0, 59, 1, 30], 2))
def test_first_sync_takes_everything_the_api_knows(tmp_path: Path, past_the_hour: int):
    """The hour that was 7 days ago too: its last operations are younger than that."""
    now = START + 8 * DAY + 5 * HOUR + timedelta(minutes=past_the_hour)
    with account(WORLD, now, tmp_path) as (_, settings):
        sync(settings, publishing=False)
        found = verify(settings)
    assert found.total.listed >= created(WORLD, now - 7 * DAY, now) > 0
    assert (found.total.missing, found.total.outdated) == (0, 0)


def test_verifying_changes_nothing(archived: tuple[Emulator, Settings]):
    emulator, settings = archived
    before = content(settings.data)
    emulator.clock.step(5 * HOUR)
    assert verify(settings).total.outdated > 0
    assert content(settings.data) == before


def test_states_changed_since_are_outdated(archived: tuple[Emulator, Settings]):
    """Just those that a sync would change."""
    emulator, settings = archived
    emulator.clock.step(30 * timedelta(minutes=1))
    found = verify(settings, end=NOW)
    report = sync_all(settings, publishing=False)
    changed = sum(merge.changed for merge in report.merges)
    assert found.total.outdated == changed > 0
    assert found.total.current == created(WORLD, START, NOW) - changed
    assert found.total.listed == created(WORLD, START, NOW)
    assert found.ok


def test_operation_since_the_last_scan_is_outdated_not_missing(
    archived: tuple[Emulator, Settings],
):
    emulator, settings = archived
    emulator.clock.step(3 * HOUR)
    found = verify(settings, start=NOW)
    assert not found.ok
    assert found.total.outdated == created(
        WORLD, NOW + 2 * HOUR + timedelta(seconds=1), NOW + 3 * HOUR
    )
    assert found.total.missing == created(WORLD, NOW, NOW + 2 * HOUR + timedelta(seconds=1)) > 0
    assert len(found.missing) == found.total.missing
    assert list(found.missing) == sorted(found.missing)
    known = set(rows(settings.data, OPERATIONS)["operation_id"].to_pylist())
    assert not known & {one.operation_id for one in found.missing}
    sync(settings, publishing=False)
    assert verify(settings).ok


def test_young_operation_within_a_scan_is_missing(tmp_path: Path):
    """It appeared late, or was lost: the scan that covers its creation did not bring it."""
    now = NOON + timedelta(minutes=30)
    young = record(2, created_at=NOON + timedelta(minutes=5))
    younger = record(3, created_at=NOON + timedelta(minutes=20))
    sync_at = NOON + timedelta(minutes=10)
    lake = landed(Lake(tmp_path).open(), scan([record(1)], observed_at=sync_at))
    found = against(lake, now, record(1), young, younger)
    assert [one.operation_id for one in found.missing] == [operation_id(2)]
    assert found.total == Comparison(listed=3, current=1, outdated=1, missing=1)


def against(lake: Lake, now: datetime, *records: dict) -> Verification:
    """Verify a lake's day against an API that tells these records at a moment."""
    answer = Answer(body(records), date=f"{now:%a, %d %b %Y %H:%M:%S} GMT")
    with scripted([answer]) as server:
        settings = Settings(
            account_sid=ACCOUNT,
            auth_token="t",
            api_url=server.url,
            data=lake.root,
            trust_clock=True,
        )
        return verify(settings, start=NOON, end=NOON + HOUR)


def test_state_newer_than_the_apis_is_current(tmp_path: Path):
    """A stale replica's, known or not: R2 would not let it replace the newer one."""
    late = NOON + 2 * HOUR
    lake = landed(
        Lake(tmp_path).open(),
        scan([record(1, updated_at=NOON + HOUR)], observed_at=late),
        scan([record(2), record(2, updated_at=NOON + HOUR)], observed_at=late),
    )
    found = against(lake, late, record(1), record(2))
    assert found.total == Comparison(listed=2, current=2)
    assert found.ok


def test_operation_omitted_by_the_api_is_unlisted(
    archived: tuple[Emulator, Settings],
):
    emulator, settings = archived
    emulator.clock.set(START + 20 * DAY)
    found = verify(settings, start=START, end=START + DAY)
    assert found.total == Comparison(unlisted=created(WORLD, START, START + DAY))
    assert found.ok


def test_what_landed_and_is_not_merged_yet_is_known(tmp_path: Path):
    with account(WORLD, NOW, tmp_path) as (_, settings):
        lake = Lake(tmp_path).open()
        day = Window.of_day(START.date())
        with OperationsClient(settings) as client:
            for listing in scan_windows(client, settings.account_sid, [day], concurrency=1):
                assert isinstance(listing, ScanResult)
                land(lake, listing.scan)
        found = verify(settings, start=START, end=START + DAY)
        assert found.total.current == found.total.listed == created(WORLD, START, START + DAY)
        assert rows(tmp_path, OPERATIONS).num_rows == 0


def test_cut_window_is_compared_part_by_part(tmp_path: Path):
    with account(WORLD, NOW, tmp_path, page_size=7) as (_, settings):
        sync(settings, scope=Range(START, START + DAY), publishing=False)
        found = verify(settings, start=START, end=START + DAY)
        known = created(WORLD, START, START + DAY)
        assert known > 20 * 7
        assert found.total == Comparison(listed=known, current=known)
        assert found.requests > known / 7


def test_unreadable_records_are_counted(tmp_path: Path):
    """R9"""
    lake = landed(Lake(tmp_path).open(), scan([record(1)]))
    found = against(lake, NOON + 3 * HOUR, record(1), record(2, status=None))
    assert found.total == Comparison(listed=1, current=1, rejects=1)


def test_failed_window_is_reported_and_the_others_compared(tmp_path: Path):
    lake = landed(Lake(tmp_path).open(), scan([record(1)]))
    now = NOON + 3 * HOUR
    good = Answer(body([record(1)]), date=f"{now:%a, %d %b %Y %H:%M:%S} GMT")

    def answer(request: Received) -> Answer:
        fails = request.query.get("startDate", "").startswith("2026-11-17")
        return Answer(status=500, date=good.date) if fails else good

    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT,
            auth_token="t",
            api_url=server.url,
            data=lake.root,
            retry_attempts=1,
            trust_clock=True,
        )
        found = verify(settings)
    assert not found.ok
    assert [failure.window for failure in found.failures] == [
        Window.of_day(at("2026-11-18").date())
    ]
    assert found.total == Comparison(listed=1, current=1)


@pytest.mark.parametrize(
    "bounds", [{"start": NOW + HOUR}, {"start": NOW}, {"end": NOW - 8 * DAY}], ids=str
)
def test_range_with_nothing_to_compare_is_a_usage_error(
    bounds: dict[str, datetime], archived: tuple[Emulator, Settings]
):
    """R9"""
    emulator, settings = archived
    before = len(emulator.requests)
    with pytest.raises(UsageError, match="expected a range that begins before it ends"):
        verify(settings, **bounds)
    assert len(emulator.requests) == before + 1


def test_damaged_file_of_the_archive_is_an_error(archived: tuple[Emulator, Settings]):
    _, settings = archived
    lake = Lake(settings.data)
    partition = next(iter(lake.partitions("history")))
    for damaged in (lake.landing_folder(partition) / "x.parquet", lake.part(OPERATIONS, partition)):
        damaged.parent.mkdir(parents=True, exist_ok=True)
        damaged.write_bytes(b"PAR1 but no more")
    with pytest.raises(LakeError, match=r"x\.parquet"):
        verify(settings)


def test_folder_without_an_archive_is_wrong_use(tmp_path: Path):
    with (
        account(WORLD, NOW, tmp_path / "none") as (_, settings),
        pytest.raises(UsageError, match="no archive"),
    ):
        verify(settings)


def test_figures_as_json_add_up(archived: tuple[Emulator, Settings]):
    emulator, settings = archived
    emulator.clock.step(3 * HOUR)
    found = json.loads(json.dumps(verify(settings).as_json()))
    kinds = ("current", "outdated", "missing")
    for one in (found, *found["days"]):
        assert one["listed"] == sum(one[kind] for kind in kinds)
    assert sum(day["missing"] for day in found["days"]) == found["missing"] > 0
    assert len(found["missing_operations"]) == found["missing"]
    assert found["ok"] is False
    assert (found["since"], found["until"]) == ("2026-11-07T18:00:00Z", "2026-11-14T18:00:00Z")
