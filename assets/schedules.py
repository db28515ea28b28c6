"""The job and its schedule."""

from datetime import UTC

import dagster as dg
from dagster import AssetSelection

from assets.partitions import FIRST_DAY
from assets.resources import ArchiveResource, TwilioResource
from pipeline.lake.layout import Lake
from pipeline.sync import plan

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

sync_job = dg.define_asset_job(
    "sync",
    selection=AssetSelection.all(),
    description="Scan the days of the run and bring the archive and the warehouse up to date.",
    executor_def=dg.in_process_executor,
)


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags that make a run cover all days from `first` to `last`."""
    return {RANGE_START: first, RANGE_END: last}


SCOPE = "email_archive/scope"
"""A run with this tag scans what is due of its days; one without it scans all of them."""

SCOPE_DUE = "due"


@dg.schedule(
    job=sync_job,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    description="Every 10 minutes: one run over the days that have something due; none if none has.",
)
def due(
    context: dg.ScheduleEvaluationContext, archive: ArchiveResource, twilio: TwilioResource
) -> dg.RunRequest | dg.SkipReason:
    """One run over the days that have something due.

    The tick's time, which is this machine's, only guesses which days; the run plans again by the API's
    clock (R10).
    """
    now = context.scheduled_execution_time.astimezone(UTC)
    lake = Lake(archive.root())
    windows = plan(lake, twilio.settings(lake.root), now)
    days = sorted(max(f"{window.day}", FIRST_DAY) for window in windows)
    if not days:
        return dg.SkipReason("nothing is due")
    return dg.RunRequest(
        run_key=now.isoformat(), tags=range_tags(days[0], days[-1]) | {SCOPE: SCOPE_DUE}
    )
