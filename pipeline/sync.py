"""The main job: plan, scan, land, merge, derive, publish; then lookups by id, and publish again.

`sync` is all of it; the steps are functions of their own, which Dagster's assets call one by one.
Each step may be killed and run again (R5): what landed stays, what did not is still due.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, TypeAlias

from pipeline.extract.api_clock import api_time, machine_time, scans_of_the_future
from pipeline.extract.lookup import FailedLookup, look_up
from pipeline.extract.planner import (
    RefreshPolicy,
    due_lookups,
    left_over,
    lookups_within,
    plan_due,
    states_asked_before,
)
from pipeline.extract.scan import FailedScan, Listing, scan_windows
from pipeline.lake.coverage import read_slots
from pipeline.lake.faults import UnreadableError
from pipeline.lake.files import Files
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.migration import up_to_date
from pipeline.lake.pending_lookups import read_pending_lookups
from pipeline.merge_runner import (
    MergeResults,
    MergeRunner,
    compact_pending,
    derive_pending,
    merge_now_or_later,
    merge_pending,
    remove_unfinished,
)
from pipeline.model.records import Partition, ScanFacts
from pipeline.model.windows import Window, retained_days, windows_between
from pipeline.observer import Observer
from pipeline.outputs.warehouse import publish
from pipeline.settings import Settings
from pipeline.sync_report import Derivation, Extraction, Lookups, SyncReport
from pipeline.twilio.client import OperationsClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """What the refresh policy says is due."""


@dataclass(frozen=True, slots=True)
class Everything:
    """Every day that the API may still know something of."""


@dataclass(frozen=True, slots=True)
class Days:
    """Certain UTC days, whole."""

    days: Iterable[date]


@dataclass(frozen=True, slots=True)
class Range:
    """Operations created in ``[start, end)``; UTC."""

    start: datetime
    end: datetime


Scope: TypeAlias = Due | Everything | Days | Range
DUE: Final = Due()
EVERYTHING: Final = Everything()


def sync(
    settings: Settings,
    *,
    scope: Scope = DUE,
    observer: Observer | None = None,
    publishing: bool = True,
    files: Files | None = None,
    sleep: Callable[[float], object] | None = None,
    wall_clock: Callable[[], datetime] = machine_time,
    monotonic: Callable[[], float] = time.monotonic,
) -> SyncReport:
    """Scan what is due, and bring everything up to date.

    What was listed is published before anything is looked up by id, which is one request for each operation;
    what that changed is published at the end.

    Args:
        settings: credentials, the API's address, the archive's folder.
        scope: what to scan: what is due by the refresh policy, everything that the API may still know,
            or a range.
        observer: called at each step.
        publishing: whether the delivery tables and the warehouse are derived too. Without, the facts
            alone are brought up to date, and the next sync that publishes derives what is due.
        files: what does the work on the disk; by default a local disk's.
        sleep: waits so many seconds between the tries of a request; by default it really does.
        wall_clock: this machine's clock, which only guards the API's (R10).
        monotonic: seconds on a clock that never goes back; they limit the time for lookups.

    Returns:
        What was done. A window that failed is in it and stays due; the others are in the archive.

    Raises:
        ApiError: the API could not be reached at all, or refuses the credentials.
        ClockError: the API's clock can't be right.
        LakeError: the archive's folder can't be used.
    """
    observer = observer or Observer()
    began = monotonic()
    lake = Lake.of(settings, files)
    with OperationsClient(settings, sleep=sleep) as client:
        now = open_at_api_time(client, lake, settings, wall_clock)
        remove_unfinished(lake)
        planned, extraction, merging = _scan_and_merge(
            client, lake, settings, now, scope, observer=observer, deriving=publishing
        )
        derived = _derive(lake) if publishing else Derivation()
        used = sum(scan.requests for scan in extraction.scans)
        lookups = look_up_due(
            client, lake, settings, now, used=used, observer=observer, monotonic=monotonic
        )
    if lookups.landed:
        merging += merge_pending(lake, observer.merged, deriving=publishing)
    compacting = compact_pending(lake, merging.merges)
    if publishing and (lookups.landed or compacting.compacted):
        derived += _derive(lake)
    future = scans_of_the_future(lake, settings.account_sid, now)
    report = SyncReport(
        account_id=settings.account_sid,
        now=now,
        extraction=extraction,
        left=planned.left,
        lookups=lookups,
        merges=merging.merges,
        compacted=compacting.compacted,
        errors=(
            *merging.errors,
            *compacting.errors,
            *derived.errors,
            *([future] if future else []),
        ),
        published=derived.published,
        foreign=_foreign_files(lake),
        seconds=monotonic() - began,
    )
    log.info("synced %s", report.account_id, extra={"event": "sync", **report.summary()})
    return report


def _scan_and_merge(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    now: datetime,
    scope: Scope,
    *,
    observer: Observer,
    deriving: bool,
) -> tuple["Plan", Extraction, MergeResults]:
    """Scan what `scope` asks for, and merge each day as soon as all its windows are done."""
    # Scans that an earlier run landed count as coverage once they are merged.
    earlier = merge_pending(lake, observer.merged, deriving=deriving)
    planned = plan(lake, settings, now, scope)
    observer.planned(planned.windows)
    with MergeRunner(lake, observer.merged, deriving=deriving) as runner:

        def merge_day(partition: Partition) -> None:
            if lake.has_landed(partition):
                merge_now_or_later(runner, partition)

        extraction = extract(client, lake, settings, planned.windows, observer, on_day=merge_day)
    merging = earlier + runner.done + merge_pending(lake, observer.merged, deriving=deriving)
    return planned, extraction, merging


def _foreign_files(lake: Lake) -> tuple[str, ...]:
    foreign = tuple(str(path) for path in lake.foreign_files())
    for path in foreign:
        log.warning("%s is no file of the archive, but readers would read it: move it away", path)
    return foreign


def open_at_api_time(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    wall_clock: Callable[[], datetime] = machine_time,
) -> datetime:
    """The API's time, and the archive opened for writing; a new one only once the API's clock can be right.

    Raises:
        ApiError, ClockError, LakeError: as of `sync`.
    """
    if lake.exists():
        up_to_date(lake)
    now = api_time(client, lake, settings, wall_clock)
    up_to_date(lake)
    return now


@dataclass(frozen=True, slots=True)
class Plan:
    """What to scan.

    Attributes:
        windows: the most urgent first.
        left: due slots that the budget of requests leaves for the next run.
    """

    windows: list[Window]
    left: int = 0


def plan(lake: Lake, settings: Settings, now: datetime, scope: Scope = DUE) -> Plan:
    """The windows to scan. `now` is the API's (R10)."""
    match scope:
        case Due():
            slots = read_slots(lake, settings.account_sid, retained_days(now))
            policy = RefreshPolicy.of(settings)
            windows = plan_due(slots, policy, now)
            left = left_over(slots, windows, policy, now)
            if left:
                log.warning(
                    "%d hours are due and left for the next run: EMAIL_ARCHIVE_MAX_REQUESTS is %d",
                    left,
                    settings.max_requests,
                )
            return Plan(windows, left)
        case Everything():
            return Plan(whole_days(retained_days(now)))
        case Days(days):
            return Plan(whole_days(days))
        case Range(start, end):
            until = min(end, _end_of_today(now))
            windows = list(reversed(windows_between(start, until))) if start < until else []
            return Plan(windows)


