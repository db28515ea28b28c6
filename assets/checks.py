"""Asset checks: what should hold of the data, on the days of the run."""

from datetime import date

import dagster as dg

from assets.resources import ArchiveResource
from pipeline.checks import CHECKS, Check, failing_rows
from pipeline.lake.layout import Lake
from pipeline.schema import OPERATIONS
from pipeline.windows import days_between

_SHOWN = 20


def build_check(check: Check) -> dg.AssetChecksDefinition:
    """One of `pipeline.checks` as an asset check on `operations`."""

    @dg.asset_check(asset="operations", name=check.name, description=check.meaning)
    def run(
        context: dg.AssetCheckExecutionContext, archive: ArchiveResource
    ) -> dg.AssetCheckResult:
        lake = archive.lake()
        failing = failing_rows(lake, check, _days(context, lake))
        severity = dg.AssetCheckSeverity.ERROR if check.is_error else dg.AssetCheckSeverity.WARN
        rows = failing.slice(0, _SHOWN).to_pylist()
        return dg.AssetCheckResult(
            passed=failing.num_rows == 0,
            severity=severity,
            description=f"{failing.num_rows} failing rows: {check.meaning}" if rows else None,
            metadata={
                "failing_rows": failing.num_rows,
                "examples": dg.MetadataValue.json(
                    [{n: str(v) for n, v in r.items()} for r in rows]
                ),
            },
        )

    return run


def _days(context: dg.AssetCheckExecutionContext, lake: Lake) -> list[date]:
    """The days of the run; all of the archive's if the check is run by itself."""
    if context.has_partition_key or context.has_partition_key_range:
        days = context.partition_key_range
        return days_between(date.fromisoformat(days.start), date.fromisoformat(days.end))
    return sorted({partition.day for partition in lake.partitions(OPERATIONS.name)})


checks = [build_check(check) for check in CHECKS]
