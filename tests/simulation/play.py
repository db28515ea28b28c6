"""play(): runs the simulation of one seed, and checks the rules.

The same seed gives the same worlds, APIs, schedule and faults. Everything runs on one thread: a second
process that works on the same lake at the same time runs between the steps of the first.
"""

import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow.parquet as pq

from pipeline.access.query import ask
from pipeline.emulator import FAULTS, Clock, Emulator, Faults, Options, World, running
from pipeline.emulator.faults import CLOCKS
from pipeline.emulator.lifecycle import Counting
from pipeline.emulator.listing import Bounds, Order
from pipeline.lake import landing
from pipeline.lake.files import Files
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.schema import (
    COVERAGE,
    HISTORY,
    LAKE_TABLES,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
)
from pipeline.model.windows import Window, midnight
from pipeline.observer import Observer
from pipeline.sync import DUE, EVERYTHING, Range, Scope, sync
from pipeline.twilio.client import Page
from pipeline.twilio.errors import ApiError
from tests.simulation.truth import Account, Truth, all_tables, changed_by_merging_again, unsealed
from tests.support.archives import settings_for, states
from tests.support.disks import CountingDisk, Crash, CrashingDisk, FailingDisk, Platter
from tests.support.factories import at

START: Final = at("2026-11-01")
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_SIDS: Final = ("AC" + "0123456789abcdef" * 2, "AC" + "f" * 32)
_BROKEN: Final = {
    number: OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EIO)
}


@dataclass
class Outcome:
    """What happened under one seed.

    Attributes:
        seed: the seed.
        happened: how often: syncs, crashes, power cuts, full disks, outages, failed syncs, requests.
        crashed_before: the kinds of steps before which there were crashes and power cuts.
        crashed_after: the kinds of steps after which there were some.
        failed_at: the kinds of steps that the disk failed at.
        injected: the API's faults.
        operations: in the archive at the end.
        problems: what breaks a rule; empty if all is well.
    """

    seed: int
    happened: Counter[str] = field(default_factory=Counter)
    crashed_before: Counter[str] = field(default_factory=Counter)
    crashed_after: Counter[str] = field(default_factory=Counter)
    failed_at: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    problems: list[str] = field(default_factory=list)


def play(seed: int, folder: Path) -> Outcome:
    """Run the simulation of a seed in an empty folder.

    Args:
        seed: what happens.
        folder: the folder of the archive; each power cut makes a new one in it.
    """
    return _Life(seed, folder).live()


Acknowledged = set[tuple[Any, ...]]
End = Literal["well", "not well", "kill", "power cut"]


class _Told(Observer):
    """Records what a sync reported as landed, advances the clock, and runs the other process."""

    def __init__(self, passes: Callable[[], None], turn: Callable[[], None]) -> None:
        self.acknowledged: Acknowledged = set()
        self._passes, self._turn = passes, turn

    def planned(self, windows: Sequence[Window]) -> None:  # noqa: ARG002 - an observer's
        self._turn()

    def received(self, page: Page) -> None:  # noqa: ARG002 - an observer's
        self._passes()

    def landed(self, facts: ScanFacts) -> None:
        self.acknowledged.add((facts.window.start, facts.window.end, facts.observed_at))
        self._turn()

    def looked_up(self, answers: LookupBatch) -> None:
        self.acknowledged |= {tuple(row.values()) for row in answers.lookups.to_pylist()}
        self._turn()

    def merged(self, report: MergeReport) -> None:  # noqa: ARG002 - an observer's
        self._turn()


