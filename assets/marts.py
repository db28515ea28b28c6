"""The delivery tables, derived day by day."""

from collections.abc import Iterator

import dagster as dg

from assets.keys import asset_key
from assets.metadata import add_per_day, days_of, describe, row_count
from assets.partitions import daily
from assets.resources import ArchiveResource
from assets.tables import rows_of_day
from pipeline.lake.layout import DERIVE, Lake
from pipeline.merge_runner import derive_pending
from pipeline.model.records import Partition
from pipeline.model.schema import MART_INPUTS, MARTS, OPERATIONS, SHOWN_MARTS


@dg.multi_asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            asset_key(table.name),
            deps=[asset_key(source.name) for source in MART_INPUTS[table]],
            description=table.comment,
            group_name="marts",
            kinds={"duckdb", "parquet"},
            metadata=describe(table),
        )
        for table in SHOWN_MARTS
    ],
)
def marts(
    context: dg.AssetExecutionContext, archive: ArchiveResource
) -> Iterator[dg.MaterializeResult]:
    """Derive the days' delivery tables from their operations and history."""
    lake = archive.lake()
    days = days_of(list(context.partition_keys))
    was_derived = _is_merging(context)
    for partition in lake.partitions(OPERATIONS.name):
        # Run by hand, all marts are derived again. After a merge in this run, only missing ones.
        if partition.day in days and not (was_derived and _is_derived(lake, partition)):
            lake.note_work(partition, DERIVE)
    # Includes days of earlier runs that were killed between merging and deriving.
    if errors := derive_pending(lake):
        raise dg.Failure("\n".join(map(str, errors)), allow_retries=False)
    for table in SHOWN_MARTS:
        rows = {day: rows_of_day(lake, table, day) for day in days}
        metadata = {day: describe(table) | row_count(n) for day, n in rows.items()}
        add_per_day(context, metadata, asset_key(table.name))
        yield dg.MaterializeResult(asset_key=asset_key(table.name))


def _is_merging(context: dg.AssetExecutionContext) -> bool:
    """Whether this run merges the days too. The merge derives the days that changed."""
    return asset_key(OPERATIONS.name) in context.job_def.asset_layer.executable_asset_keys


def _is_derived(lake: Lake, partition: Partition) -> bool:
    return all(lake.part(mart, partition).exists() for mart in MARTS)