def whole_days(days: Iterable[date]) -> list[Window]:
    """Windows of whole days, newest first: nothing else has seen the newest yet."""
    return [Window.of_day(day) for day in sorted(set(days), reverse=True)]


def _end_of_today(now: datetime) -> datetime:
    return Window.of_day(now.date()).end


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
        observer: called with each page and scan.
        on_day: called with each day of which all windows are done, while others are still scanned.
    """
    left = Counter(window.day for window in windows)
    scans: list[ScanFacts] = []
    failures: list[FailedScan] = []
    surprises: Counter[str] = Counter()
    listing = scan_windows(
        client,
        settings.account_sid,
        windows,
        concurrency=settings.concurrency,
        on_page=observer.received,
    )
    # Closed here and now when this ends early: no thread is to go on asking.
    with closing(listing) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Listing):
                window, parts = outcome.scan.facts.window, outcome.parts
                failure = _land(lake, outcome)
            else:
                window, parts = outcome.window, ()
                failure = outcome
            if failure:
                failures.append(failure)
                observer.failed(failure)
            elif isinstance(outcome, Listing):
                scans.append(outcome.scan.facts)
                surprises.update(outcome.surprises)
                observer.landed(outcome.scan.facts)
            if parts:
                observer.planned(parts)
            left[window.day] += len(parts) - 1
            if not left[window.day]:
                on_day(Partition(settings.account_sid, window.day))
    for what, times in surprises.most_common():
        log.warning("the API sent something new: %s (%d records); it is kept", what, times)
    return Extraction(tuple(scans), tuple(failures), surprises)


def _land(lake: Lake, listing: Listing) -> FailedScan | None:
    """Land a listing; its failure, if the system refuses to write to its day."""
    try:
        land(lake, listing.scan)
    except UnreadableError as error:
        return FailedScan(listing.scan.facts.window, error)
    return None


def look_up_due(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    now: datetime,
    *,
    used: int = 0,
    observer: Observer | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Lookups:
    """Look up single operations by id, as far as they are due and time allows, and land the answers.

    Args:
        client: the API.
        lake: the archive; what is due follows from what was merged.
        settings: the account, the refresh policy, the concurrency.
        now: the API's time.
        used: requests that this run has already made of its budget.
        observer: called at each step.
        monotonic: seconds on a clock that never goes back. No lookup begins once `settings.lookup_seconds`
            have passed; those under way are finished.
    """
    observer = observer or Observer()
    end = monotonic() + settings.lookup_seconds
    policy = RefreshPolicy.of(settings)
    early = states_asked_before(policy, now)
    watched = read_pending_lookups(
        lake, settings.account_sid, errors=policy.errors, states_before=early
    )
    due = due_lookups(watched, policy, now)
    wanted = lookups_within(due, policy, used)
    observer.looking_up(len(wanted))
    asked, gone, errors, requests = 0, 0, 0, 0
    failures: list[FailedLookup] = []
    outcomes = look_up(
        client,
        wanted,
        now,
        concurrency=settings.concurrency,
        is_time_up=lambda: monotonic() >= end,
    )
    for outcome in outcomes:
        if isinstance(outcome, FailedLookup):
            failures.append(outcome)
            continue
        land_lookups(lake, outcome)
        asked += outcome.lookups["error"].null_count
        gone += outcome.lookups.num_rows - outcome.lookups["not_found_at"].null_count
        errors += outcome.errors.num_rows
        requests += outcome.requests
        observer.looked_up(outcome)
    left = len(due) - asked - len(failures)
    if left:
        log.warning(
            "%d lookups by id are due and left for the next run: %d failed, EMAIL_ARCHIVE_LOOKUP_SECONDS is "
            "%g, EMAIL_ARCHIVE_MAX_REQUESTS is %d",
            left,
            len(failures),
            settings.lookup_seconds,
            settings.max_requests,
        )
    return Lookups(asked, gone, errors, requests, tuple(failures), left)


def _derive(lake: Lake) -> Derivation:
    """Derive and publish; what fails stays due and costs nothing that was archived."""
    errors = derive_pending(lake)
    try:
        return Derivation(errors, published=publish(lake, force=False))
    except LakeError as error:
        log.warning("%s", error)
        return Derivation((*errors, error))