class _Life:
    def __init__(self, seed: int, folder: Path) -> None:
        self._lots = random.Random(seed)  # noqa: S311 - a simulation's, no secret
        self._folder = folder
        self._data = folder / "0" / "lake"
        self._data.parent.mkdir()
        self._platter = Platter(self._data.parent)
        self._seen: set[tuple[Any, ...]] = set()
        self._promised: set[tuple[Any, ...]] = set()
        self._was_killed = False
        self._out = Outcome(seed)
        lots = self._lots
        days = lots.randint(3, 10)
        self._end = START + days * _DAY + lots.uniform(0, 30) * _HOUR
        sids = _SIDS if lots.random() < 0.2 else _SIDS[:1]
        self._accounts = [
            Account(_world(lots, seed + 1_000_000 * number, days), _options(lots, seed, sid))
            for number, sid in enumerate(sids)
        ]
        begun = START + timedelta(seconds=lots.randint(360, 180_000))
        self._clock = Clock(begun)

    def live(self) -> Outcome:
        out, clock = self._out, self._clock
        with ExitStack() as stack:
            apis = [
                stack.enter_context(running(one.world, clock=clock, options=one.options))
                for one in self._accounts
            ]
            while clock.now() < self._end:
                self._sync(apis)
                clock.step(self._pause())
            out.happened["requests"] += sum(len(api.requests) for api in apis)
            for api in apis:
                out.injected += api.injected
        for account in self._accounts:
            self._last_sync(account)
        lake = Lake(self._data)
        for account in self._accounts:
            truth = Truth(lake, account, clock.now())
            out.operations += truth.operations
            out.problems += truth.problems()
        out.problems += unsealed(lake, clock.now())
        out.problems += changed_by_merging_again(lake)
        return out

    def _last_sync(self, account: Account) -> None:
        """A sync without faults, crashes or another process."""
        calm = replace(account.options, faults=None)
        with running(account.world, clock=self._clock, options=calm) as api:
            account.syncs.append([self._clock.now()])
            ok = sync(settings_for(api, self._data), scope=EVERYTHING).ok
        self._check(ok, "the last sync, without faults, failed")
        left = [path for path in (self._data / ".tmp").rglob("*") if path.is_file()]
        self._check(not left, f"R5: unfinished files are left: {left}")
        self._check_state("after the last sync", set(), was_cut=False, is_settled=True)

    def _pause(self) -> timedelta:
        lot = self._lots.random()
        if lot < 0.04:
            self._out.happened["outages of the archive"] += 1
            return timedelta(seconds=self._lots.randint(86_400, 9 * 86_400))
        return self._lots.choice([10 * _MINUTE, 3 * _HOUR, 8 * _HOUR, 11 * _HOUR, 20 * _HOUR])

    def _sync(self, apis: Sequence[Emulator]) -> None:
        """One sync, on a disk that may break, with another one between its steps or not."""
        lots, out = self._lots, self._out
        number = lots.randrange(len(apis))
        if lots.random() < 0.2:
            self._cut_at_a_record(apis, number)
        has_company, turn_at = lots.random() < 0.15, lots.randint(1, 12)
        turns = iter(range(1, 1_000_000))
        acknowledged: Acknowledged = set()

        def turn() -> None:
            if has_company and next(turns) == turn_at:
                out.happened["syncs within another"] += 1
                acknowledged.update(self._process(apis, lots.randrange(len(apis)), lambda: None)[0])

        scope = EVERYTHING if lots.random() < 0.1 else DUE
        mine, end = self._process(apis, number, turn, scope=scope, may_lose_power=True)
        acknowledged |= mine
        if end == "power cut":
            self._go_on_with_what_is_left()
        when = f"at {self._clock.now():%Y-%m-%dT%H:%M:%SZ}"
        self._check_state(
            when,
            acknowledged,
            was_cut=end == "power cut",
            is_settled=end == "well" and not has_company,
        )

    def _cut_at_a_record(self, apis: Sequence[Emulator], number: int) -> None:
        """Syncs of a day's windows before and after the very second of an operation, or of one (R4, R7)."""
        account, now = self._accounts[number], self._clock.now()
        young = account.world.numbers(max(now - _DAY, START), now)[-8:]
        if not young:
            return
        self._out.happened["days cut at an operation"] += 1
        one = account.world.records([self._lots.choice(young)], now)[0]
        moment = datetime.fromisoformat(one["createdAt"])
        first = midnight(moment.date())
        which = self._lots.choice([0, 1, 2, 2])
        for half, (start, end) in enumerate(((first, moment), (moment, first + _DAY))):
            if start < end and which in (half, 2):
                self._process(apis, number, lambda: None, scope=Range(start, end))
        truth = Truth(Lake(self._data), account, self._clock.now())
        self._out.problems += truth.less_than_covered()

    def _process(
        self,
        apis: Sequence[Emulator],
        number: int,
        turn: Callable[[], None],
        *,
        scope: Scope = DUE,
        may_lose_power: bool = False,
    ) -> tuple[Acknowledged, End]:
        """One process that syncs; returns what it reported as landed, and how it ended."""
        lots, out, api = self._lots, self._out, apis[number]
        disk = self._disk()
        cuts_power = may_lose_power and lots.random() < (2 / 3 if self._was_killed else 1 / 3)
        seconds = lots.choice([0, 0, 1, 90])
        moments = [self._clock.now()]
        self._accounts[number].syncs.append(moments)

        def passes() -> None:
            if seconds:
                self._clock.step(timedelta(seconds=lots.randint(1, seconds)))
            moments.append(self._clock.now())

        told = _Told(passes, turn)
        settings = settings_for(
            api,
            self._data,
            page_size=2 if lots.random() < 0.03 else lots.choice([15, 1000, 1000]),
            retry_attempts=lots.choice([2, 6]),
            concurrency=1,
        )
        if lots.random() < 0.02:
            out.happened["outages of the API"] += 1
            settings = settings.model_copy(update={"api_url": "http://127.0.0.1:9/v1"})
        out.happened["syncs"] += 1
        end: End = "not well"
        try:
            report = sync(
                settings,
                scope=scope,
                observer=told,
                publishing=lots.random() < 0.15,
                files=Files(disk),
                sleep=lambda _: None,
            )
            out.happened["failed syncs"] += not report.ok
            end = "well" if report.ok else end
        except ApiError:
            out.happened["failed syncs"] += 1
        except (OSError, LakeError) as error:
            is_told = isinstance(disk, FailingDisk) and disk.error.strerror in str(error)
            self._check(is_told, f"a sync: {error!r}")
        except Crash:
            end = "power cut" if cuts_power else "kill"
            out.happened[f"{end}s"] += 1
        moments.append(self._clock.now())
        self._was_killed = end == "kill"
        if isinstance(disk, CrashingDisk) and disk.broken:
            out.crashed_before[disk.broken[0]] += 1
            out.crashed_after[disk.broken[1]] += 1
        if isinstance(disk, FailingDisk) and disk.failed:
            out.failed_at[disk.failed] += 1
        return told.acknowledged, end

    def _disk(self) -> CountingDisk:
        lots, platter = self._lots, self._platter
        lot, moment = lots.random(), lots.randint(1, lots.choice([20, 150, 600]))
        # What a killed process left unsynced is lost only if the power goes soon after.
        if lot < (0.7 if self._was_killed else 0.3):
            return CrashingDisk(moment, platter)
        if lot > 0.95:
            return FailingDisk(moment, _BROKEN[errno.ENOSPC], platter=platter)
        if lot > 0.9:
            return FailingDisk(moment, _BROKEN[errno.EIO], once=True, platter=platter)
        return CountingDisk(platter)

    def _go_on_with_what_is_left(self) -> None:
        share = self._lots.choice([0.0, 0.5, 1.0])
        left = self._folder / str(self._out.happened["power cuts"])
        self._platter.wreck(left, lambda _: self._lots.random() < share)
        self._data = left / "lake"
        self._platter = Platter(left)

    def _check(self, holds: bool, problem: str) -> None:
        if not holds:
            self._out.problems.append(problem)

    def _check_state(
        self, when: str, acknowledged: Acknowledged, *, was_cut: bool, is_settled: bool
    ) -> None:
        """R1, R5, R6: files are complete, and hold all that they held before and that was reported as landed.

        One exception: a power cut may undo what a killed process had written and not reported, data and
        coverage together. The next successful sync makes what is left durable.
        """
        lake = Lake(self._data)
        for table in LAKE_TABLES:
            for path in (lake.root / table.name).rglob("*"):
                if path.is_file():
                    self._check(path.name == "part-0.parquet", f"R6 {when}: {path} is in the way")
                    pq.read_metadata(path)
        seen = _facts(lake)
        gone = (self._promised if was_cut else self._seen) - seen
        self._check(
            not gone, f"R1 {when}: {len(gone)} facts are gone, as {sorted(gone, key=str)[:1]}"
        )
        lost = acknowledged - seen
        self._check(
            not lost, f"R5 {when}: {len(lost)} landed and are not there, as {list(lost)[:1]}"
        )
        self._seen = seen
        self._promised = seen if was_cut or is_settled else self._promised | acknowledged
        for rows in all_tables(lake, [OPERATIONS]):
            ids = rows["operation_id"].to_pylist()
            self._check(len(ids) == len(set(ids)), f"R2 {when}: operations are there twice")
        if lake.warehouse.exists() and self._lots.random() < 0.1:
            ask(lake, "SELECT count(*) FROM delivery_daily")


