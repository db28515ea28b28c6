"""Decides which slots are due, which windows scan them, and which lookups by id are due.

All functions are pure: they depend on coverage, policy and `now` only (R10).

A slot is scanned often while it is young and changes, and rarely later. Shortly before its deadline it has
final scans. Refreshes are aligned: the slots of a tier become due at the same times, the multiples of its
interval, so that neighbours share a window and a sync merges few days. Due slots are joined into one window
if the last scans found few operations, and split into several if they found many.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from pipeline.model.records import PendingLookup, SlotCoverage
from pipeline.model.values import DEFAULT_FINAL_SCANS, DEFAULT_REFRESH, parse_durations, parse_tiers
from pipeline.model.windows import RETENTION, SLOT, Window, deadline
from pipeline.settings import Settings

WINDOW_PAGES: Final = 10
"""Pages that a window should take: few enough to lose little when one of them fails."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLY: Final = timedelta(seconds=30)
"""A sync this shortly before a multiple counts as after it, since clocks differ a little."""

_LATE_ERRORS: Final = timedelta(days=1)
_NOT_DUE: Final = 2
"""The rank of a slot that is not due, but in a window with slots that are."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Slots younger than `age` are due once in each interval of length `every`, counted from 1970 in UTC."""

    age: timedelta
    every: timedelta


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How often slots are scanned.

    Attributes:
        tiers: by age, youngest first. The age of a slot is the time since its start.
        final_scans: times before its deadline at which a slot is due again.
        window_rows: the most operations that a window should have.
        page_rows: operations per page, and so per request.
        requests: about the number of requests that a run may make; None for no limit.
        lookups_from: how long before its deadline the lookups of an operation that is not settled begin.
        lookups_every: the first interval between the lookups of an operation.
        lookups_growth: the interval grows to this share of the time since then.
        lookups_early: the part of that interval after which an operation is due. The intervals of syncs
            are independent of it, and a sync that is a second too early should not be wasted.
        errors: whether the errors of failures are looked up.
    """

    tiers: tuple[Tier, ...] = tuple(Tier(*tier) for tier in parse_tiers(DEFAULT_REFRESH))
    final_scans: tuple[timedelta, ...] = parse_durations(DEFAULT_FINAL_SCANS)
    window_rows: int = 10_000
    page_rows: int = 1_000
    requests: int | None = None
    lookups_from: timedelta = timedelta(hours=2)
    lookups_every: timedelta = timedelta(hours=1)
    lookups_growth: float = 1 / 8
    lookups_early: float = 0.9
    errors: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "RefreshPolicy":
        """The policy that a user has set."""
        return cls(
            tiers=tuple(Tier(*tier) for tier in settings.refresh_tiers),
            final_scans=settings.final_scan_times,
            window_rows=WINDOW_PAGES * settings.page_size,
            page_rows=settings.page_size,
            requests=settings.max_requests,
            errors=settings.fetch_operation_errors,
        )

    def every(self, age: timedelta) -> timedelta:
        """How often a slot of that age is scanned."""
        return next((tier.every for tier in self.tiers if age < tier.age), self.tiers[-1].every)


@dataclass(frozen=True, order=True, slots=True)
class DueSlot:
    """A slot to scan. Slots sort by urgency, the most urgent first.

    Attributes:
        rank: 0 if its deadline is near: this may be the last chance to scan it. 1 if it is due by its age.
        order: for rank 0 the seconds to the deadline; for rank 1 the intervals since the last scan, negative.
        slot: its start.
        operations: how many operations it is expected to have.
    """

    rank: int
    order: float
    slot: datetime
    operations: float


def due_slots(slots: Iterable[SlotCoverage], policy: RefreshPolicy, now: datetime) -> list[DueSlot]:
    """The slots that are due at `now`, the most urgent first.

    A slot that has not begun is never due. A slot past its deadline without a final scan is due once, while
    its last operations are younger than 7 days: a first sync, or one after an outage, stores what is left.
    """
    return sorted(due for one in slots if (due := _due(one, policy, now)) is not None)


def _due(one: SlotCoverage, policy: RefreshPolicy, now: datetime) -> DueSlot | None:
    slot_deadline = deadline(one.slot)
    if not one.slot <= now < slot_deadline + SLOT:
        return None
    left = slot_deadline - now
    covered = one.covered_at
    if now >= slot_deadline:
        is_final = covered and slot_deadline - covered <= max(policy.final_scans, default=RETENTION)
        is_done = is_final or one.late_at is not None
        return None if is_done else DueSlot(0, left.total_seconds(), one.slot, one.operations)
    is_final_scan_due = any(
        left <= final and (covered is None or slot_deadline - covered > final)
        for final in policy.final_scans
    )
    if is_final_scan_due:
        return DueSlot(0, left.total_seconds(), one.slot, one.operations)
    if covered is None:
        return DueSlot(1, -math.inf, one.slot, one.operations)
    # If the last scan was within the slot, operations created after it are still to be found. Until then the
    # slot keeps the interval that it had at that scan, although it has become older.
    age = min(now, covered if covered < one.slot + SLOT else now) - one.slot
    every = policy.every(age)
    if _multiples(every, now) <= _multiples(every, covered):
        return None
    return DueSlot(1, (covered - now) / every, one.slot, one.operations)


def _multiples(every: timedelta, now: datetime) -> int:
    """How many multiples of an interval lie between 1970 and a moment."""
    return (now + _EARLY - _EPOCH) // every


def plan_due(slots: Iterable[SlotCoverage], policy: RefreshPolicy, now: datetime) -> list[Window]:
    """The windows to scan now: all due slots, or the most urgent that the budget allows.

    Args:
        slots: what is known of every slot that the API may still know.
        policy: how often slots are scanned.
        now: the API's time.

    Returns:
        Windows without overlap, the most urgent first; none if nothing is due. They hold the due slots,
        and others only where taking those along saves a request.
    """
    every = list(slots)
    known = {one.slot: one.operations for one in every}
    due = _within_budget(due_slots(every, policy, now), policy, known)
    windows = [
        (min(group), window)
        for group in _groups(due, policy, known)
        for window in _windows(group, policy)
    ]
    return [window for _, window in sorted(windows)]


def left_over(
    slots: Iterable[SlotCoverage], windows: Iterable[Window], policy: RefreshPolicy, now: datetime
) -> int:
    """How many due slots the planned windows leave for the next run, since the budget is spent."""
    planned = {slot for window in windows for slot in window.slots()}
    return sum(due.slot not in planned for due in due_slots(slots, policy, now))


def _within_budget(
    due: Sequence[DueSlot], policy: RefreshPolicy, known: Mapping[datetime, float]
) -> Sequence[DueSlot]:
    """The most urgent due slots whose windows fit into the budget; at least one."""

    def requests(some: Sequence[DueSlot]) -> int:
        return sum(_requests(group, policy) for group in _groups(some, policy, known))

    if policy.requests is None or requests(due) <= policy.requests:
        return due
    enough, too_many = 1, len(due)
    while enough + 1 < too_many:
        middle = (enough + too_many) // 2
        if requests(due[:middle]) <= policy.requests:
            enough = middle
        else:
            too_many = middle
    return due[:enough]


def _groups(
    due: Iterable[DueSlot], policy: RefreshPolicy, known: Mapping[datetime, float]
) -> list[list[DueSlot]]:
    """Due slots in groups, each of which is listed as one window: consecutive slots of one day.

    Two runs are joined, with the slots between them that are not due, if that saves a request.
    """
    groups: list[list[DueSlot]] = []
    for run in _runs(due, policy):
        last = groups[-1] if groups else []
        if last and last[0].slot.date() == run[0].slot.date():
            joined = [*last, *_between(last[-1].slot, run[0].slot, known), *run]
            if _rows(joined) <= policy.window_rows and _requests(joined, policy) < (
                _requests(last, policy) + _requests(run, policy)
            ):
                groups[-1] = joined
                continue
        groups.append(run)
    return groups


def _runs(due: Iterable[DueSlot], policy: RefreshPolicy) -> list[list[DueSlot]]:
    """Runs of consecutive due slots of one day, none with more operations than a window should have."""
    runs: list[list[DueSlot]] = []
    for one in sorted(due, key=lambda one: one.slot):
        last = runs[-1] if runs else []
        follows = bool(last) and last[-1].slot + SLOT == one.slot
        if (
            follows
            and last[-1].slot.date() == one.slot.date()
            and _rows([*last, one]) <= policy.window_rows
        ):
            last.append(one)
        else:
            runs.append([one])
    return runs


def _between(before: datetime, after: datetime, known: Mapping[datetime, float]) -> list[DueSlot]:
    """The slots between two, which are not due. A slot of unknown size counts as too large to include."""
    hours = range(1, (after - before) // SLOT)
    slots = (before + n * SLOT for n in hours)
    return [DueSlot(_NOT_DUE, 0.0, slot, known.get(slot, math.inf)) for slot in slots]


def _rows(group: Iterable[DueSlot]) -> float:
    return sum(one.operations for one in group)


def _requests(group: Iterable[DueSlot], policy: RefreshPolicy) -> int:
    """About how many requests the windows of these slots take."""
    return max(math.ceil(_rows(group) / policy.page_rows), 1)


def _windows(group: Sequence[DueSlot], policy: RefreshPolicy) -> list[Window]:
    """One window, or several for a slot with more operations than a window should have."""
    window = Window(group[0].slot, group[-1].slot + SLOT)
    return cut(window, math.ceil(_rows(group) / policy.window_rows))


def cut(window: Window, pieces: int) -> list[Window]:
    """A window in parts of about equal length; fewer than `pieces` if they would be shorter than a second."""
    seconds = math.ceil((window.end - window.start).total_seconds())
    pieces = max(min(pieces, seconds), 1)
    inner = [window.start + timedelta(seconds=seconds * n // pieces) for n in range(1, pieces)]
    return [Window(a, b) for a, b in pairwise([window.start, *inner, window.end])]


def due_lookups(
    pending: Iterable[PendingLookup], policy: RefreshPolicy, now: datetime
) -> list[PendingLookup]:
    """The lookups by id that are due now, the most urgent first.

    The state of an unsettled operation is looked up from shortly before its deadline on, since later
    listings may omit it. Errors are looked up at once, while the API may have them: until the deadline,
    and for a day after a state that was observed later. Lookups are repeated at intervals that grow with
    the time since the first one was due. For errors the interval is at most half of the time left, so
    that there is another chance after a failure.
    """
    due = [one for one in pending if _is_due(one, policy, now)]
    return sorted(due, key=lambda one: (abs(deadline(one.created_at) - now), one.operation_id))


def state_lookups_before(policy: RefreshPolicy, now: datetime) -> datetime:
    """Operations created at this moment or later need no lookup of their state yet."""
    return now + policy.lookups_from - RETENTION + SLOT


def _is_due(one: PendingLookup, policy: RefreshPolicy, now: datetime) -> bool:
    if one.subject == "errors":
        left = max(deadline(one.created_at), one.observed_at + _LATE_ERRORS) - now
        if not policy.errors or left <= timedelta():
            return False
        growing = min((now - one.observed_at) * policy.lookups_growth, left / 2)
    else:
        since = deadline(one.created_at) - policy.lookups_from
        if now < since:
            return False
        growing = (now - since) * policy.lookups_growth
    every = max(policy.lookups_every, growing)
    return one.requested_at is None or now - one.requested_at >= every * policy.lookups_early


def lookups_within(
    due: Sequence[PendingLookup], policy: RefreshPolicy, used: int
) -> Sequence[PendingLookup]:
    """The first of the due lookups, as many as the budget allows after `used` requests.

    A tenth of the budget is reserved for lookups. Otherwise an account whose scans use it up would never look
    up anything.
    """
    if policy.requests is None:
        return due
    return due[: max(policy.requests - used, policy.requests // 10, 1)]
