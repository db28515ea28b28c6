"""A real daemon with the schedule on, for an hour of the emulator's time: ``make daemon``.

The emulator's clock goes ten times as fast as this machine's, and the schedule ticks every minute: every 10
minutes of the emulator's time. The daemon, its code server and the processes of the runs are Dagster's own,
with the configuration of `deploy/dagster.yaml`. The archive is empty at first.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import dagster as dg

from assets.retention import FINISHED
from pipeline.emulator import Clock, Emulator, World, running
from pipeline.model.schema import COUNT_NAMES, OPERATIONS
from pipeline.settings import Settings
from tests.support.archives import rows, settings_for
from tests.support.dagster_home import dagster_home

RATE: Final = 10.0
PER_DAY: Final = 500.0
ROOT: Final = Path(__file__).parents[2]
LOCATION: Final = ["-m", "tests.end_to_end.fast_location"]
SECOND: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Report:
    """What the daemon did.

    Attributes:
        ticks: of the schedule, by their status.
        runs: by job and status.
        overlaps: partitions with a run that was requested before the one before it had ended.
        operations: in the archive.
        missing: operations that were created before the last tick, and that the archive lacks.
        untrue: operations whose state is none that the emulator had.
        log: what the daemon said.
    """

    ticks: Counter[str]
    runs: Counter[tuple[str, str]]
    overlaps: list[str]
    operations: int
    missing: list[str]
    untrue: list[str]
    log: str

    @property
    def ok(self) -> bool:
        """Whether all ticks and runs succeeded, none overlapped, and the archive is as it should be."""
        statuses = {status for _, status in self.runs}
        wrong = [*self.overlaps, *self.missing, *self.untrue]
        return not wrong and statuses == {"SUCCESS"} and not self.ticks["FAILURE"]

    def __str__(self) -> str:
        runs = ", ".join(f"{n} of {job} {status}" for (job, status), n in sorted(self.runs.items()))
        return (
            f"ticks: {dict(self.ticks)}; runs: {runs}; overlapping: {len(self.overlaps)}; "
            f"{self.operations:,} operations, {len(self.missing)} missing, {len(self.untrue)} untrue"
        )


def run(folder: Path, simulated: timedelta) -> Report:
    """Let a daemon work for so much of the emulator's time, and then end what it has begun."""
    begin = datetime.now(UTC).replace(second=0, microsecond=0) - simulated
    world = World(1, PER_DAY, begin - timedelta(days=9))
    with running(world, clock=Clock(begin, RATE)) as emulator:
        settings = settings_for(emulator, folder / "data")
        home = dagster_home(folder / "dagster")
        environment = dict(os.environ) | settings.environment() | home | {"PYTHONPATH": str(ROOT)}
        environment["EMAIL_ARCHIVE_FIRST_DAY"] = f"{begin - timedelta(days=9):%Y-%m-%d}"
        os.environ |= home
        _dagster(environment, "schedule", "start", "sync_schedule", *LOCATION)
        _dagster(environment, "sensor", "start", "outputs_sensor", *LOCATION)
        with (folder / "daemon.log").open("w+") as log:
            command = [sys.executable, "-m", "dagster._daemon", "run", *LOCATION]
            daemon = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                time.sleep(simulated / RATE / timedelta(seconds=1))
                _dagster(environment, "schedule", "stop", "sync_schedule", *LOCATION)
                last_tick = emulator.clock.now() - timedelta(minutes=10)
                _wait_for_runs(home["DAGSTER_HOME"])
            finally:
                daemon.send_signal(signal.SIGINT)
                daemon.wait(60)
            log.seek(0)
            return _report(home["DAGSTER_HOME"], emulator, settings, last_tick, log.read())


def _dagster(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "dagster", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def _wait_for_runs(home: str) -> None:
    """Wait until nothing is queued or running."""
    deadline = time.monotonic() + _LONGEST.total_seconds()
    with dg.DagsterInstance.from_config(home) as instance:
        while any(one.status not in FINISHED for one in instance.get_runs()):
            assert time.monotonic() < deadline, "runs do not end"
            time.sleep(1)


def _report(
    home: str, emulator: Emulator, settings: Settings, last_tick: datetime, log: str
) -> Report:
    with dg.DagsterInstance.from_config(home) as instance:
        records = instance.get_run_records(ascending=True)
        ticks = Counter(
            tick.status.value
            for state in instance.all_instigator_state()
            if state.instigator_name == "sync_schedule"
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        )
    runs = Counter((one.dagster_run.job_name, one.dagster_run.status.value) for one in records)
    operations = rows(settings.data, OPERATIONS)
    archived = set(operations["operation_id"].to_pylist())
    world = emulator.world
    numbers = range(world.existing(last_tick).start, world.existing(last_tick).stop)
    retained = world.numbers(emulator.clock.now() - timedelta(days=6), last_tick)
    expected = world.columns([one for one in numbers if one in retained], last_tick)["operation_id"]
    return Report(
        ticks,
        runs,
        _overlaps(records),
        operations.num_rows,
        sorted(set(expected.tolist()) - archived),
        _untrue(world, operations.to_pylist()),
        log,
    )


def _overlaps(records: Sequence[dg.RunRecord]) -> list[str]:
    """Partitions whose runs were requested while another one was queued or running."""
    by_partition: dict[str, list[dg.RunRecord]] = {}
    for one in records:
        if partition := one.dagster_run.tags.get("dagster/partition"):
            by_partition.setdefault(partition, []).append(one)
    return [
        partition
        for partition, runs in by_partition.items()
        for before, after in pairwise(runs)
        if before.end_time is None or after.create_timestamp.timestamp() < before.end_time
    ]


def _untrue(world: World, operations: Sequence[dict[str, object]]) -> list[str]:
    """Operations whose state is not that of the world within the second of their last change."""
    found = []
    for row in operations:
        number, at = world.number_of(str(row["operation_id"])), row["updated_at"]
        assert number is not None
        assert isinstance(at, datetime)
        state = tuple(row[name] for name in COUNT_NAMES)
        truths = (world.columns([number], at + one) for one in (timedelta(), SECOND))
        if state not in [
            tuple(values[0] for values in map(truth.__getitem__, COUNT_NAMES))
            for truth in truths
            if len(truth["operation_id"])
        ]:
            found.append(str(row["operation_id"]))
    return found


def main() -> None:
    """Run, show the figures, and end with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.daemon", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of the emulator's time")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), timedelta(minutes=wanted.minutes))
    sys.stdout.write(f"{report}\n")
    if not report.ok:
        sys.stdout.write(f"{report.log[-4000:]}\n{report}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
