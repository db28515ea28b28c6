"""The delivery tables that are derived day by day."""

import dagster as dg

from assets.metadata import add_per_day, days_of, describe, row_count
from assets.partitions import daily
from assets.resources import ArchiveResource
from assets.tables import rows_of_day
from pipeline.marts.summarize import summarize
from pipeline.schema import DELIVERY_HOURLY
from pipeline.sync import summarize_pending


@dg.asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=["operations"],
    group_name="marts",
    kinds={"duckdb", "parquet"},
    description=DELIVERY_HOURLY.comment,
    metadata=describe(DELIVERY_HOURLY),
)
def delivery_hourly(
    context: dg.AssetExecutionContext, archive: ArchiveResource
) -> dg.MaterializeResult:
    """Derive the days' delivery tables from their operations."""
    lake = archive.lake()
    days = days_of(list(context.partition_keys))
    for partition in lake.partitions("operations"):
        if partition.day in days:
            summarize(lake, partition)
    # Days of earlier runs that died between folding and here.
    if errors := summarize_pending(lake):
        raise dg.Failure("\n".join(map(str, errors)), allow_retries=False)
    rows = {day: rows_of_day(lake, DELIVERY_HOURLY, day) for day in days}
    add_per_day(context, {day: describe(DELIVERY_HOURLY) | row_count(n) for day, n in rows.items()})
    return dg.MaterializeResult()
