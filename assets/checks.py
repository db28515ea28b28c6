"""Asset checks: of a partition's rows in each run, of the whole archive every hour."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Final

import dagster as dg
import pyarrow as pa

from assets.failures import as_failures
from assets.keys import asset_key
from assets.resources import ArchiveResource
from assets.scans import SCANS
from pipeline.extract.api_clock import machine_time
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, OPERATIONS
from pipeline.model.windows import RETENTION
from pipeline.outputs.counting import readings
from pipeline.quality.anomalies import latest_anomalies
from pipeline.quality.checks import (
    CHECKS,
    Findings,
    deadlines_missed,
    failing_rows,
    lost_lately,
    recent_states,
    scanned_after,
    silent_accounts,
    unsynced_accounts,
)

_SHOWN = 20


_OF_ROWS: Final = [check for check in CHECKS if not check.is_across_days]
_ACROSS_DAYS: Final = [check for check in CHECKS if check.is_across_days]

ROWS: Final = dg.AssetCheckSpec(
    "rows_as_expected",
    asset=asset_key(OPERATIONS.name),
    description="\n".join(f"- {one.name}: {one.meaning}" for one in _OF_ROWS),
)


def rows_as_expected(lake: Lake, partition: Partition) -> dg.AssetCheckResult:
    """All of `pipeline.quality.checks` on one partition, as one check: Dagster keeps the event of each."""
    with as_failures():
        failing = {
            name: rows for name, rows in failing_rows(lake, _OF_ROWS, [partition]).items() if rows
        }
    errors = [check.name for check in _OF_ROWS if check.is_error and check.name in failing]
    return dg.AssetCheckResult(
        check_name=ROWS.name,
        asset_key=ROWS.asset_key,
        passed=not failing,
        severity=dg.AssetCheckSeverity.ERROR if errors else dg.AssetCheckSeverity.WARN,
        description=", ".join(f"{name}: {rows.num_rows} rows" for name, rows in failing.items()),
        metadata={
            name: dg.MetadataValue.json(
                [{n: str(v) for n, v in row.items()} for row in rows.slice(0, _SHOWN).to_pylist()]
            )
            for name, rows in failing.items()
        },
    )


@dg.asset_check(
    asset=asset_key(OPERATIONS.name),
    description="\n".join(one.meaning for one in _ACROSS_DAYS) + " Of the last 8 days.",
)
def ids_unique(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Ids that several days of an account have: the API moved an operation."""
    lake = archive.lake()
    partitions = list(lake.partitions(OPERATIONS.name))
    last = max((one.day for one in partitions), default=date.min)
    recent = [one for one in partitions if last - one.day <= RETENTION]
    with as_failures():
        rows = pa.concat_tables(failing_rows(lake, _ACROSS_DAYS, recent).values())
    return dg.AssetCheckResult(
        passed=rows.num_rows == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"operations": dg.MetadataValue.json(rows.slice(0, _SHOWN).to_pylist())},
    )


@dg.asset_check(
    asset=asset_key(OPERATIONS.name),
    description="New operations arrive: no account has been without any for much longer than before.",
)
def newest_operation_fresh(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Accounts without new operations."""
    with as_failures():
        silent = silent_accounts(archive.lake()).to_pylist()
    return dg.AssetCheckResult(
        passed=not silent,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"accounts": dg.MetadataValue.json(silent)},
    )


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
    wanted = {key.name for key in context.selected_asset_check_keys}
    # By this machine's clock: an account without scans loses slots too.
    now = datetime.min.replace(tzinfo=UTC) if archive.trusts_clock() else machine_time()
    with as_failures():
        states = recent_states(archive.lake(), now)
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
    asset=SCANS,
    description="Every active account was scanned in the last day, by this machine's clock.",
)
def accounts_synced(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Active accounts without a sync in the last day."""
    # An emulator's clock shows any time.
    with as_failures():
        late = {} if archive.trusts_clock() else unsynced_accounts(archive.lake(), machine_time())
    return dg.AssetCheckResult(
        passed=not late,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"accounts": dg.MetadataValue.json(late)},
    )


@dg.asset_check(
    asset=asset_key("warehouse"),
    description="Each rate of the last 28 days is in the range expected from the 28 days before it.",
)
def rates_as_usual(archive: ArchiveResource) -> dg.AssetCheckResult:
    """Days with unusual rates."""
    with as_failures():
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
    with as_failures():
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
        {
            "account_id": slot["account_id"],
            "slot": f"{slot['slot']:%Y-%m-%dT%H:%MZ}",
            "hours_left": round(slot["hours_left"], 1),
        }
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


hourly_checks = [
    accounts_synced,
    of_coverage,
    ids_unique,
    newest_operation_fresh,
    rates_as_usual,
    reading_decided,
]
