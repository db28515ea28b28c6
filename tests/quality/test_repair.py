"""The way back for an archive that a wrong clock has dated: `email-archive repair`."""

import json
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.access.query import ask
from pipeline.errors import UsageError
from pipeline.lake import parquet
from pipeline.lake.files import Files
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.model.records import LookupBatch
from pipeline.model.schema import COVERAGE, HISTORY, LOOKUPS, OPERATION_ERRORS, OPERATIONS, REJECTS
from pipeline.model.windows import RETENTION
from pipeline.quality.repair import Bounds, find, repair
from pipeline.quality.status import status
from tests.extract.test_clock import DAY, HOUR, YEAR_9966, Api, poisoned
from tests.support.archives import rows, states
from tests.support.cases import some
from tests.support.command import run
from tests.support.disks import Crash, CrashingDisk
from tests.support.factories import (
    ACCOUNT,
    NOON,
    PARTITION,
    at,
    derived,
    new_lake,
    record,
    scan,
    snapshot,
)

LATER = NOON + 400 * DAY
BOUNDS = Bounds(NOON + 10 * DAY)


def sorted_by_id(scans: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(scans, key=lambda scan: scan["scan_id"])


def answers(lake: Lake, sql: str) -> list[dict[str, Any]]:
    return ask(lake, sql).to_pylist()


@pytest.mark.parametrize("wrong_by", some([3 * DAY, YEAR_9966, 400 * DAY], 1), ids=str)
def test_repaired_archive_is_as_if_the_clock_had_never_been_wrong(
    tmp_path: Path, wrong_by: timedelta
):
    """R1, R4: coverage, delivery tables, `status` and what the next sync does."""
    api, right = poisoned(tmp_path / "wrong", wrong_by), Api(tmp_path / "right")
    right.sync()
    right.clock.step(2 * HOUR)
    now = api.clock.now()
    before = states(rows(api.data, HISTORY))
    done = repair(api.lake, Bounds.by(now), "first")
    assert done.found
    assert done.errors == ()
    assert find(api.lake, Bounds.by(now)) == ()
    assert states(rows(api.data, HISTORY)) == before
    reports = [one.sync(publishing=True) for one in (api, right)]
    assert [report.ok for report in reports] == [True, True]
    assert reports[0].summary()["windows"] == reports[1].summary()["windows"]
    queries = ["FROM coverage_slots ORDER BY slot", "FROM coverage_days ORDER BY created_date"]
    if wrong_by > RETENTION:
        # Otherwise the wrong scans were of days that have operations, and their states stay.
        assert snapshot(api.lake) == snapshot(right.lake)
        queries.append("FROM delivery_daily ORDER BY created_date")
    for query in queries:
        assert answers(api.lake, query) == answers(right.lake, query)
    found = status(api.lake, now)
    assert found.ok
    assert found.accounts[0].last_day == now.date()


def test_what_was_set_aside_is_kept_as_it_was(tmp_path: Path):
    """R1"""
    api = poisoned(tmp_path, 400 * DAY)
    limit = api.clock.now() + DAY
    scans = [row for row in rows(tmp_path, COVERAGE).to_pylist() if row["observed_at"] > limit]
    done = repair(api.lake, Bounds.by(api.clock.now()), "first")
    assert done.folder == tmp_path / ".set-aside" / "first"
    kept = [parquet.read(file, COVERAGE.arrow) for file in done.folder.glob("coverage/*/*/*")]
    assert sorted_by_id(row for table in kept for row in table.to_pylist()) == sorted_by_id(scans)
    assert sum(one.rows["coverage"] for one in done.found) == len(scans)


def test_scan_of_a_far_past_is_set_aside_by_its_time(tmp_path: Path):
    """It can't be told from a true one by itself, and makes gaps of all days since."""
    api = poisoned(tmp_path, -6 * 365 * DAY)
    api.sync(publishing=True)
    gaps = "SELECT count(*) AS n FROM coverage_slots WHERE state = 'gap'"
    assert answers(api.lake, gaps)[0]["n"] > 2000 * 24
    assert find(api.lake, Bounds.by(api.clock.now())) == ()
    repair(api.lake, Bounds.by(api.clock.now(), before=at("2026-01-01")), "first")
    assert answers(api.lake, gaps) == [{"n": 0}]


def test_state_of_a_wrong_time_gives_way_to_a_later_one(tmp_path: Path):
    """R1, R3: of equal `updated_at` the latest seen is the newest, and this would be it for ever."""
    early, late = record(1, stats={"opened": 0}), record(1, stats={"opened": 1})
    lake = derived(new_lake(tmp_path), scan([early], observed_at=LATER))
    repair(lake, BOUNDS, "first")
    (operation,) = rows(lake.root, OPERATIONS).to_pylist()
    assert operation["observed_at"] == operation["updated_at"] == NOON + timedelta(minutes=1)
    assert rows(lake.root, COVERAGE).num_rows == 0
    derived(lake, scan([late], observed_at=NOON + HOUR))
    assert rows(lake.root, OPERATIONS)["opened"].to_pylist() == [1]
    assert rows(lake.root, HISTORY)["opened"].to_pylist() == [0, 1]


def test_state_seen_before_its_creation_is_redated(tmp_path: Path):
    """A Date of years back, on a day that was asked for: no bound is needed to tell."""
    lake = derived(new_lake(tmp_path), scan([record(1)], observed_at=NOON - 2000 * DAY))
    derived(lake, scan([record(1), record(2)], observed_at=NOON + HOUR))
    done = repair(lake, BOUNDS, "first")
    assert dict(done.found[0].rows) == {"coverage": 1, "history": 1, "operations": 1}
    seen = rows(lake.root, OPERATIONS).to_pylist()
    assert [row["observed_at"] for row in seen] == [NOON + timedelta(minutes=1), NOON + HOUR]


def test_rejects_stay_and_are_dated_anew(tmp_path: Path):
    """R1, R9"""
    broken = record(1) | {"stats": None}
    lake = derived(new_lake(tmp_path), scan([broken, record(2)], observed_at=LATER))
    repair(lake, BOUNDS, "first")
    (reject,) = rows(lake.root, REJECTS).to_pylist()
    assert NOON.date() == reject["observed_at"].date()


def test_lookups_of_a_wrong_time_are_repeated(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1, stats={"failed": 1})]))
    (found,) = scan([record(1)], observed_at=LATER).operations.to_pylist()
    lookup = {
        "operation_id": found["operation_id"],
        "subject": "errors",
        "requested_at": LATER,
        "failed": 1,
        "not_found_at": None,
        "error": None,
    }
    table = LOOKUPS.arrow.empty_table().from_pylist([lookup], schema=LOOKUPS.arrow)
    empty = scan([])
    land_lookups(
        lake,
        LookupBatch(
            PARTITION,
            LATER,
            empty.operations,
            empty.rejects,
            table,
            OPERATION_ERRORS.arrow.empty_table(),
            1,
        ),
    )
    merge(lake, PARTITION)
    assert not lake.with_pending_lookups()
    repair(lake, BOUNDS, "first")
    assert rows(lake.root, LOOKUPS).num_rows == 0
    assert lake.with_pending_lookups() == {PARTITION}


