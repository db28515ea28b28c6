"""The lake's tables: landed scans, merged day by day."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg

from assets.keys import asset_key
from assets.metadata import add_per_day, days_of, describe, row_count
from assets.partitions import daily
from assets.resources import ArchiveResource
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.lake.merge import MergeReport
from pipeline.merge_runner import compact_pending, merge_pending, remove_unfinished
from pipeline.model.schema import COVERAGE, HISTORY, OPERATIONS, Table

TABLES = (OPERATIONS, HISTORY, COVERAGE)
EVERY_DAY = "every_day_merged"


@dg.multi_asset(
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            asset_key(table.name),
            deps=[asset_key("landed_scans")],
            description=table.comment,
            group_name="lake",
            kinds={"parquet"},
            metadata=describe(table),
        )
        for table in TABLES
    ],
    check_specs=[
        dg.AssetCheckSpec(
            EVERY_DAY,
            asset=asset_key(OPERATIONS.name),
            description="All landed files were merged. A damaged or foreign file blocks its day only.",
        )
    ],
)
def lake_tables(
    context: dg.AssetExecutionContext, archive: ArchiveResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Merge landed files into each day's operations, history and coverage."""
    lake = archive.lake()
    remove_unfinished(lake)
    # Derives the delivery tables too, while the day's tables are open.
    merging = merge_pending(lake, deriving=True)
    for error in merging.errors:
        context.log.error(str(error))
    for error in compact_pending(lake, merging.merges).errors:
        context.log.error(str(error))
    merges = {report.partition.day: report for report in merging.merges}
    days = days_of(list(context.partition_keys))
    for table in TABLES:
        metadata = {day: _metadata(lake, table, day, merges.get(day)) for day in days}
        add_per_day(context, metadata, asset_key(table.name))
    for day, report in merges.items():
        if day not in days:
            # Lookups by id of older operations, or files that a killed run left.
            _log_materialization(context, lake, day, report)
    for table in TABLES:
        yield dg.MaterializeResult(asset_key=asset_key(table.name))
    # A failed check does not fail the run: the other days are still published.
    yield dg.AssetCheckResult(
        check_name=EVERY_DAY,
        asset_key=asset_key(OPERATIONS.name),
        passed=not merging.errors,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"errors": dg.MetadataValue.json([str(error) for error in merging.errors])},
    )


def _log_materialization(
    context: dg.AssetExecutionContext, lake: Lake, day: date, report: MergeReport
) -> None:
    """Record the merge of a day outside the run's range."""
    for table in TABLES:
        metadata = _metadata(lake, table, day, report)
        context.log_event(
            dg.AssetMaterialization(
                asset_key(table.name), partition=day.isoformat(), metadata=metadata
            )
        )


def _metadata(lake: Lake, table: Table, day: date, report: MergeReport | None) -> dict[str, Any]:
    metadata = describe(table) | row_count(rows_of_day(lake, table, day))
    if table is OPERATIONS:
        for name in ("new", "changed", "unchanged", "new_rejects"):
            metadata[name] = dg.MetadataValue.int(getattr(report, name) if report else 0)
    return metadata


def rows_of_day(lake: Lake, table: Table, day: date) -> int:
    """The rows of a day in a table, of all accounts."""
    partitions = (p for p in lake.partitions(table.name) if p.day == day)
    return sum(parquet.count(lake.part(table, partition)) for partition in partitions)
