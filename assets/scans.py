"""Scans of the API: what the assets of a partition say of them."""

from datetime import timedelta
from typing import Final

import dagster as dg

from assets.keys import asset_key
from assets.metadata import OWNERS
from pipeline.model.records import Partition
from pipeline.model.windows import RETENTION
from pipeline.sync_partition import PartitionReport

SCANS: Final = asset_key("landed_scans")

SPEC: Final = dg.AssetSpec(
    SCANS,
    description="Complete listings of windows, each an immutable file until it is merged. Materializing a "
    "day by hand scans all of it. A scan past the deadline adds what the API still has and removes nothing.",
    group_name="extraction",
    kinds={"python", "arrow"},
    owners=OWNERS,
    tags={"email_archive/layer": "extraction"},
    skippable=True,
    freshness_policy=dg.FreshnessPolicy.time_window(
        warn_window=timedelta(hours=1), fail_window=timedelta(hours=6)
    ),
)

EVERY_WINDOW: Final = dg.AssetCheckSpec(
    "every_window_scanned",
    asset=SCANS,
    description="Every window was listed, and every lookup by id answered. What failed stays due.",
)


def scan_metadata(report: PartitionReport) -> dict[str, int]:
    """Sums over a run's scans."""
    scans = report.extraction.scans
    names = ("operations", "records", "outside", "pages", "requests", "retries", "rejects")
    sums = {name: sum(getattr(scan, name) for scan in scans) for name in names}
    return {"scans": len(scans), **sums, "lookups": report.lookups.completed}


def every_window_scanned(report: PartitionReport) -> dg.AssetCheckResult:
    """Windows that could not be listed, and lookups that failed."""
    windows = {f"{one.window}": f"{one.error}" for one in report.extraction.failures}
    lookups = {
        f"{one.pending.subject} of {one.pending.operation_id}": f"{one.error}"
        for one in report.lookups.failures
    }
    return dg.AssetCheckResult(
        check_name=EVERY_WINDOW.name,
        asset_key=SCANS,
        passed=not windows and not lookups,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "failed_windows": dg.MetadataValue.json(windows),
            "failed_lookups": dg.MetadataValue.json(lookups),
            "lookups_left": report.lookups.left,
        },
    )


def warn_of_old_day(
    context: dg.AssetExecutionContext, partition: Partition, report: PartitionReport
) -> None:
    """Say that the API may have dropped a part of the day."""
    if partition.day < (report.now - RETENTION).date():
        context.log.warning(
            "%s is past the API's retention of %d days. What the API still has is added; what it no longer "
            "has stays in the archive.",
            partition.day,
            RETENTION.days,
        )
