"""Asset checks: what should hold of the data, on the days of the run."""

import dagster as dg

from assets.metadata import days_of
from assets.partitions import daily
from assets.resources import ArchiveResource
from pipeline.checks import CHECKS, Check, failing_rows

_SHOWN = 20


def build_check(check: Check) -> dg.AssetChecksDefinition:
    """One of `pipeline.checks` as an asset check on `operations`."""

    @dg.asset_check(
        asset="operations", name=check.name, description=check.meaning, partitions_def=daily
    )
    def run(
        context: dg.AssetCheckExecutionContext, archive: ArchiveResource
    ) -> dg.AssetCheckResult:
        failing = failing_rows(archive.lake(), check, days_of(list(context.partition_keys)))
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


checks = [build_check(check) for check in CHECKS]