@pytest.mark.parametrize(
    ("observed_at", "bounds"),
    [
        pytest.param(NOON - 2000 * DAY, Bounds(NOON + DAY, NOON + 2 * HOUR), id="too early"),
        pytest.param(NOON + HOUR, Bounds(NOON), id="updated too late"),
        pytest.param(NOON + HOUR, Bounds(NOON - 3 * HOUR), id="created too late"),
    ],
)
def test_repair_leaves_nothing_to_repair(tmp_path: Path, observed_at: datetime, bounds: Bounds):
    """Also where the time of the last update, which dates a state anew, is impossible itself."""
    lake = derived(new_lake(tmp_path), scan([record(1)], observed_at=observed_at))
    assert repair(lake, bounds, "first").found
    assert find(lake, bounds) == ()
    assert rows(lake.root, OPERATIONS).num_rows == 1


class FilesOfTwo(Files):
    """Somebody else merges a right scan just before a repair holds the lock of its day."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root, self._has_merged = root, False

    def locked(self, lock_file: Path, what: str) -> AbstractContextManager[None]:
        if what == str(PARTITION) and not self._has_merged:
            self._has_merged = True
            derived(Lake(self._root), scan([record(1)]))
        return super().locked(lock_file, what)


def test_sync_merging_during_a_repair_loses_nothing(tmp_path: Path):
    """R1, R5"""
    lake = derived(new_lake(tmp_path), scan([], observed_at=LATER))
    repair(Lake(lake.root, FilesOfTwo(lake.root)), BOUNDS, "first")
    assert rows(lake.root, OPERATIONS).num_rows == 1
    assert rows(lake.root, COVERAGE)["observed_at"].to_pylist() == [scan([]).facts.observed_at]


def test_empty_bounds_are_refused():
    with pytest.raises(UsageError, match="no scan would be left"):
        Bounds.by(NOON, before=NOON + DAY)


def test_what_landed_and_was_not_merged_is_repaired_too(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    land(lake, scan([record(1), record(2)], observed_at=LATER))
    done = repair(lake, BOUNDS, "first")
    assert dict(done.found[0].rows) == {"coverage": 1, "history": 1, "operations": 1}
    assert rows(lake.root, OPERATIONS).num_rows == 2


def mixed(folder: Path) -> Lake:
    """An archive with a day of right and wrong times, and one of wrong times alone."""
    folder.mkdir()
    day = LATER.date()
    empty = scan([], observed_at=LATER)
    window = replace(empty.facts.window, start=at(f"{day}"), end=at(f"{day}") + HOUR)
    wrong = replace(empty, facts=replace(empty.facts, window=window))
    return derived(
        new_lake(folder),
        scan([record(1)]),
        scan([record(1, stats={"opened": 1}), record(2)], observed_at=LATER),
        wrong,
    )


def test_killed_repair_is_finished_by_the_next(tmp_path: Path, steps_to_try: int):
    """R5: killed before each of its steps, or before some of them."""
    shutil.copytree(mixed(tmp_path / "before").root, tmp_path / "done")
    done = Lake(tmp_path / "done")
    disk = CrashingDisk(0)
    repair(Lake(done.root, Files(disk)), BOUNDS, "first")
    expected = snapshot(done)
    assert {key for key in expected if str(LATER.date()) in key} == set()
    for moment in range(1, disk.count, steps_to_try):
        lake = Lake(shutil.copytree(tmp_path / "before" / "lake", tmp_path / str(moment)))
        with pytest.raises(Crash):
            repair(Lake(lake.root, Files(CrashingDisk(moment))), BOUNDS, "first")
        repair(Lake(lake.root), BOUNDS, "second")
        assert snapshot(lake) == expected, f"killed before step {moment}"


def test_command_shows_first_and_repairs_on_request(tmp_path: Path):
    lake = new_lake(tmp_path)
    derived(lake, scan([record(1)]), scan([record(2)], observed_at=at("2091-11-20")))
    before = snapshot(lake)
    arguments = ("repair", "--data", str(lake.root), "--after", "2090-01-01")
    shown = run(*arguments, cwd=tmp_path)
    assert shown.returncode == 1
    assert f"{ACCOUNT}: impossible times from 2091-11-20T00:00:00Z" in shown.stdout
    assert "coverage: 1 row to remove" in shown.stdout
    assert "email-archive repair --apply" in shown.stdout
    assert snapshot(lake) == before
    done = run(*arguments, "--apply", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"are in {lake.root / '.set-aside'}" in done.stdout
    assert rows(lake.root, COVERAGE).num_rows == 1
    again = run(*arguments, "--json", cwd=tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout)["found"] == []


def test_command_does_not_set_aside_every_scan_by_the_clock_alone(tmp_path: Path):
    """It may be this machine's that is wrong."""
    lake = derived(new_lake(tmp_path), scan([record(1)], observed_at=at("2091-11-20")))
    done = run("repair", "--apply", "--data", str(lake.root), cwd=tmp_path)
    assert done.returncode == 2
    assert "every scan of" in done.stderr
    assert rows(lake.root, COVERAGE).num_rows == 1
