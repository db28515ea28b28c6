"""The lake's tables: a run scans, merges, derives and checks one partition."""

from collections.abc import Iterator
from typing import Any, Final

import dagster as dg

from assets.checks import ROWS, rows_as_expected
from assets.failures import as_failures
from assets.keys import asset_key
from assets.metadata import spec
from assets.partitions import partition_of
from assets.resources import ArchiveResource, TwilioResource, settings_of
from assets.scans import (
    EVERY_WINDOW,
    SCANS,
    SPEC,
    every_window_scanned,
    scan_metadata,
    warn_of_old_day,
)
from pipeline.accounts import remember
from pipeline.errors import ArchiveError
from pipeline.extract.api_clock import machine_time
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    FACTS,
    MART_INPUTS,
    OPERATIONS,
    SHOWN_MARTS,
    SLOT_COVERAGE,
    Table,
)
from pipeline.sync_partition import PartitionReport, derive_again, sync_partition

DUE_TAGS: Final = {"email_archive/scope": "due"}
"""The tags of a run that scans what is due, and materializes the tables that changed. One without them scans
the whole day, and materializes all that was selected."""

_DERIVED: Final = {SLOT_COVERAGE: (COVERAGE,), **{mart: MART_INPUTS[mart] for mart in SHOWN_MARTS}}
TABLES: Final = (*FACTS, *_DERIVED)

SPECS: Final = (
    SPEC,
    *(
        spec(table, deps=[SCANS], group="lake", kinds={"parquet"}, skippable=True)
        for table in FACTS
    ),
    *(
        spec(table, sources, group="marts", kinds={"duckdb", "parquet"}, skippable=True)
        for table, sources in _DERIVED.items()
    ),
)


def partition_assets(partitions: dg.PartitionsDefinition[str]) -> dg.AssetsDefinition:
    """The assets that one run brings up to date for its partition."""

    @dg.multi_asset(
        name="sync_partition",
        partitions_def=partitions,
        specs=SPECS,
        check_specs=[EVERY_WINDOW, ROWS],
        can_subset=True,
    )
    def one_partition(
        context: dg.AssetExecutionContext, archive: ArchiveResource, twilio: TwilioResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Scan, merge and derive a partition; without the scans only merge and derive it."""
        partition, lake = partition_of(context), archive.lake()
        is_by_hand = not DUE_TAGS.items() <= context.run.tags.items()
        report = None
        if SCANS in context.selected_asset_keys:
            report = _sync(context, archive, twilio, partition, is_whole=is_by_hand)
            if is_by_hand or report.extraction.scans:
                yield dg.MaterializeResult(asset_key=SCANS, metadata=scan_metadata(report))
        elif context.selected_asset_keys:
            with as_failures():
                derive_again(lake, partition)
        for table in TABLES:
            is_new = is_by_hand or (report and table in report.changed)
            if is_new and asset_key(table.name) in context.selected_asset_keys:
                yield _materialized(lake, partition, table, report)
        selected = context.selected_asset_check_keys
        if report and EVERY_WINDOW.key in selected:
            yield every_window_scanned(report)
        if ROWS.key in selected:
            yield rows_as_expected(lake, partition)
        if report and (failures := _failures(report)):
            raise dg.Failure("\n".join(map(str, failures)))

    return one_partition


def _sync(
    context: dg.AssetExecutionContext,
    archive: ArchiveResource,
    twilio: TwilioResource,
    partition: Partition,
    *,
    is_whole: bool,
) -> PartitionReport:
    with as_failures():
        accounts = twilio.accounts(archive)
        settings = settings_of(accounts, partition.account_id)
        report = sync_partition(settings, partition, is_whole=is_whole)
        remember(archive.lake(), accounts, machine_time())
    warn_of_old_day(context, partition, report)
    return report


def _failures(report: PartitionReport) -> list[ArchiveError]:
    """Why a run failed: a file that can't be merged, or no window at all that could be scanned."""
    windows = () if report.extraction.scans else report.extraction.failures
    return [*report.errors, *(one.error for one in windows)]


def _materialized(
    lake: Lake, partition: Partition, table: Table, report: PartitionReport | None
) -> dg.MaterializeResult[Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": parquet.count(lake.part(table, partition))
    }
    if table is OPERATIONS and report:
        for name in ("new", "changed", "unchanged", "new_rejects"):
            metadata[name] = sum(getattr(merge, name) for merge in report.merges)
    return dg.MaterializeResult(asset_key=asset_key(table.name), metadata=metadata)
