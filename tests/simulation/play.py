"""play(): what one seed makes happen, and whether the rules held.

The same seed makes the same world, API, schedule and breaks. Threads answer in an order of their own;
no fault and no check depends on it.
"""

import errno
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from pipeline.emulator import FAULTS, Clock, Emulator, Faults, Options, World, running
from pipeline.lake import landing
from pipeline.lake.files import Disk, Files
from pipeline.lake.fold import fold
from pipeline.lake.layout import Lake
from pipeline.query import ask
from pipeline.schema import HISTORY, LAKE_TABLES, OPERATIONS, REJECTS
from pipeline.sync import DUE, EVERYTHING, sync
from pipeline.twilio.errors import ApiError
from pipeline.twilio.wire import record_json
from pipeline.windows import RETENTION
from tests.support.archives import rows, settings_for, states
from tests.support.disks import CountingDisk, Crash, CrashingDisk, FailingDisk, PowerlessDisk
from tests.support.factories import at, snapshot

START: Final = at("2026-11-01")
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_FULL: Final = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass
class Outcome:
    """What happened under one seed.

    Attributes:
        seed: the seed.
        happened: how often: syncs, crashes, power cuts, full disks, outages, failed syncs, requests.
        crashed_at: the kinds of steps that crashes came before.
        injected: the API's faults.
        operations: in the archive at the end.
        problems: what breaks a rule; empty if all is well.
    """

    seed: int
    happened: Counter[str] = field(default_factory=Counter)
    crashed_at: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    operations: int = 0
    problems: list[str] = field(default_factory=list)


def play(seed: int, folder: Path) -> Outcome:
    """Live through a seed in an empty folder.

    Args:
        seed: what happens.
        folder: where the archive lies; each power cut makes a new one in it.
    """
    return _Life(seed, folder).live()


