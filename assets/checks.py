"""Asset checks: what should hold of the data, on the days of the run."""

from datetime import date

import dagster as dg

from assets.resources import ArchiveResource
from pipeline.anomalies import latest_anomalies
from pipeline.checks import (
    CHECKS,
    Check,
    Findings,
    deadlines_missed,
    failing_rows,
    lost_lately,
    silent_accounts,
)
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


@dg.asset_check(
    asset="coverage",
    description="No slot was lost in the last 7 days: each was scanned between its end and its deadline.",
)
def no_gaps(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Names the slots that were lost."""
    return _of_slots(lost_lately(archive.lake()), "lost")


@dg.asset_check(
    asset="coverage",
    description="Every slot gets its final scan in time; an error when under 6 hours are left.",
)
def deadlines_held(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Names the slots whose final scan is overdue."""
    return _of_slots(
        deadlines_missed(archive.lake(), archive.first_final_scan()), "without a final scan"
    )


@dg.asset_check(
    asset="operations",
    description="Operations go on coming: no account is silent for much longer than it ever was.",
)
def newest_operation_fresh(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Names the accounts that are silent."""
    silent = silent_accounts(archive.lake()).to_pylist()
    return dg.AssetCheckResult(
        passed=not silent,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"accounts": dg.MetadataValue.json(silent)},
    )


@dg.asset_check(
    asset="warehouse",
    description="The rates of the last 28 days are what the 28 days before each let expect.",
)
def rates_as_usual(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Names the days whose rates left their band."""
    unusual = latest_anomalies(archive.lake())
    return dg.AssetCheckResult(
        passed=not unusual,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(unusual)} rates left their band" if unusual else None,
        metadata={"anomalies": dg.MetadataValue.json([str(one) for one in unusual[:_SHOWN]])},
    )


def _of_slots(findings: Findings, what: str) -> dg.AssetCheckResult:
    shown = [
        {"slot": f"{slot['slot']:%Y-%m-%dT%H:%MZ}", "hours_left": round(slot["hours_left"], 1)}
        for slot in findings.slots[:_SHOWN]
    ]
    is_error = findings.is_error
    return dg.AssetCheckResult(
        passed=not findings.slots,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=f"{len(findings.slots)} slots {what}" if findings.slots else None,
        metadata={"slots": len(findings.slots), "examples": dg.MetadataValue.json(shown)},
    )


checks = [
    *(build_check(check) for check in CHECKS),
    no_gaps,
    deadlines_held,
    newest_operation_fresh,
    rates_as_usual,
]
