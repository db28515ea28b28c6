"""The main job: plan, scan, land, merge, derive, publish; then look up by id, and publish again.

`sync` runs all steps. Dagster's assets call `sync_partition`, which does so for a day of one account.
Each step may be killed and repeated (R5): landed scans stay, the other windows are still due.
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final, TypeAlias

from pipeline.errors import UsageError
from pipeline.extract.api_clock import api_time, machine_time, scans_of_the_future
from pipeline.extract.lookup import LOOKUPS_AT_ONCE
from pipeline.extract.planner import RefreshPolicy, left_over, plan_due
from pipeline.extraction import due_lookups_of, extract, look_up_due
from pipeline.lake.accounts import partitions_merged_by
from pipeline.lake.coverage import read_slots
from pipeline.lake.files import Files
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.migration import up_to_date
from pipeline.merge_runner import (
    MergeResults,
    MergeRunner,
    MergeTurn,
    compact_pending,
    derive_pending,
    merge_now_or_later,
    merge_pending,
    remove_unfinished,
)
from pipeline.model.records import Partition
from pipeline.model.times import iso_seconds
from pipeline.model.windows import RETENTION, Window, retained_days, windows_between
from pipeline.observer import Observer
from pipeline.outputs.warehouse import publish
from pipeline.settings import Settings
from pipeline.sync_group import SyncGroup
from pipeline.sync_report import Derivation, Extraction, SyncReport
from pipeline.twilio.client import OperationsClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """What the refresh policy says is due."""


@dataclass(frozen=True, slots=True)
class Everything:
    """Every day that the API may still have."""


@dataclass(frozen=True, slots=True)
class Range:
    """Operations created in ``[start, end)``; UTC.

    Attributes:
        start: the first time of creation.
        end: the end of the range.
        must_be_retained: refuse a range of which the API has nothing any more, or nothing yet.
    """

    start: datetime
    end: datetime
    must_be_retained: bool = False


Scope: TypeAlias = Due | Everything | Range
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
    group: SyncGroup | None = None,
) -> SyncReport:
    """Scan what is due, look up by id what is due, and publish; also before the lookups if there are many.

    Args:
        settings: credentials, the API's address, the archive's folder.
        scope: what to scan.
        observer: called at each step.
        publishing: whether to derive the delivery tables and publish; if not, a later sync does.
        files: file operations; by default those of the local disk.
        sleep: waits so many seconds between the attempts of a request; by default it really waits.
        wall_clock: this machine's clock, which only guards the API's (R10).
        monotonic: seconds on a monotonic clock, for the time limit of lookups.
        group: the syncs of other accounts that run at the same time in this process.

    Returns:
        What was done. Failed windows are listed and stay due; the other windows are in the archive.

    Raises:
        ApiError: the API can't be reached, or refuses the credentials.
        ClockError: the API's clock is implausible.
        SharedIdsError: the operations are another account's; nothing is stored.
        LakeError: the archive's folder can't be used.
        UsageError: the API has nothing of the range in `scope`, which must be retained.
    """
    began = monotonic()
    lake = Lake.of(settings, files)
    with OperationsClient(settings, sleep=sleep) as client, closing(SyncGroup(lake)) as alone:
        group = group or alone
        now = open_at_api_time(client, lake, settings, wall_clock, opening=group.turn)
        remove_unfinished(lake)
        report = _run(
            client,
            lake,
            settings,
            now,
            scope,
            observer=observer or Observer(),
            publishing=publishing,
            monotonic=monotonic,
            group=group,
        )
    report = replace(report, seconds=monotonic() - began)
    log.info("synced %s", report.account_id, extra={"event": "sync", **report.summary()})
    return report


def _run(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    now: datetime,
    scope: Scope,
    *,
    observer: Observer,
    publishing: bool,
    monotonic: Callable[[], float],
    group: SyncGroup,
) -> SyncReport:
    """All steps, once the archive is open and the API's time is known."""
    turn = group.turn
    is_ours = partitions_merged_by(lake, settings.account_sid, group.account_ids)
    group.check_is_another(client, settings)
    planned, extraction, merging = _scan_and_merge(
        client,
        lake,
        settings,
        now,
        scope,
        observer=observer,
        deriving=publishing,
        is_ours=is_ours,
        turn=turn,
    )
    derived = Derivation()
    if publishing and len(due_lookups_of(lake, settings, now)) > LOOKUPS_AT_ONCE:
        # They may take minutes. What was listed is published before them.
        with turn:
            derived = _derive(lake, is_ours, observer)
    used = sum(scan.requests for scan in extraction.scans)
    lookups = look_up_due(
        client, lake, settings, now, used=used, observer=observer, monotonic=monotonic
    )
    with turn:
        if lookups.landed:
            merging += merge_pending(
                lake, observer.merged, deriving=publishing, only=is_ours, turn=turn
            )
        compacting = compact_pending(lake, merging.merges, only=is_ours)
        if publishing:
            derived += _derive(lake, is_ours, observer)
    future = scans_of_the_future(lake, settings.account_sid, now)
    return SyncReport(
        account_id=settings.account_sid,
        now=now,
        extraction=extraction,
        left=planned.left,
        lookups=lookups,
        merges=merging.merges,
        compacted=compacting.compacted,
        errors=merging.errors + compacting.errors + derived.errors + ((future,) if future else ()),
        published=derived.published,
        foreign=_foreign_files(lake),
    )


