"""The main job: plan, scan, land, merge, look up by id, derive, publish.

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
from pipeline.extract.lookup import LOOKUPS_PER_BATCH
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
        is_ours = partitions_merged_by(lake, settings.account_sid, group.account_ids)
        observer = observer or Observer()
        running = _Sync(client, lake, settings, now, observer, publishing, group, is_ours)
        report = running.run(scope, monotonic)
    report = replace(report, seconds=monotonic() - began)
    log.info("synced %s", report.account_id, extra={"event": "sync", **report.summary()})
    return report


@dataclass(frozen=True, slots=True)
class _Sync:
    """The steps of a sync, once the archive is open and the API's time is known."""

    client: OperationsClient
    lake: Lake
    settings: Settings
    now: datetime
    observer: Observer
    is_publishing: bool
    group: SyncGroup
    is_ours: Callable[[Partition], bool]

    def run(self, scope: Scope, monotonic: Callable[[], float]) -> SyncReport:
        """All steps."""
        self.group.check_is_another(self.client, self.settings)
        # Scans that an earlier run landed count as coverage once they are merged.
        merging = self._merge()
        planned = plan(self.lake, self.settings, self.now, scope)
        extraction, merged_meanwhile = self._scan(planned.windows)
        merging += merged_meanwhile + self._merge()
        derived = Derivation()
        if len(due_lookups_of(self.lake, self.settings, self.now)) > LOOKUPS_PER_BATCH:
            # They may take minutes. What was listed is published before them.
            derived = self._publish()
        try:
            lookups = look_up_due(
                self.client,
                self.lake,
                self.settings,
                self.now,
                used=sum(scan.requests for scan in extraction.scans),
                observer=self.observer,
                monotonic=monotonic,
            )
        except Exception:
            self._publish()  # what was merged
            raise
        if lookups.landed:
            merging += self._merge()
        with self.group.turn:
            compacting = compact_pending(self.lake, merging.merges, only=self.is_ours)
        derived += self._publish()
        future = scans_of_the_future(self.lake, self.settings.account_sid, self.now)
        errors = merging.errors + compacting.errors + derived.errors
        return SyncReport(
            account_id=self.settings.account_sid,
            now=self.now,
            extraction=extraction,
            left=planned.left,
            lookups=lookups,
            merges=merging.merges,
            compacted=compacting.compacted,
            errors=(*errors, future) if future else errors,
            published=derived.published,
            foreign=_foreign_files(self.lake),
        )

    def _merge(self) -> MergeResults:
        """Merge what has landed."""
        turn = self.group.turn
        with turn:
            return merge_pending(
                self.lake,
                self.observer.merged,
                deriving=self.is_publishing,
                only=self.is_ours,
                turn=turn,
            )

    def _scan(self, windows: list[Window]) -> tuple[Extraction, MergeResults]:
        """Scan windows, and merge each day as soon as all its windows are done."""
        lake, turn, merged = self.lake, self.group.turn, self.observer.merged
        with MergeRunner(lake, merged, deriving=self.is_publishing, turn=turn) as runner:

            def merge_day(partition: Partition) -> None:
                # While another account is merged, this one goes on landing what was scanned.
                with turn.if_free() as is_free:
                    if is_free and lake.has_landed(partition):
                        merge_now_or_later(runner, partition)

            extraction = extract(
                self.client, lake, self.settings, windows, self.observer, on_day=merge_day
            )
        return extraction, runner.done

    def _publish(self) -> Derivation:
        """Derive and publish. A day that fails stays due; nothing archived is lost."""
        if not self.is_publishing:
            return Derivation()
        with self.group.turn:
            self.observer.publishing()
            errors = derive_pending(self.lake, self.is_ours)
            try:
                return Derivation(errors, published=publish(self.lake, force=False))
            except LakeError as error:
                log.warning("%s", error)
                return Derivation((*errors, error))


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
