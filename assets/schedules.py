"""The job and its schedule."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import AssetSelection

from assets.partitions import FIRST_DAY
from pipeline.windows import retained_days

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


@dg.schedule(
    job=sync_job,
    cron_schedule="0 * * * *",
    execution_timezone="UTC",
    description="Every hour: one run over the days that the API may still know something of.",
)
def hourly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run from today-7 to today. The tick's time only names days; the run asks the API's clock."""
    ticked = context.scheduled_execution_time.astimezone(UTC)
    first_ever = datetime.fromisoformat(FIRST_DAY).replace(tzinfo=UTC)
    days = retained_days(max(ticked, first_ever + timedelta(days=7)))
    return dg.RunRequest(
        run_key=ticked.isoformat(), tags=range_tags(days[0].isoformat(), days[-1].isoformat())
    )