class _Life:
    def __init__(self, seed: int, folder: Path) -> None:
        self._lots = random.Random(seed)  # noqa: S311 - a simulation's, no secret
        self._folder = folder
        self._data = folder / "0" / "lake"
        self._data.parent.mkdir()
        self._seen: set[tuple[Any, ...]] = set()
        self._out = Outcome(seed)
        lots = self._lots
        days = lots.randint(3, 10)
        self._world = World(seed, lots.uniform(10, 40), START, end=START + days * _DAY)
        self._end = START + days * _DAY + lots.uniform(0, 30) * _HOUR
        self._faults = _faults(lots, seed)
        self._options = Options(
            order=lots.choice(["oldest", "newest", "scrambled"]),
            bounds=lots.choice(["inclusive", "exclusive", "start_inclusive", "end_inclusive"]),
            page_limit=lots.choice([15, 40, 1000]),
            empty_pages=lots.random() < 0.3,
            records_key=lots.choice(["operations", "data"]),
            tells_unsettled=lots.random() < 0.3,
            faults=self._faults,
        )

    def live(self) -> Outcome:
        clock = Clock(START + self._lots.uniform(0.1, 50) * _HOUR)
        with running(self._world, clock=clock, options=self._options) as emulator:
            while clock.now() < self._end:
                self._sync(emulator)
                clock.set((clock.now() + self._pause()).replace(microsecond=0))
            self._out.happened["requests"] += len(emulator.requests)
            self._out.injected += emulator.injected
        calm = Options(bounds=self._options.bounds)
        with running(self._world, clock=clock, options=calm) as emulator:
            settings = settings_for(emulator, self._data)
            self._check(
                sync(settings, scope=EVERYTHING).ok, "the last sync, without faults, failed"
            )
            self._check_state("after the last sync")
            self._check_truth(clock.now())
        return self._out

    def _pause(self) -> timedelta:
        lot = self._lots.random()
        if lot < 0.04:
            self._out.happened["outages"] += 1
            return self._lots.uniform(1, 9) * _DAY
        return self._lots.choice([10 * _MINUTE, 3 * _HOUR, 8 * _HOUR, 11 * _HOUR, 20 * _HOUR])

    def _sync(self, emulator: Emulator) -> None:
        """One sync, on a disk that may break."""
        lots, out = self._lots, self._out
        disk = self._disk()
        settings = settings_for(
            emulator,
            self._data,
            page_size=lots.choice([15, 1000]),
            retry_attempts=lots.choice([2, 6]),
            concurrency=lots.choice([1, 4]),
        )
        out.happened["syncs"] += 1
        try:
            report = sync(
                settings,
                scope=EVERYTHING if lots.random() < 0.1 else DUE,
                publishing=lots.random() < 0.15,
                files=Files(disk),
                sleep=lambda _: None,
            )
            out.happened["failed syncs"] += not report.ok
        except ApiError:
            out.happened["failed syncs"] += 1
        except OSError as error:
            self._check(
                isinstance(disk, FailingDisk) and error.errno == errno.ENOSPC, f"a sync: {error!r}"
            )
            out.happened["full disks"] += 1
        except Crash as crash:
            out.crashed_at[str(crash)] += 1
            if isinstance(disk, PowerlessDisk):
                out.happened["power cuts"] += 1
                self._go_on_with_what_is_left(disk)
            else:
                out.happened["crashes"] += 1
        self._check_state(f"at {emulator.clock.now():%Y-%m-%dT%H:%M:%SZ}")

    def _disk(self) -> Disk:
        lot, moment = self._lots.random(), self._lots.randint(1, self._lots.choice([20, 150, 600]))
        if lot < 0.2:
            return CrashingDisk(moment)
        if lot < 0.3:
            return PowerlessDisk(moment, self._data.parent)
        if lot < 0.38:
            return FailingDisk(moment, _FULL)
        return CountingDisk()

    def _go_on_with_what_is_left(self, disk: PowerlessDisk) -> None:
        share = self._lots.choice([0.0, 0.5, 1.0])
        left = self._folder / str(self._out.happened["power cuts"])
        disk.wreck(left, lambda _: self._lots.random() < share)
        self._data = left / "lake"

    def _check(self, holds: bool, problem: str) -> None:
        if not holds:
            self._out.problems.append(problem)

    def _check_state(self, when: str) -> None:
        """R1, R5, R6: what lies on the disk is whole, and never less than it was."""
        lake = Lake(self._data)
        for table in LAKE_TABLES:
            for path in (lake.root / table.name).rglob("*"):
                if path.is_file():
                    self._check(path.name == "part-0.parquet", f"R6 {when}: {path} is in the way")
                    pq.read_metadata(path)
        seen = states(rows(lake.root, HISTORY))
        for partition in lake.partitions("landing"):
            for path in lake.landed(partition):
                seen |= states(landing.read(path).operations)
        self._check(self._seen <= seen, f"R1 {when}: {len(self._seen - seen)} states are gone")
        self._seen = seen
        ids = rows(lake.root, OPERATIONS)["operation_id"].to_pylist()
        self._check(len(ids) == len(set(ids)), f"R2 {when}: operations are there twice")

    def _check_truth(self, now: datetime) -> None:
        lake = Lake(self._data)
        operations = {row["operation_id"]: row for row in rows(lake.root, OPERATIONS).to_pylist()}
        history = rows(lake.root, HISTORY).to_pylist()
        self._out.operations = len(operations)
        for problem in (
            *self._unlike_now(operations, now),
            *self._not_newest(operations, history),
            *self._never_true(history),
            *self._missing_without_a_gap(lake, operations, now),
            *self._changed_by_folding_again(lake),
        ):
            self._check(False, problem)

    def _unlike_now(self, operations: dict[str, Any], now: datetime) -> Iterator[str]:
        """R7, R8: what the API still knows is archived as it is, and can be told as JSON again."""
        alive = self._world.numbers(max(now - RETENTION, START), now)
        for record in self._world.records(alive, now):
            row = operations.get(record["id"])
            if row is None:
                yield f"R7: {record['id']} of {record['createdAt']} is missing"
            elif json.loads(record_json(row)) != record:
                yield f"R8: {record['id']} is {record_json(row)}, not {json.dumps(record)}"

    def _not_newest(
        self, operations: dict[str, Any], history: list[dict[str, Any]]
    ) -> Iterator[str]:
        """R2, R3"""
        newest: dict[str, datetime] = {}
        for row in history:
            one = row["operation_id"]
            newest[one] = max(newest.get(one, row["updated_at"]), row["updated_at"])
        if newest.keys() != operations.keys():
            yield "R1: operations and history name others"
        for one, row in operations.items():
            if row["updated_at"] != newest[one]:
                yield f"R2: {one} is of {row['updated_at']}, not {newest[one]}"

    def _never_true(self, history: list[dict[str, Any]]) -> Iterator[str]:
        """Every state was the world's when it was seen, or when a stale replica had it."""
        rates = self._faults.rates
        if rates.get("date-skew"):
            return
        ages = [timedelta(), self._faults.stale_by] if rates.get("stale") else [timedelta()]
        for row in history:
            number = self._world.number_of(row["operation_id"])
            truths = [
                record
                for age in ages
                for record in self._world.records([number], row["observed_at"] - age)
            ]
            told = json.loads(record_json(row))
            known = [{**truth, "status": told["status"]} for truth in truths]
            told.pop("campaign", None)
            if told not in (known if told["status"] == "PAUSED" else truths):
                yield f"R8: {row['operation_id']} was never {told}, but {truths}"

    def _missing_without_a_gap(
        self, lake: Lake, operations: dict[str, Any], now: datetime
    ) -> Iterator[str]:
        """R4: what is not in the archive is in no hour that it claims to have covered."""
        query = "SELECT slot, state FROM coverage_slots"
        slots = {row["slot"]: row["state"] for row in ask(lake, query).to_pylist()}
        rejected = " ".join(rows(lake.root, REJECTS)["raw"].to_pylist())
        expired = range(self._world.numbers(START, max(now - RETENTION, START)).stop)
        for record in self._world.records(expired, now):
            if record["id"] in operations or record["id"] in rejected:
                continue
            if f'"{record["createdAt"]}"' in rejected:
                continue  # a record without its id
            slot = datetime.fromisoformat(record["createdAt"]).replace(minute=0, second=0)
            if slots.get(slot, "never_asked") not in ("gap", "never_asked"):
                yield f"R4: {record['id']} is missing, and its hour {slot} is {slots[slot]}"

    def _changed_by_folding_again(self, lake: Lake) -> Iterator[str]:
        """R5"""
        before = snapshot(lake)
        for partition in lake.partitions("history"):
            fold(lake, partition)
        if snapshot(lake) != before:
            yield "R5: folding again changed something"


def _faults(lots: random.Random, seed: int) -> Faults:
    """Some kinds of faults, none of them so often that nothing comes through."""
    kinds = [kind for kind in FAULTS if kind != "drip" and lots.random() < 0.3]
    return Faults(seed, {kind: lots.uniform(0.01, 0.06) for kind in kinds})
