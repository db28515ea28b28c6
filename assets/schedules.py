"""The jobs and their schedules."""

from datetime import UTC, timedelta

import dagster as dg
from dagster import AssetSelection

from assets.keys import asset_key
from assets.partitions import FIRST_DAY
from assets.resources import ArchiveResource, TwilioResource
from pipeline.lake.coverage import latest_scan
from pipeline.lake.layout import Lake
from pipeline.sync import plan

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

sync_job = dg.define_asset_job(
    "sync_job",
    selection=AssetSelection.all() - AssetSelection.assets(asset_key("report")),
    description="Scan the days of the run and bring the archive and the warehouse up to date.",
    executor_def=dg.in_process_executor,
)

report_job = dg.define_asset_job(
    "report_job",
    selection=AssetSelection.assets(asset_key("report")),
    description="Write the report of the warehouse.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=report_job,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    description="Write the report every hour.",
)
def report_schedule(archive: ArchiveResource) -> dg.RunRequest | dg.SkipReason:
    """One run per hour, once there is a warehouse."""
    if not Lake(archive.root()).warehouse.exists():
        return dg.SkipReason("there is no warehouse yet")
    return dg.RunRequest()


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make a run cover all days from `first` to `last`."""
    return {RANGE_START: first, RANGE_END: last}


SCOPE = "email_archive/scope"
"""A run with this tag scans what is due; a run without it scans all of its days."""

SCOPE_DUE = "due"
TICK = timedelta(minutes=10)


@dg.schedule(
    job=sync_job,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    description="Every 10 minutes: one run over the days with due windows; no run if there are none.",
)
def sync_schedule(
    context: dg.ScheduleEvaluationContext, archive: ArchiveResource, twilio: TwilioResource
) -> dg.RunRequest | dg.SkipReason:
    """One run over the days with due windows.

    The days are an estimate by this machine's clock. The run plans again by the API's clock (R10). If the
    machine's clock is behind the latest scan, the estimate uses that scan's time.
    """
    tick = context.scheduled_execution_time.astimezone(UTC)
    lake = Lake(archive.root())
    settings = twilio.settings(lake.root)
    latest = latest_scan(lake, settings.account_sid)
    now = tick if latest is None or latest <= tick else latest + TICK
    windows = plan(lake, settings, now).windows
    if not windows:
        return dg.SkipReason("nothing is due")
    # Dagster's last partition is today by the machine's clock, which may differ from the API's.
    last = f"{tick.date()}"
    days = sorted(min(max(f"{window.day}", FIRST_DAY), last) for window in windows)
    return dg.RunRequest(
        run_key=tick.isoformat(), tags=range_tags(days[0], days[-1]) | {SCOPE: SCOPE_DUE}
    )