def _facts(lake: Lake) -> set[tuple[Any, ...]]:
    """The facts in the archive: states, rejects, errors, lookups and scans.

    Two scans of one window at one moment count once.
    """
    found: set[tuple[Any, ...]] = set()
    landed = [
        landing.read(path) for part in lake.partitions("landing") for path in lake.landed(part)
    ]
    for rows in (*all_tables(lake, [HISTORY]), *(one.operations for one in landed)):
        found |= states(rows)
    for names, tables in (
        (("raw", "reason"), [*all_tables(lake, [REJECTS]), *(one.rejects for one in landed)]),
        (("operation_id", "code", "message", "raw"),
         [*all_tables(lake, [OPERATION_ERRORS]), *(one.errors for one in landed)]),
        (tuple(LOOKUPS.names), [*all_tables(lake, [LOOKUPS]), *(one.lookups for one in landed)]),
        (("window_start", "window_end", "observed_at"),
         [*all_tables(lake, [COVERAGE]), *(one.coverage for one in landed)]),
    ):  # fmt: skip
        for rows in tables:
            found |= {tuple(row.values()) for row in rows.select(list(names)).to_pylist()}
    return found


def _world(lots: random.Random, seed: int, days: int) -> World:
    return World(
        seed,
        lots.uniform(10, 40),
        START,
        end=START + days * _DAY,
        counting=lots.choice(get_args(Counting)),
        omit_recipients_and_attempts=lots.random() < 0.2,
        unknown_fields=lots.random() < 0.2,
    )


