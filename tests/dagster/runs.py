"""Runs of the jobs in this process, and what they record."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from assets.definitions import build_definitions
from assets.keys import asset_key
from assets.partitions import key_of
from assets.resources import ArchiveResource, TwilioResource
from assets.tables import DUE_TAGS
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.model.records import Partition
from pipeline.model.windows import retained_days
from tests.support.factories import at

START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 200.0, START)
DAYS = retained_days(NOW)
FIRST_DAY = date(2026, 11, 1)


def definitions(
    data: Path, url: str, account_id: str, token: str = DEMO_AUTH_TOKEN, *, trust_clock: bool = True
) -> dg.Definitions:
    twilio = TwilioResource(account_sid=account_id, auth_token=token, api_url=url)
    archive = ArchiveResource(data=str(data), trust_clock=trust_clock)
    return build_definitions([account_id], FIRST_DAY, {"archive": archive, "twilio": twilio})


def account_of(defs: dg.Definitions) -> str:
    account_id = defs.resources["twilio"].account_sid if defs.resources else None
    assert account_id
    return str(account_id)


def sync(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    day: date = DAYS[-1],
    *,
    is_due: bool = False,
    assets: Iterable[str] | None = None,
    account_id: str | None = None,
) -> dg.ExecuteInProcessResult:
    """One run of one day: by hand, or as the schedule makes it; of some assets, or all."""
    return defs.resolve_job_def("sync_job").execute_in_process(
        instance=instance,
        partition_key=key_of(Partition(account_id or account_of(defs), day)),
        tags=DUE_TAGS if is_due else {},
        asset_selection=None if assets is None else [asset_key(name) for name in assets],
        raise_on_error=False,
    )


def sync_days(
    instance: dg.DagsterInstance, defs: dg.Definitions, days: Iterable[date] = DAYS
) -> list[dg.ExecuteInProcessResult]:
    return [sync(instance, defs, day) for day in days]


def publish(instance: dg.DagsterInstance, defs: dg.Definitions) -> dg.ExecuteInProcessResult:
    """One run of the warehouse."""
    everything = defs.resolve_implicit_global_asset_job_def()
    alone = everything.get_subset(asset_selection={asset_key("warehouse")})
    return alone.execute_in_process(instance=instance, raise_on_error=False)


def metadata(instance: dg.DagsterInstance, key: str) -> dict[str | None, Mapping[str, Any]]:
    """The latest materialization's metadata of each day of an asset."""
    records = instance.fetch_materializations(asset_key(key), limit=1000).records
    found: dict[str | None, Mapping[str, Any]] = {}
    for one in records:
        assert one.asset_materialization
        values = {name: value.value for name, value in one.asset_materialization.metadata.items()}
        day = one.partition_key and one.partition_key.split("|")[-1]
        found.setdefault(day, values)
    return found


@dataclass(frozen=True)
class Done:
    """A run of each day and of the warehouse, and what they left: to be read only."""

    emulator: Emulator
    data: Path
    defs: dg.Definitions
    instance: dg.DagsterInstance
    results: list[dg.ExecuteInProcessResult]


def run_checks(
    instance: dg.DagsterInstance, defs: dg.Definitions, *checks: tuple[str, str]
) -> dg.ExecuteInProcessResult:
    """Some checks by themselves, each told by its asset and its name."""
    keys = {dg.AssetCheckKey(asset_key(asset), name) for asset, name in checks}
    everything = defs.resolve_implicit_global_asset_job_def()
    alone = everything.get_subset(asset_selection=set(), asset_check_selection=keys)
    return alone.execute_in_process(instance=instance, raise_on_error=False)


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks that did not pass."""
    return {one.check_name: one for one in result.get_asset_check_evaluations() if not one.passed}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why the step failed."""
    (event,) = [one for one in result.all_events if one.event_type_value == "STEP_FAILURE"]
    return str(event.step_failure_data.error) + str(event.step_failure_data.user_failure_data)


def retried(result: dg.ExecuteInProcessResult) -> bool:
    return any(one.event_type_value == "STEP_UP_FOR_RETRY" for one in result.all_events)