def _scan_and_merge(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    now: datetime,
    scope: Scope,
    *,
    observer: Observer,
    deriving: bool,
    is_ours: Callable[[Partition], bool],
    turn: MergeTurn,
) -> tuple["Plan", Extraction, MergeResults]:
    """Scan what is in `scope`, and merge each day as soon as all its windows are done."""
    # Scans that an earlier run landed count as coverage once they are merged.
    with turn:
        earlier = merge_pending(lake, observer.merged, deriving=deriving, only=is_ours, turn=turn)
    planned = plan(lake, settings, now, scope)
    with MergeRunner(lake, observer.merged, deriving=deriving, turn=turn) as runner:

        def merge_day(partition: Partition) -> None:
            # While another account is merged, this one goes on landing what was scanned.
            with turn.if_free() as is_free:
                if is_free and lake.has_landed(partition):
                    merge_now_or_later(runner, partition)

        extraction = extract(client, lake, settings, planned.windows, observer, on_day=merge_day)
    with turn:
        later = merge_pending(lake, observer.merged, deriving=deriving, only=is_ours, turn=turn)
    merging = earlier + runner.done + later
    return planned, extraction, merging


def _foreign_files(lake: Lake) -> tuple[str, ...]:
    foreign = tuple(str(path) for path in lake.foreign_files())
    for path in foreign:
        log.warning(
            "%s is not a file of the archive, but readers would read it: move it away", path
        )
    return foreign


def open_at_api_time(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    wall_clock: Callable[[], datetime] = machine_time,
    *,
    opening: AbstractContextManager[None] | None = None,
) -> datetime:
    """Open the archive for writing, and return the API's time.

    A new archive is only created once the API's clock has been checked. `opening` is held while it is created
    or migrated, so that threads of this process do not wait for each other's file lock, with a warning.

    Raises:
        ApiError, ClockError, LakeError: as of `sync`.
    """
    opening = opening or nullcontext()
    if lake.exists():
        with opening:
            up_to_date(lake)
    now = api_time(client, lake, settings, wall_clock)
    with opening:
        up_to_date(lake)
    return now


@dataclass(frozen=True, slots=True)
class Plan:
    """What to scan.

    Attributes:
        windows: the most urgent first.
        left: due slots that are left for the next run, since the request budget is spent.
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
        case Range(start, end, must_be_retained):
            if must_be_retained:
                _require_retained(start, end, now)
            until = min(end, _end_of_today(now))
            windows = list(reversed(windows_between(start, until))) if start < until else []
            return Plan(windows)


def _require_retained(start: datetime, end: datetime, now: datetime) -> None:
    """Raise UsageError for a range without operations at the API."""
    oldest = now - RETENTION
    if oldest < end and start <= now:
        return
    when = f"It is {iso_seconds(now)} there"
    if start > now:
        msg = f"nothing can come: {iso_seconds(start)} is in the API's future. {when}"
    else:
        msg = (
            f"nothing can come: the API keeps operations for {RETENTION.days} days, and those before "
            f"{iso_seconds(end)} are gone. {when}; what is left was created after {iso_seconds(oldest)}"
        )
    raise UsageError(msg)


def whole_days(days: Iterable[date]) -> list[Window]:
    """Windows of whole days, the newest first: it is the least likely to be scanned already."""
    return [Window.of_day(day) for day in sorted(set(days), reverse=True)]


def _end_of_today(now: datetime) -> datetime:
    return Window.of_day(now.date()).end


def _derive(lake: Lake, only: Callable[[Partition], bool], observer: Observer) -> Derivation:
    """Derive and publish. A day that fails stays due; nothing archived is lost."""
    observer.publishing()
    errors = derive_pending(lake, only)
    try:
        return Derivation(errors, published=publish(lake, force=False))
    except LakeError as error:
        log.warning("%s", error)
        return Derivation((*errors, error))