def _options(lots: random.Random, seed: int, sid: str) -> Options:
    return Options(
        account_sid=sid,
        order=lots.choice(get_args(Order)),
        bounds=lots.choice(get_args(Bounds)),
        page_limit=lots.choice([15, 40, 1000]),
        empty_pages=lots.random() < 0.3,
        records_key=lots.choice(["operations", "data"]),
        fading=lots.choice([timedelta(), 3 * _DAY]),
        returns_unsettled=lots.random() < 0.3,
        faults=_faults(lots, seed),
    )


def _faults(lots: random.Random, seed: int) -> Faults:
    """Some kinds of faults, each at a rate that lets requests succeed; a few scripted ones first."""
    # A wrong clock ends a run, and no response would be waited for in real time.
    possible = [kind for kind in FAULTS if kind not in (*CLOCKS, "large-page-hang")]
    kinds = [kind for kind in possible if lots.random() < 0.3]
    script = [lots.choice([None, *possible]) for _ in range(lots.choice([0, 0, 8]))]
    often = {kind: 5 if kind.startswith("unknown") else 1 for kind in kinds}
    rates = {kind: often[kind] * lots.uniform(0.01, 0.06) for kind in kinds}
    late_by = lots.choice([10, 50]) * _MINUTE
    return Faults(seed, rates, script, late_by=late_by, drip_seconds=0.0)
