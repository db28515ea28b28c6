"""Real processes, killed: what is on disk afterwards, and that the next sync heals it."""

import multiprocessing
import random
import subprocess
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.emulator import Options, World
from pipeline.lake import landing
from pipeline.lake.layout import DERIVE, Lake
from pipeline.model.schema import HISTORY, OPERATIONS, REJECTS
from pipeline.settings import Settings
from tests.conftest import Figures
from tests.end_to_end.busy import dagster_job, run_dagster
from tests.support.archives import account, rows, states, sync_all, unlike_truth
from tests.support.factories import PARTITION, at, new_lake, record, scan

# Started afresh for each process, but with everything imported: kills hit the sync, not its imports.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["pipeline.sync", "pipeline.outputs.warehouse", "tests.support.archives"]
)

START = at("2026-11-10")


def run_sync(settings: Settings) -> None:
    assert sync_all(settings, publishing=True).ok


def started(settings: Settings) -> "multiprocessing.process.BaseProcess":
    process = context.Process(target=run_sync, args=(settings,))
    process.start()
    return process


def landed_states(lake: Lake) -> set[tuple[object, ...]]:
    """Every state that has landed and is not yet merged."""
    found: set[tuple[object, ...]] = set()
    for partition in lake.partitions("landing"):
        for path in lake.landed(partition):
            found |= states(landing.read(path).operations)
    return found


@pytest.mark.parametrize("kills", [9, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_syncs_lose_nothing_and_the_next_equals_the_truth(
    tmp_path: Path, kills: int, figures: Figures
):
    """R1, R5, R6: SIGKILL at random moments; whatever is on disk is whole, and nothing is lost."""
    world = World(9, 250.0, START)
    moments = random.Random(20261123)  # noqa: S311 - where to kill, not a secret
    with account(world, at("2026-11-13"), tmp_path) as (emulator, settings):
        lake = Lake(tmp_path)
        for _ in range(2):  # the second is the usual one: the first also starts the forkserver
            began = time.monotonic()
            process = started(settings)
            process.join()
            assert process.exitcode == 0
        usual = time.monotonic() - began

        seen: set[tuple[object, ...]] = set()
        killed = 0
        while killed < kills:
            emulator.clock.step(timedelta(hours=1))
            process = started(settings)
            process.join(moments.uniform(0.02, 0.95) * usual)
            process.kill()
            process.join()
            killed += process.exitcode == -9
            for part in tmp_path.rglob("*.parquet"):
                pq.read_table(part, partitioning=None)  # whole, or this raises
            seen |= landed_states(lake)
            history, operations = rows(tmp_path, HISTORY), rows(tmp_path, OPERATIONS)
            seen |= states(history)
            ids = operations["operation_id"].to_pylist()
            assert len(ids) == len(set(ids))
            # Nothing that was once on disk is ever gone from it.
            assert seen == states(history) | landed_states(lake)

        now = emulator.clock.now()
        assert now < START + timedelta(days=7)
        assert sync_all(settings, publishing=True).ok
        assert unlike_truth(emulator, tmp_path, START, [now]) == []
        assert seen <= states(rows(tmp_path, HISTORY))
        assert lake.pending() == set()
        assert lake.with_work(DERIVE) == set()
        assert [path for path in (tmp_path / ".tmp").rglob("*") if path.is_file()] == []
    figures("kills of syncs, survived", killed)


@pytest.fixture
def kills_of_dagster(request: pytest.FixtureRequest) -> int:
    return 20 if request.config.getoption("--every-step") else 3


@pytest.mark.slow
def test_killed_dagster_runs_lose_nothing_and_the_next_equals_the_truth(
    tmp_path: Path, kills_of_dagster: int, figures: Figures
):
    """R1, R5, R6: SIGKILL at random moments after some of the run's requests."""
    world = World(13, 200.0, START)
    moments = random.Random(4)  # noqa: S311 - where to kill, not a secret
    data = tmp_path / "lake"
    with account(world, START + timedelta(days=3), data, page_size=50) as (emulator, settings):
        killed = 0
        seen: set[tuple[object, ...]] = set()
        while killed < kills_of_dagster:
            emulator.clock.step(timedelta(hours=2))
            wanted = len(emulator.requests) + moments.randint(1, 25)
            with dagster_job(tmp_path / "dagster", settings, emulator.clock.now()) as process:
                while process.poll() is None and len(emulator.requests) < wanted:
                    wait(process, 0.01)
                wait(process, moments.choice([0.0, 0.1, 0.5, 2.0]))
                process.kill()
                process.communicate()
            killed += process.returncode == -9
            for part in data.rglob("*.parquet"):
                pq.read_table(part, partitioning=None)
            lake = Lake(data)
            now = states(rows(data, HISTORY)) | landed_states(lake)
            assert seen <= now
            seen = now
        assert seen
        emulator.clock.step(timedelta(hours=2))
        assert run_dagster(tmp_path / "dagster", settings, emulator.clock.now()) is None
        assert unlike_truth(emulator, data, START, [emulator.clock.now()]) == []
        assert seen <= states(rows(data, HISTORY))
        assert Lake(data).pending() == set()
    figures("kills of Dagster runs, survived", killed)


def wait(process: "subprocess.Popen[str]", seconds: float) -> None:
    """Until it ends, or so long."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


@pytest.mark.slow
def test_two_syncs_at_once_do_the_work_of_one(tmp_path: Path):
    """R5: locks keep each day's merge to one process, and what both land is merged."""
    world = World(10, 400.0, START)
    with account(world, at("2026-11-13"), tmp_path, options=Options(latency_seconds=0.01)) as (
        emulator,
        settings,
    ):
        moments = []
        for _ in range(4):
            moments.append(emulator.clock.now())
            processes = [started(settings) for _ in range(2)]
            for process in processes:
                process.join()
            assert [process.exitcode for process in processes] == [0, 0]
            assert unlike_truth(emulator, tmp_path, START, moments) == []
            emulator.clock.step(timedelta(hours=9))
    history = rows(tmp_path, HISTORY)
    assert len(states(history)) == history.num_rows
    assert rows(tmp_path, REJECTS).num_rows == 0


def land_many(root: Path, times: int) -> None:
    lake = Lake(root)
    for number in range(times):
        landing.land(lake, scan([record(number)]))


def test_scans_of_one_day_landing_at_once_are_whole(tmp_path: Path):
    """R5, R6: landing holds the day's lock, since the day has one place for unfinished files."""
    lake = new_lake(tmp_path)
    processes = [context.Process(target=land_many, args=(lake.root, 120)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    landed = [landing.read(path) for path in lake.landed(PARTITION)]
    assert [one.operations.num_rows for one in landed] == [1] * 240
