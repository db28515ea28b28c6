"""The definitions that Dagster loads. Tests build them with other resources."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.checks import checks
from assets.extraction import landed_scans
from assets.marts import marts
from assets.report import report
from assets.resources import ArchiveResource, TwilioResource
from assets.schedules import report_job, report_schedule, sync_job, sync_schedule
from assets.tables import lake_tables
from assets.warehouse import warehouse


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All assets, checks, jobs and schedules.

    Args:
        resources: replace ``archive`` or ``twilio``; by default both come from the environment.
    """
    return dg.Definitions(
        assets=[landed_scans, lake_tables, marts, warehouse, report],
        asset_checks=checks,
        jobs=[sync_job, report_job],
        schedules=[sync_schedule, report_schedule],
        resources={"archive": ArchiveResource(), "twilio": TwilioResource(), **(resources or {})},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
