"""Asset checks of the data, on the days of the run."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from assets.keys import asset_key
from assets.resources import ArchiveResource
from pipeline.extract.api_clock import machine_time
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.schema import COVERAGE, OPERATIONS
from pipeline.model.windows import days_between
from pipeline.outputs.counting import readings
from pipeline.quality.anomalies import latest_anomalies
from pipeline.quality.checks import (
    CHECKS,
    Check,
    Findings,
    deadlines_missed,
    failing_rows,
    latest_states,
    lost_lately,
    scanned_after,
    silent_accounts,
)

_SHOWN = 20


FRESH = "newest_operation_fresh"


@dg.multi_asset_check(
    name="operations_checks",
    specs=[
        *(
            dg.AssetCheckSpec(one.name, asset=asset_key(OPERATIONS.name), description=one.meaning)
            for one in CHECKS
        ),
        dg.AssetCheckSpec(
            FRESH,
            asset=asset_key(OPERATIONS.name),
            description="New operations arrive: no account has been without any for much longer than before.",
        ),
    ],
    can_subset=True,
)
def of_operations(
    context: dg.AssetCheckExecutionContext, archive: ArchiveResource
) -> Iterator[dg.AssetCheckResult]:
    """All of `pipeline.quality.checks` in one step: it reads the days once and stores fewer events."""
    lake = archive.lake()
    wanted = _selected(context)
    chosen = [check for check in CHECKS if check.name in wanted]
    days = _days(context, lake)
    # An unreadable file prevents the checks of its own table only.
    errors: list[LakeError] = []
    for table in dict.fromkeys(check.table for check in chosen):
        of_table = [check for check in chosen if check.table == table]
        try:
            failing = failing_rows(lake, of_table, days)
        except LakeError as error:
            errors.append(error)
        else:
            for check in of_table:
                yield _of_rows(check, failing[check.name])
    if FRESH in wanted:
        try:
            yield _of_silence(silent_accounts(lake).to_pylist())
        except LakeError as error:
            errors.append(error)
    if errors:
        raise dg.Failure("\n".join(map(str, errors)), allow_retries=False)


def _selected(context: dg.AssetCheckExecutionContext) -> set[str]:
    return {key.name for key in context.selected_asset_check_keys}


def _of_silence(silent: list[dict[str, Any]]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=FRESH,
        passed=not silent,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"accounts": dg.MetadataValue.json(silent)},
    )


def _of_rows(check: Check, failing: pa.Table) -> dg.AssetCheckResult:
    rows = failing.slice(0, _SHOWN).to_pylist()
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=failing.num_rows == 0,
        severity=dg.AssetCheckSeverity.ERROR if check.is_error else dg.AssetCheckSeverity.WARN,
        description=f"{failing.num_rows} failing rows: {check.meaning}" if rows else None,
        metadata={
            "failing_rows": failing.num_rows,
            "examples": dg.MetadataValue.json([{n: str(v) for n, v in r.items()} for r in rows]),
        },
    )


def _days(context: dg.AssetCheckExecutionContext, lake: Lake) -> list[date]:
    """The days of the run; all days of the archive if the check runs alone."""
    if context.has_partition_key or context.has_partition_key_range:
        days = context.partition_key_range
        return days_between(date.fromisoformat(days.start), date.fromisoformat(days.end))
    return sorted({partition.day for partition in lake.partitions(OPERATIONS.name)})


GAPS = "no_gaps"
DEADLINES = "deadlines_held"
FUTURE = "no_future_scans"


@dg.multi_asset_check(
    name="coverage_checks",
    specs=[
        dg.AssetCheckSpec(
            GAPS,
            asset=asset_key(COVERAGE.name),
            description="No slot was lost in the last 7 days: each was scanned between its end and its "
            "deadline.",
        ),
        dg.AssetCheckSpec(
            DEADLINES,
            asset=asset_key(COVERAGE.name),
            description="Every slot gets its final scan in time; an error when under 6 hours are left.",
        ),
        dg.AssetCheckSpec(
            FUTURE,
            asset=asset_key(COVERAGE.name),
            description="No account has scans in the future by this machine's clock. They would make the "
            "coverage wrong; `email-archive repair` shows and removes them.",
        ),
    ],
    can_subset=True,
)
def of_coverage(
    context: dg.AssetCheckExecutionContext, archive: ArchiveResource
) -> Iterator[dg.AssetCheckResult]:
    """Lost slots, slots whose final scan is overdue, and accounts with scans in the future."""
    wanted = _selected(context)
    states = latest_states(archive.lake())
    if GAPS in wanted:
        yield _of_slots(GAPS, lost_lately(states), "lost")
    if DEADLINES in wanted:
        missed = deadlines_missed(states, archive.first_final_scan())
        yield _of_slots(DEADLINES, missed, "without a final scan")
    if FUTURE in wanted:
        future = {} if archive.trusts_clock() else scanned_after(states, machine_time())
        yield dg.AssetCheckResult(
            check_name=FUTURE,
            passed=not future,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"last_scans": dg.MetadataValue.json(future)},
        )


@dg.asset_check(
    asset=asset_key("warehouse"),
    description="Each rate of the last 28 days is in the range expected from the 28 days before it.",
)
def rates_as_usual(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Days with unusual rates."""
    unusual = latest_anomalies(archive.lake())
    return dg.AssetCheckResult(
        passed=not unusual,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(unusual)} rates are outside their band" if unusual else None,
        metadata={"anomalies": dg.MetadataValue.json([str(one) for one in unusual[:_SHOWN]])},
    )


@dg.asset_check(
    asset=asset_key("warehouse"),
    description="Each account's counts decide their reading. Until they do, the reading is assumed.",
)
def reading_decided(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Accounts with an assumed reading."""
    assumed = [one for one in readings(archive.lake()) if one.warning]
    return dg.AssetCheckResult(
        passed=not assumed,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(assumed)} accounts are undecided: see counting" if assumed else None,
        metadata={
            "accounts": dg.MetadataValue.json({one.account_id: one.warning for one in assumed})
        },
    )


def _of_slots(name: str, findings: Findings, what: str) -> dg.AssetCheckResult:
    shown = [
        {"slot": f"{slot['slot']:%Y-%m-%dT%H:%MZ}", "hours_left": round(slot["hours_left"], 1)}
        for slot in findings.slots[:_SHOWN]
    ]
    is_error = findings.is_error
    return dg.AssetCheckResult(
        check_name=name,
        passed=not findings.slots,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description=f"{len(findings.slots)} slots {what}" if findings.slots else None,
        metadata={"slots": len(findings.slots), "examples": dg.MetadataValue.json(shown)},
    )


checks = [of_operations, of_coverage, rates_as_usual, reading_decided]
