"""A model of refresh policies: their requests and scans are counted, and not made.

A million requests over HTTP would take hours, so none is made here. The windows are those of the
real `plan_due`, tick by tick, from the coverage that its own scans leave behind; what a window holds
and how many pages it fills is counted in the emulator's world. `tests/test_benchmark_refresh.py` holds
the model against real syncs of the emulator over HTTP: request by request, slot by slot.

Only listings are counted. Lookups by id of operations and their errors are not;
so are failures and retries. Scans take no time.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from pipeline.emulator.world import World
from pipeline.extract.planner import RefreshPolicy, plan_due
from pipeline.extract.scan import MAX_PAGES
from pipeline.model.records import SlotCoverage
from pipeline.model.windows import DAY, RETENTION, SLOT, Window, deadline, midnight, retained_days

_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one scan found: the operations created in ``[start, end)`` that existed at `at`."""

    at: datetime
    start: datetime
    end: datetime


@dataclass(slots=True)
class Log:
    """What a policy did, in order of time.

    Attributes:
        requests: the requests of each tick.
        seen: what each scan found.
    """

    requests: dict[datetime, int] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)


class Pages:
    """How many operations and pages the emulator would serve."""

    def __init__(self, world: World, page_rows: int) -> None:
        self._start = world.start
        self._page_rows = page_rows
        self._first_from = cache(lambda bound: world.numbers(world.start, bound).stop)
        self._existing = cache(lambda now: world.existing(now).stop)

    def operations(self, start: datetime, end: datetime, now: datetime) -> int:
        """How many were created in ``[start, end)`` and exist at `now`."""
        last = self._existing(now)
        first, stop = (self._first_from(max(bound, self._start)) for bound in (start, end))
        return int(min(stop, last) - min(first, last))

    def requests(self, start: datetime, end: datetime, now: datetime) -> int:
        """How many list ``(start, end)``, both exclusive: each page tells whether another follows."""
        return max(math.ceil(self.operations(start + _SECOND, end, now) / self._page_rows), 1)


class Archive:
    """An archive that begins empty and syncs what is due.

    Attributes:
        log: what it did.
        known: what it knows of each slot that a scan covered.
    """

    def __init__(self, world: World, policy: RefreshPolicy) -> None:
        self.log = Log()
        self.known: dict[datetime, SlotCoverage] = {}
        self._policy = policy
        self._pages = Pages(world, policy.page_rows)

    def sync(self, now: datetime) -> None:
        """Read the clock (R10), scan what is due.

        Raises:
            ValueError: a window is so big that a scan would cut it, which the model can't.
        """
        requests = 1
        scans: Counter[datetime] = Counter()
        operations: defaultdict[datetime, float] = defaultdict(float)
        for window in plan_due(self._slots(now), self._policy, now):
            requests += self._pages.requests(*window.query_bounds(), now)
            found = self._pages.operations(window.start, window.end, now)
            if found >= MAX_PAGES * self._policy.page_rows:
                msg = f"{window} holds {found} operations at {now}: a scan would cut it"
                raise ValueError(msg)
            self.log.seen.append(Seen(now, window.start, window.end))
            for slot in window.slots():
                # Coverage knows windows, not slots: it spreads what one held evenly.
                part = min(slot + SLOT, window.end) - max(slot, window.start)
                scans[slot] += 1
                operations[slot] += found * (part / (window.end - window.start))
        self.log.requests[now] = requests
        for slot, times in scans.items():
            before = self.known.get(
                slot, SlotCoverage(slot, first_at=now if now < deadline(slot) else None)
            )
            self.known[slot] = (
                SlotCoverage(slot, before.first_at, now, before.scans + times, operations[slot])
                if now < deadline(slot)
                else replace(before, late_at=now)
            )

    def _slots(self, now: datetime) -> list[SlotCoverage]:
        return [
            self.known.get(slot, SlotCoverage(slot))
            for day in retained_days(now)
            for slot in Window.of_day(day).slots()
        ]


def archive(world: World, policy: RefreshPolicy, ticks: Iterable[datetime]) -> Log:
    """Syncs of what is due at each tick, beginning with an empty archive."""
    model = Archive(world, policy)
    for now in ticks:
        model.sync(now)
    return model.log


def rescan(world: World, page_rows: int, ticks: Iterable[datetime]) -> Log:
    """One listing of the last 7 days at each tick, by a script with a clock of its own."""
    return _listings(world, page_rows, ((now - RETENTION, now + _SECOND, now) for now in ticks))


def yesterday_once(world: World, page_rows: int, ticks: Iterable[datetime]) -> Log:
    """One listing of the UTC day before at each tick."""
    days = ((midnight(now.date()), now) for now in ticks)
    return _listings(world, page_rows, ((today - DAY - _SECOND, today, now) for today, now in days))


def _listings(
    world: World, page_rows: int, asked: Iterable[tuple[datetime, datetime, datetime]]
) -> Log:
    pages = Pages(world, page_rows)
    log = Log()
    for start, end, now in asked:
        log.requests[now] = pages.requests(start, end, now)
        log.seen.append(Seen(now, start + _SECOND, end))
    return log
