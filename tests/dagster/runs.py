"""Runs of the job in this process, and what they record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.definitions import build_definitions
from assets.keys import asset_key
from assets.resources import ArchiveResource, TwilioResource
from assets.schedules import range_tags
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.model.windows import retained_days
from tests.support.factories import at

START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 200.0, START)
DAYS = [day.isoformat() for day in retained_days(NOW)]


def definitions(
    data: Path, url: str, account_id: str, token: str = DEMO_AUTH_TOKEN
) -> dg.Definitions:
    return build_definitions(
        {
            "archive": ArchiveResource(data=str(data), trust_clock=True),
            "twilio": TwilioResource(account_sid=account_id, auth_token=token, api_url=url),
        }
    )


def run_job(
    instance: dg.DagsterInstance, defs: dg.Definitions, first: str = DAYS[0], last: str = DAYS[-1]
) -> dg.ExecuteInProcessResult:
    """One run of the job over a range of days."""
    return defs.resolve_job_def("sync_job").execute_in_process(
        instance=instance, tags=range_tags(first, last), raise_on_error=False
    )


def metadata(instance: dg.DagsterInstance, key: str) -> dict[str | None, Mapping[str, Any]]:
    """The latest materialization's metadata of each partition of an asset."""
    records = instance.fetch_materializations(asset_key(key), limit=1000).records
    found: dict[str | None, Mapping[str, Any]] = {}
    for one in records:
        assert one.asset_materialization
        values = {name: value.value for name, value in one.asset_materialization.metadata.items()}
        found.setdefault(one.partition_key, values)
    return found


@dataclass(frozen=True)
class Done:
    """A run of all days, and what it left: to be read only."""

    emulator: Emulator
    data: Path
    defs: dg.Definitions
    instance: dg.DagsterInstance
    result: dg.ExecuteInProcessResult


def run_checks(
    instance: dg.DagsterInstance, defs: dg.Definitions, *checks: tuple[str, str]
) -> dg.ExecuteInProcessResult:
    """Some checks by themselves, each told by its asset and its name."""
    keys = {dg.AssetCheckKey(asset_key(asset), name) for asset, name in checks}
    everything = defs.resolve_implicit_global_asset_job_def()
    alone = everything.get_subset(asset_selection=set(), asset_check_selection=keys)
    return alone.execute_in_process(instance=instance, raise_on_error=False)


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks that did not pass; the ids of our own records tell another time than their creation."""
    return {
        one.check_name: one
        for one in result.get_asset_check_evaluations()
        if not one.passed and one.check_name != "embedded_time"
    }
