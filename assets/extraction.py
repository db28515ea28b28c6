"""Scans of the API, landed in the lake."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from assets.keys import asset_key
from assets.metadata import add_per_day, days_of
from assets.partitions import daily
from assets.resources import ArchiveResource, TwilioResource
from assets.schedules import SCOPE, SCOPE_DUE
from pipeline.errors import ArchiveError
from pipeline.extract.api_clock import ClockError
from pipeline.extract.scan import FailedScan
from pipeline.extraction import extract, look_up_due
from pipeline.lake.layout import Lake
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition, ScanFacts
from pipeline.model.windows import RETENTION, Window, retained_days
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync import open_at_api_time, plan, whole_days
from pipeline.sync_report import Extraction, Lookups
from pipeline.terminal import message
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import FatalApiError

EVERY_WINDOW = "every_window_scanned"


class _Log(Observer):
    """Logs scans by day, since Dagster stores each line as an event."""

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log
        self._scans: defaultdict[date, list[ScanFacts]] = defaultdict(list)

    def landed(self, facts: ScanFacts) -> None:
        self._scans[facts.window.day].append(facts)

    def failed(self, failure: FailedScan) -> None:
        error = message(str(failure.error))
        self._log.error(f"window {failure.window} failed and stays due: {error}")

    def day_done(self, partition: Partition) -> None:
        """All windows of a day are done."""
        scans = self._scans.pop(partition.day, [])
        operations, pages = (sum(getattr(s, n) for s in scans) for n in ("operations", "pages"))
        self._log.info(
            f"scanned {partition.day}: {len(scans)} windows, {operations} operations, {pages} pages"
        )


@dg.asset(
    key=asset_key("landed_scans"),
    partitions_def=daily,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="extraction",
    kinds={"python", "parquet"},
    freshness_policy=dg.FreshnessPolicy.time_window(
        warn_window=timedelta(hours=1), fail_window=timedelta(hours=6)
    ),
    retry_policy=dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL),
    check_specs=[
        dg.AssetCheckSpec(
            EVERY_WINDOW,
            asset=asset_key("landed_scans"),
            description="Every window of the run's days was listed, and every lookup by id succeeded. "
            "Failed ones stay due.",
        )
    ],
)
def landed_scans(
    context: dg.AssetExecutionContext, archive: ArchiveResource, twilio: TwilioResource
) -> dg.MaterializeResult:
    """Complete listings of the days' windows, each in an immutable file until it is merged.

    Materializing a day by hand scans all of it. A scan past the deadline adds operations that the API still
    has and removes nothing. Every run also makes the lookups by id that are due, of any day.
    """
    settings = twilio.settings(archive.root(), trust_clock=archive.trusts_clock())
    lake = Lake.of(settings)
    days = days_of(list(context.partition_keys))
    try:
        with OperationsClient(settings) as client:
            now = open_at_api_time(client, lake, settings)
            _warn_of_old_days(context, days, retained_days(now))
            windows = _windows(context, lake, settings, now, days)
            observer = _Log(context.log)
            extraction = extract(
                client, lake, settings, windows, observer, on_day=observer.day_done
            )
            used = sum(scan.requests for scan in extraction.scans)
            lookups = look_up_due(client, lake, settings, now, used=used)
    except (FatalApiError, ClockError) as error:
        # A retry would fail too: somebody has to correct the credentials or the clock first.
        raise dg.Failure(str(error), allow_retries=False) from None
    except ArchiveError as error:
        raise dg.Failure(str(error)) from None
    except dg.DagsterExecutionInterruptedError:
        # Without this, Dagster would retry a run that was stopped on purpose.
        msg = (
            "stopped: landed scans are in the archive; scans in progress were dropped and stay due"
        )
        raise dg.Failure(msg, allow_retries=False) from None
    if extraction.failures and not extraction.scans:
        raise dg.Failure("\n".join(str(failure.error) for failure in extraction.failures))
    add_per_day(context, {day: _of_day(extraction, day) for day in days})
    for day in sorted({scan.window.day for scan in extraction.scans} - set(days)):
        metadata = _of_day(extraction, day)
        event = dg.AssetMaterialization(
            asset_key("landed_scans"), partition=day.isoformat(), metadata=metadata
        )
        context.log_event(event)
    if lookups.landed or lookups.left:
        context.log.info(
            "looked up operations by id: %d completed, %d of them not found, %d errors; %d failed, %d left",
            lookups.completed,
            lookups.not_found,
            lookups.errors,
            len(lookups.failures),
            lookups.left,
        )
    return dg.MaterializeResult(check_results=[_every_window(extraction, lookups)])


def _windows(
    context: dg.AssetExecutionContext,
    lake: Lake,
    settings: Settings,
    now: datetime,
    days: Sequence[date],
) -> list[Window]:
    """The due windows, in a run of the schedule; all windows of the days, in a run by hand.

    The due windows may be on other days than the schedule estimated by this machine's clock (R10).
    """
    if context.run.tags.get(SCOPE) != SCOPE_DUE:
        return whole_days(days)
    merge_pending(lake)  # landed scans of earlier runs count as scanned
    windows = plan(lake, settings, now).windows
    if others := sorted({f"{window.day}" for window in windows if window.day not in days}):
        context.log.warning(
            "due by the API's clock, but not in this run's days: %s. They are scanned too. Check this "
            "machine's clock",
            ", ".join(others),
        )
    return windows


def _warn_of_old_days(
    context: dg.AssetExecutionContext, days: Sequence[date], retained: Sequence[date]
) -> None:
    if old := [day.isoformat() for day in days if day < retained[0]]:
        context.log.warning(
            "%s: past the API's retention of %d days. Operations that the API still has are added; the "
            "archive keeps the others.",
            ", ".join(old),
            RETENTION.days,
        )


def _of_day(extraction: Extraction, day: date) -> dict[str, Any]:
    totals: dict[str, int] = defaultdict(int)
    for scan in extraction.scans:
        if scan.window.day == day:
            totals["scans"] += 1
            for name in ("operations", "records", "pages", "requests", "retries", "rejects"):
                totals[name] += getattr(scan, name)
            totals["outside_window"] += scan.outside
    failed = [failure for failure in extraction.failures if failure.window.day == day]
    metadata: dict[str, Any] = {name: dg.MetadataValue.int(n) for name, n in totals.items()}
    observed = [scan.observed_at for scan in extraction.scans if scan.window.day == day]
    if observed:
        metadata["observed_at"] = dg.MetadataValue.timestamp(max(observed))
    if failed:
        metadata["failed_windows"] = dg.MetadataValue.json([str(f.window) for f in failed])
    return metadata


def _every_window(extraction: Extraction, lookups: Lookups) -> dg.AssetCheckResult:
    failures = {str(f.window): str(f.error) for f in extraction.failures}
    failed_lookups = {
        f"{f.pending.subject} of {f.pending.operation_id}": str(f.error) for f in lookups.failures
    }
    return dg.AssetCheckResult(
        check_name=EVERY_WINDOW,
        passed=not failures and not failed_lookups,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "scans": len(extraction.scans),
            "failed_windows": dg.MetadataValue.json(failures),
            "lookups": lookups.completed,
            "lookups_left": lookups.left,
            "failed_lookups": dg.MetadataValue.json(failed_lookups),
        },
    )
