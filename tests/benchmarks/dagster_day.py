"""How much Dagster stores in a day: ``python -m tests.benchmarks.dagster_day --hours 24 --per-day 2000``.

Every 10 minutes of the emulator's time the schedule is evaluated, and its requests are run here; then
the warehouse if its condition requests it, and the report every hour. The storage is the SQLite files of an
instance on the disk, with the configuration of `deploy/dagster.yaml`.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import dagster as dg

from assets.definitions import build_definitions
from assets.keys import asset_key
from assets.resources import ArchiveResource, TwilioResource
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.sync import EVERYTHING, sync
from tests.support.archives import account
from tests.support.dagster_home import dagster_home
from tests.support.factories import at

START: Final = at("2026-11-17 00:00")
TICK: Final = timedelta(minutes=10)
MB: Final = 1_000_000


def main(hours: int, per_day: float) -> None:
    """Play so many hours, and print how many runs there were and what they stored."""
    with tempfile.TemporaryDirectory() as folder:
        home, data = Path(folder) / "dagster", Path(folder) / "data"
        os.environ |= dagster_home(home)
        world = World(1, per_day, START - timedelta(days=7))
        with account(world, START, data) as (emulator, settings):
            sync(settings, scope=EVERYTHING)
            resources = {
                "archive": ArchiveResource(data=str(data), trust_clock=True),
                "twilio": TwilioResource(
                    account_sid=settings.account_sid,
                    auth_token=DEMO_AUTH_TOKEN,
                    api_url=emulator.url,
                ),
            }
            defs = build_definitions(
                [settings.account_sid], START.date() - timedelta(days=30), resources
            )
            with dg.DagsterInstance.from_config(str(home)) as instance:
                before = _size(home)
                runs = Counter(_day(defs, resources, instance, emulator, hours))
                grown = _size(home) - before
    counted = ", ".join(f"{number} of {name}" for name, number in runs.items())
    sys.stdout.write(
        f"{hours} hours at {per_day:,.0f} operations a day: {grown / MB:.1f} MB; runs: {counted}\n"
    )


def _day(
    defs: dg.Definitions,
    resources: dict[str, object],
    instance: dg.DagsterInstance,
    emulator: Emulator,
    hours: int,
) -> Iterator[str]:
    """The name of each run."""
    schedule = defs.resolve_schedule_def("sync_schedule")
    warehouse = asset_key("warehouse")
    publish = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={warehouse})
    cursor = None
    for number in range(hours * 6):
        emulator.clock.step(TICK)
        with dg.build_schedule_context(
            instance=instance,
            repository_def=defs.get_repository_def(),
            scheduled_execution_time=emulator.clock.now(),
            resources=resources,
        ) as context:
            requests = schedule.evaluate_tick(context).run_requests or []
        for request in requests:
            result = defs.resolve_job_def("sync_job").execute_in_process(
                instance=instance, partition_key=request.partition_key, tags=request.tags
            )
            assert result.success
            yield "sync_job"
        found = dg.evaluate_automation_conditions(
            defs, instance, asset_selection=dg.AssetSelection.assets(warehouse), cursor=cursor
        )
        cursor = found.cursor
        if found.total_requested:
            assert publish.execute_in_process(instance=instance).success
            yield "warehouse"
        if number % 6 == 5:
            assert defs.resolve_job_def("report_job").execute_in_process(instance=instance).success
            yield "report_job"


def _size(home: Path) -> int:
    return sum(file.stat().st_size for file in home.rglob("*") if file.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--per-day", type=float, default=2000)
    chosen = parser.parse_args()
    main(chosen.hours, chosen.per_day)
