"""The archive under its refresh policy: nothing is lost while it runs, and what is lost is named."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from pipeline.access.query import ask
from pipeline.emulator import Emulator, World
from pipeline.lake.layout import Lake
from pipeline.model.schema import OPERATIONS
from pipeline.model.windows import deadline, slot_start
from pipeline.settings import Settings
from pipeline.sync import sync
from tests.support.archives import account, rows
from tests.support.factories import at, snapshot

HOUR = timedelta(hours=1)
START = at("2026-11-10")
WORLD = World(21, 120.0, START)
BEGUN = START + 8 * HOUR


def run(emulator: Emulator, settings: Settings, until: datetime, every: timedelta) -> None:
    """Sync what is due at every tick until a moment; the delivery tables can wait."""
    while emulator.clock.now() <= until:
        assert sync(settings, publishing=False).ok
        emulator.clock.step(every)


def gaps(data: Path) -> list[datetime]:
    query = "SELECT slot FROM coverage_slots WHERE state = 'gap' ORDER BY slot"
    return [row["slot"] for row in ask(Lake(data), query).to_pylist()]


@pytest.fixture(scope="module")
def until_the_outage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, datetime]:
    """An archive that was synced every two hours for 40, and when it was the last time."""
    data = tmp_path_factory.mktemp("until") / "data"
    with account(WORLD, BEGUN, data) as (emulator, settings):
        run(emulator, settings, BEGUN + 39 * HOUR, 2 * HOUR)
        return data, emulator.clock.now() - 2 * HOUR


@pytest.mark.parametrize(
    "days_off", [*(pytest.param(n, marks=pytest.mark.slow) for n in (2, 6, 8)), 10]
)
def test_outage_loses_exactly_the_expired_slots_and_names_them(
    tmp_path: Path, until_the_outage: tuple[Path, datetime], days_off: int
):
    """R1, R4: off for so many days; what could still be asked for is there, the rest is a gap for ever."""
    data, last = until_the_outage
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    back = last + timedelta(days=days_off)
    with account(WORLD, back, tmp_path) as (emulator, settings):
        assert sync(settings).ok

        # What nobody could have seen: hours not yet over at the last scan whose deadline passed since.
        hours = int((back - START) / HOUR)
        slots = [START + n * HOUR for n in range(hours)]
        expected = [slot for slot in slots if slot + HOUR > last and deadline(slot) <= back]
        assert gaps(tmp_path) == expected
        assert bool(expected) == (days_off > 7)

        numbers = range(WORLD.existing(back).stop)
        known = set(rows(tmp_path, OPERATIONS)["operation_id"].to_pylist())
        missing = [one for one in WORLD.records(numbers, back) if one["id"] not in known]
        created = {slot_start(datetime.fromisoformat(one["createdAt"])) for one in missing}
        assert created <= set(expected)

        # Going on afterwards never claims them.
        emulator.clock.step(3 * HOUR)
        assert sync(settings).ok
        assert set(expected) <= set(gaps(tmp_path))


@pytest.mark.slow
def test_running_archive_gives_every_slot_its_final_scan(tmp_path: Path):
    """R4: nine days of ticks; every slot past its deadline is final, and equals its last moment."""
    with account(WORLD, BEGUN, tmp_path) as (emulator, settings):
        run(emulator, settings, BEGUN + timedelta(days=9), 5 * HOUR)
        assert sync(settings).ok
        now = emulator.clock.now()
        query = "SELECT DISTINCT state FROM coverage_slots WHERE deadline <= as_of AND slot >= '2026-11-10'"
        assert ask(Lake(tmp_path), query).to_pylist() == [{"state": "final"}]
        compacted = ask(Lake(tmp_path), "SELECT created_date FROM coverage_days WHERE compacted")
        assert {"2026-11-10", "2026-11-11"} <= {
            str(r["created_date"]) for r in compacted.to_pylist()
        }
        found = {row["operation_id"]: row for row in rows(tmp_path, OPERATIONS).to_pylist()}
    assert len(found) == len(WORLD.existing(now))
    settled = WORLD.numbers(START, now - timedelta(days=7, hours=1))
    behind = 0
    for number in settled:
        ((operation_id, at_scan),) = [
            (one["id"], one) for one in WORLD.records([number], found_at(found, number))
        ]
        assert found[operation_id]["opened"] == at_scan["stats"]["opened"]
        last = deadline(datetime.fromisoformat(at_scan["createdAt"])) - timedelta(seconds=1)
        (truth,) = WORLD.records([number], last)
        behind += truth["stats"]["opened"] - at_scan["stats"]["opened"]
    # The final scans come hours before the deadline: almost nothing opens after them.
    assert behind <= 0.005 * sum(row["opened"] for row in found.values())


def found_at(found: dict[str, dict[str, datetime]], number: int) -> datetime:
    """When the archive saw the newest state of an operation."""
    (record,) = WORLD.records([number], at("2027-01-01"))
    return found[record["id"]]["observed_at"]


def test_nothing_due_costs_one_request(tmp_path: Path):
    with account(WORLD, START + 30 * HOUR, tmp_path) as (emulator, settings):
        sync(settings, publishing=False)
        before = len(emulator.requests)
        emulator.clock.step(timedelta(minutes=5))
        report = sync(settings, publishing=False)
        assert report.extraction.scans == ()
        assert [r.query for r in emulator.requests[before:]] == [{"pageSize": "1"}]


@pytest.mark.slow
def test_wrong_clock_of_this_machine_changes_nothing(tmp_path: Path):
    """R10: three days fast or slow, the archive is the same, in what it asks and in what it holds."""
    right = at("2026-11-18 10:00")
    asked, found = [], []
    for number, wrong in enumerate((timedelta(days=-3), timedelta(), timedelta(days=3))):
        data = tmp_path / str(number)
        with (
            time_machine.travel(right + wrong, tick=True),
            account(WORLD, right, data) as (emulator, settings),
        ):
            for _ in range(4):
                assert sync(settings, publishing=False).ok
                emulator.clock.step(4 * HOUR)
            asked.append([(one.path, one.query) for one in emulator.requests])
            found.append(snapshot(Lake(data)))
    assert sorted(map(str, asked[0])) == sorted(map(str, asked[1])) == sorted(map(str, asked[2]))
    assert found[0] == found[1] == found[2]
