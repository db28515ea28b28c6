"""The extraction steps of a sync: scan windows and look up operations by id, and land the results."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime

from pipeline.extract.lookup import FailedLookup, look_up
from pipeline.extract.planner import (
    RefreshPolicy,
    due_lookups,
    lookups_within,
    state_lookups_before,
)
from pipeline.extract.scan import FailedScan, ScanResult, scan_windows
from pipeline.lake.faults import UnreadableError
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake
from pipeline.lake.pending_lookups import read_pending_lookups
from pipeline.lake.shared_ids import SharedIds
from pipeline.model.records import Partition, PendingLookup, ScanFacts
from pipeline.model.windows import Window
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync_report import Extraction, Lookups
from pipeline.twilio.client import OperationsClient

log = logging.getLogger(__name__)


def extract(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    windows: Sequence[Window],
    observer: Observer,
    *,
    on_day: Callable[[Partition], None] = lambda _: None,
) -> Extraction:
    """Scan windows concurrently and land each scan as soon as it is complete.

    Args:
        client: the API.
        lake: the archive.
        settings: the account, the concurrency.
        windows: what to scan.
        observer: called with the windows, each page and each scan.
        on_day: called with each day once all its windows are done, while others are still scanned.

    Raises:
        CredentialsError: the API refuses the credentials.
        SharedIdsError: the archive has these operations under another account; they do not land.
    """
    drift: Counter[str] = Counter()
    shared = None if settings.allow_shared_ids else SharedIds(lake, settings.account_sid)

    def land_scan(result: ScanResult) -> FailedScan | None:
        if shared:
            shared.check(result.window.day, result.scan.operations)
        try:
            land(lake, result.scan)
        except UnreadableError as error:  # the system refuses to write to this day; others may work
            return FailedScan(result.window, error)
        drift.update(result.drift)
        return None

    outcome = scan_all(
        client,
        settings,
        windows,
        observer,
        on_scan=land_scan,
        on_day=lambda day: on_day(Partition(settings.account_sid, day)),
    )
    for what, records in drift.most_common():
        log.warning("the API sent something new: %s (%d records); it is kept", what, records)
    return Extraction(tuple(outcome.scans), tuple(outcome.failures), drift)


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """What scanning many windows brought.

    Attributes:
        scans: the facts of the scans that succeeded.
        failures: the windows that failed.
    """

    scans: list[ScanFacts]
    failures: list[FailedScan]


def scan_all(
    client: OperationsClient,
    settings: Settings,
    windows: Sequence[Window],
    observer: Observer,
    *,
    on_scan: Callable[[ScanResult], FailedScan | None],
    on_day: Callable[[date], None] = lambda _: None,
) -> ScanOutcome:
    """Scan windows concurrently, including the parts of those that are cut.

    Args:
        client: the API.
        settings: the account, the concurrency.
        windows: what to scan.
        observer: called with the windows, each page and each scan.
        on_scan: called with each scan; returns a failure if the scan can't be used.
        on_day: called with each day once all its windows are done.

    Raises:
        CredentialsError: the API refuses the credentials.
    """
    left = Counter(window.day for window in windows)
    outcome = ScanOutcome([], [])
    observer.planned(windows)
    concurrency, on_page = settings.concurrency, observer.received
    results = scan_windows(
        client, settings.account_sid, windows, concurrency=concurrency, on_page=on_page
    )
    # Closed explicitly, so that the threads stop sending requests if this function raises.
    with closing(results):
        for result in results:
            parts: Sequence[Window] = ()
            if isinstance(result, FailedScan):
                failure: FailedScan | None = result
            else:
                failure, parts = on_scan(result), result.parts
                if failure is None:
                    outcome.scans.append(result.scan.facts)
                    observer.landed(result.scan.facts)
            if failure:
                outcome.failures.append(failure)
                observer.failed(failure)
            if parts:
                observer.planned(parts)
            left[result.window.day] += len(parts) - 1
            if not left[result.window.day]:
                on_day(result.window.day)
    return outcome


def look_up_due(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    now: datetime,
    *,
    used: int = 0,
    observer: Observer | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    day: date | None = None,
) -> Lookups:
    """Look up operations by id as far as they are due and the budget allows, and land the responses.

    Args:
        client: the API.
        lake: the archive, with the pending lookups of its last merge.
        settings: the account, the refresh policy, the concurrency.
        now: the API's time.
        used: requests that this sync has already made.
        observer: called with each batch.
        monotonic: seconds on a monotonic clock. No lookup is started once `settings.lookup_timeout` have
            passed; those in flight are finished.
        day: only operations created on this UTC day; by default those of any day.
    """
    observer = observer or Observer()
    end = monotonic() + settings.lookup_timeout
    due = [one for one in due_lookups_of(lake, settings, now) if day in (None, one.partition.day)]
    planned = lookups_within(due, RefreshPolicy.of(settings), used)
    observer.looking_up(len(planned))
    done = Lookups()
    outcomes = look_up(
        client,
        planned,
        now,
        concurrency=settings.concurrency,
        is_time_up=lambda: monotonic() >= end,
    )
    for outcome in outcomes:
        if isinstance(outcome, FailedLookup):
            done += Lookups(failures=(outcome,))
            continue
        land_lookups(lake, outcome)
        done += Lookups.of(outcome)
        observer.looked_up(outcome)
    done += Lookups(left=len(due) - done.completed - len(done.failures))
    if done.left:
        _warn_of_left(done, settings)
    return done


def _warn_of_left(lookups: Lookups, settings: Settings) -> None:
    log.warning(
        "%d lookups by id are due and left for the next run: %d failed, EMAIL_ARCHIVE_LOOKUP_TIMEOUT is "
        "%g, EMAIL_ARCHIVE_MAX_REQUESTS is %d",
        lookups.left,
        len(lookups.failures),
        settings.lookup_timeout,
        settings.max_requests,
    )


def due_lookups_of(lake: Lake, settings: Settings, now: datetime) -> list[PendingLookup]:
    """The lookups by id of an account's operations that are due, the most urgent first."""
    policy = RefreshPolicy.of(settings)
    pending = read_pending_lookups(
        lake,
        settings.account_sid,
        errors=policy.errors,
        states_before=state_lookups_before(policy, now),
    )
    return due_lookups(pending, policy, now)
