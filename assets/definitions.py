"""The definitions that Dagster loads. Tests build them with other resources."""

import logging
from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import dagster as dg

from assets.checks import hourly_checks
from assets.partitions import partitions
from assets.report import report
from assets.resources import ArchiveResource, TwilioResource
from assets.retention import retention_job, retention_schedule
from assets.schedules import (
    EVERY_10_MINUTES,
    report_job,
    report_schedule,
    sync_job,
    sync_schedule,
)
from assets.tables import partition_assets
from assets.warehouse import VIEWS, outputs_sensor, warehouse
from pipeline.accounts import load_accounts
from pipeline.errors import ArchiveError
from pipeline.lake.layout import Lake
from pipeline.model.schema import COVERAGE
from pipeline.settings import ArchiveSettings

log = logging.getLogger(__name__)


def build_definitions(
    accounts: Collection[str],
    first_day: date,
    resources: Mapping[str, Any] | None = None,
    cron: str = EVERY_10_MINUTES,
) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors.

    Args:
        accounts: the SIDs of the accounts that have partitions.
        first_day: the first day that they have.
        resources: replace ``archive`` or ``twilio``; by default both come from the environment.
        cron: when the schedule ticks.
    """
    tables = partition_assets(partitions(accounts, first_day))
    return dg.Definitions(
        assets=[tables, *VIEWS, warehouse, report],
        asset_checks=hourly_checks,
        jobs=[sync_job, report_job, retention_job],
        schedules=[sync_schedule(accounts, first_day, cron), report_schedule, retention_schedule],
        sensors=[outputs_sensor],
        resources={"archive": ArchiveResource(), "twilio": TwilioResource(), **(resources or {})},
        executor=dg.in_process_executor,
    )


def account_ids(settings: ArchiveSettings) -> set[str]:
    """The accounts that are configured, and those that the archive has."""
    try:
        configured = {one.sid for one in load_accounts(data=settings.data)}
    except ArchiveError as error:
        # The definitions load without credentials: a run says what is missing.
        log.warning("the partitions lack the accounts of the configuration: %s", error)
        configured = set()
    return configured | {one.account_id for one in Lake.of(settings).partitions(COVERAGE.name)}


_settings = ArchiveSettings.load()
defs = build_definitions(account_ids(_settings), _settings.first_day)
