"""What an archive must hold at the end of a simulation, computed from the world and not by the tested code.

Each check gives one line for each record, state or hour that breaks a rule.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from pipeline.access.query import ask
from pipeline.emulator import Options, World
from pipeline.emulator.api import failures
from pipeline.emulator.faults import Faults, Injector
from pipeline.lake import parquet
from pipeline.lake.layout import COMPACT, Lake
from pipeline.lake.merge import merge
from pipeline.model.schema import (
    HISTORY,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    SLOT_COVERAGE,
    Table,
)
from pipeline.model.windows import DAY, RETENTION, SLOT, deadline, midnight
from pipeline.twilio.conversion import record_json
from tests.support.factories import snapshot

_SECOND: Final = timedelta(seconds=1)
Row = dict[str, Any]


@dataclass
class Account:
    """One account of a life.

    Attributes:
        world: its operations.
        options: how its API behaves, and with which faults.
        syncs: for each sync the moments at which the API's clock stood meanwhile, rising.
    """

    world: World
    options: Options
    syncs: list[list[datetime]] = field(default_factory=list)

    @property
    def sid(self) -> str:
        return self.options.account_sid

    @property
    def faults(self) -> Faults:
        return self.options.faults or Faults()

    def may_have(self, kind: str) -> bool:
        return bool(self.faults.rates.get(kind)) or kind in self.faults.script

    @property
    def skew(self) -> timedelta:
        """How wrong a stored time may be."""
        return (self.faults.skew if self.may_have("date-skew") else timedelta()) + _SECOND

    @property
    def staleness(self) -> timedelta:
        """How old a response may have been."""
        return self.faults.stale_by if self.may_have("stale") else timedelta()


class Truth:
    """One account's part of an archive, beside its world.

    Args:
        lake: the archive.
        account: the account.
        now: the moment of the last sync, which no fault kept from anything.
    """

    def __init__(self, lake: Lake, account: Account, now: datetime) -> None:
        self._lake, self._account, self._world, self._now = lake, account, account.world, now
        self._history = self._rows(HISTORY)
        self._operations = {row["operation_id"]: row for row in self._rows(OPERATIONS)}
        self._rejects = self._rows(REJECTS)
        self._rejected = "\n".join(row["raw"] for row in self._rejects)
        self._late = Injector(account.faults)
        every = self._world.existing(now)
        ids = self._world.columns(every, now)["operation_id"].tolist()
        self._numbers: dict[str, int] = dict(zip(ids, every, strict=True))

    @property
    def operations(self) -> int:
        """How many the archive has."""
        return len(self._operations)

    def problems(self) -> Iterator[str]:
        """Everything that breaks a rule."""
        yield from self._doubled()
        yield from self._unlike_now()
        yield from self._not_newest()
        yield from self._never_true()
        yield from self.less_than_covered()
        yield from self._missing_without_a_gap()
        yield from self._wrong_about_single_operations()
        yield from self._wrong_errors()
        yield from self._wrong_rejects()
        yield from self._wrongly_summed()

    def _rows(self, table: Table) -> list[Row]:
        lake = self._lake
        parts = [p for p in lake.partitions(table.name) if p.account_id == self._account.sid]
        tables = [parquet.read(lake.part(table, part), table.arrow) for part in parts]
        return pa.concat_tables([table.arrow.empty_table(), *tables]).to_pylist()

    def _doubled(self) -> Iterator[str]:
        """R2"""
        rows = len(self._rows(OPERATIONS))
        if rows != len(self._operations):
            yield f"R2: {rows - len(self._operations)} operations are there twice"

    def _unlike_now(self) -> Iterator[str]:
        """R7, R8: what the API still knows is archived as it is, and can be told as JSON again.

        In an hour whose deadline has passed, what a complete answer had is not replaced by another state of
        the same time that a listing had (R3).
        """
        alive = self._world.numbers(max(self._now - RETENTION, self._world.start), self._now)
        for record in self._world.records(alive, self._now):
            row = self._operations.get(record["id"])
            if row is None:
                yield f"R7: {record['id']} of {record['createdAt']} is missing"
            elif self._now < deadline(row["created_at"]) and json.loads(record_json(row)) != record:
                yield f"R8: {record['id']} is {record_json(row)}, not {json.dumps(record)}"

    def _not_newest(self) -> Iterator[str]:
        """R2, R3, said once more in plain words."""
        states: dict[str, list[Row]] = defaultdict(list)
        for row in self._history:
            states[row["operation_id"]].append(row)
        if states.keys() != self._operations.keys():
            yield "R1: operations and history name others"
        for one, row in self._operations.items():
            if not states[one]:
                continue
            best = max(map(_rank, states[one]))
            if row not in [state for state in states[one] if _rank(state) == best]:
                yield f"R3: {one} is {row}, and the newest of {states[one]} is another"

    def _never_true(self) -> Iterator[str]:
        """R8: every state was the world's when it was seen, or when a stale replica had it."""
        together: dict[datetime, list[Row]] = defaultdict(list)
        for row in self._history:
            together[row["observed_at"]].append(row)
        for observed_at, rows in together.items():
            numbers = [
                n for row in rows if (n := self._numbers.get(row["operation_id"])) is not None
            ]
            truths: dict[str, list[Row]] = defaultdict(list)
            for moment in self._moments_of(observed_at):
                for record in self._world.records(sorted(numbers), moment):
                    truths[record["id"]].append(record)
            for row in rows:
                told = json.loads(record_json(row))
                told.pop("campaign", None)
                known = truths[told["id"]]
                if told["status"] == "PAUSED" and self._account.may_have("unknown-status"):
                    known = [{**truth, "status": "PAUSED"} for truth in known]
                if told not in known:
                    yield f"R8: {told['id']} was never {told}, but {known}"

    def _moments_of(self, observed_at: datetime) -> list[datetime]:
        """The moments as of which the API may have answered what is stored under that time."""
        skew = self._account.skew
        moments = {
            moment
            for sync in self._account.syncs
            if sync[0] - skew <= observed_at <= sync[-1] + skew
            for moment in sync
        }
        ages = {timedelta(), self._account.staleness}
        return sorted(moment - age for moment in moments for age in ages)

    def less_than_covered(self) -> Iterator[str]:
        """R4: an hour that was covered at some moment is there as it was at that moment, or newer."""
        for slot in self._rows(SLOT_COVERAGE):
            covered_at = slot["covered_at"]
            if covered_at is None:
                continue
            at_least = covered_at - self._account.skew - self._account.staleness
            yield from self._older_than(slot["slot"], slot["slot"] + SLOT, at_least)

    def _older_than(self, start: datetime, end: datetime, at_least: datetime) -> Iterator[str]:
        numbers = self._world.numbers(start, end)
        for record in self._world.records(numbers, at_least):
            row = self._operations.get(record["id"])
            updated_at = datetime.fromisoformat(record["updatedAt"])
            if row is not None and row["updated_at"] >= updated_at:
                continue
            if self._may_be_excused(record, at_least):
                continue
            what = "missing" if row is None else f"of {row['updated_at']}, not {updated_at}"
            yield f"R4: {record['id']} is {what}; its hour is covered as of {at_least} or later"

    def _may_be_excused(self, record: Row, moment: datetime) -> bool:
        """Whether a record came damaged, so that it is a reject, or may not have come yet."""
        if record["id"] in self._rejected or f'"{record["createdAt"]}"' in self._rejected:
            return True
        number = self._numbers.get(record["id"])
        created_at = datetime.fromisoformat(record["createdAt"])
        scripted = "late" if "late" in self._account.faults.script else None
        return number is not None and self._late.hides(number, created_at, moment, scripted)

    def _missing_without_a_gap(self) -> Iterator[str]:
        """R4: what is not in the archive is in no hour that it claims to have covered."""
        query = f"SELECT slot, state FROM coverage_slots WHERE account_id = '{self._account.sid}'"
        slots = {row["slot"]: row["state"] for row in ask(self._lake, query).to_pylist()}
        start = self._world.start
        expired = range(self._world.numbers(start, max(self._now - RETENTION, start)).stop)
        for record in self._world.records(expired, self._now):
            slot = datetime.fromisoformat(record["createdAt"]).replace(minute=0, second=0)
            if record["id"] in self._operations or self._may_be_excused(record, slot):
                continue
            if slots.get(slot, "before_archive") not in ("gap", "before_archive"):
                yield f"R4: {record['id']} is missing, and its hour {slot} is {slots[slot]}"

    def _wrong_about_single_operations(self) -> Iterator[str]:
        """R1: what was told of one operation by its id is there, and what is gone was gone."""
        skew = self._account.skew
        for row in self._rows(LOOKUPS):
            one, requested_at = row["operation_id"], row["requested_at"]
            created_at = self._operations[one]["created_at"]
            if row["not_found_at"] is not None:
                if row["not_found_at"] + skew < created_at + RETENTION:
                    yield f"R9: {one} of {created_at} was gone at {row['not_found_at']}"
            elif row["subject"] == "operation":
                moment = requested_at - skew - self._account.staleness
                yield from self._older_than(created_at, created_at + _SECOND, moment)

    def _wrong_errors(self) -> Iterator[str]:
        """R1: the errors of what the API still knows are those that it tells, and none else ever."""
        told: dict[str, Counter[str]] = defaultdict(Counter)
        for row in self._rows(OPERATION_ERRORS):
            told[row["operation_id"]][str(row["code"])] += row["occurrences"]
        young = max(self._now - RETENTION + SLOT, self._world.start)
        alive = set(self._world.numbers(young, self._now))
        for one, row in self._operations.items():
            number = self._numbers.get(one)
            if number is None or not (told[one] or number in alive):
                continue
            which = failures(self._world, number, range(row["failed"] or 0))
            wanted = Counter(str(error["code"]) for error in which)
            if told[one] != wanted:
                yield f"R1: the errors of {one} are {dict(told[one])}, not {dict(wanted)}"

    def _wrong_rejects(self) -> Iterator[str]:
        """R9: a record is rejected only if it came damaged."""
        if self._rejects and not self._account.may_have("malformed"):
            yield f"R9: {len(self._rejects)} records were rejected, and none came damaged"

    def _wrongly_summed(self) -> Iterator[str]:
        """The delivery tables count what is in operations."""
        query = (
            "SELECT coalesce(sum(operations), 0)::BIGINT AS n, coalesce(sum(total), 0)::BIGINT AS total "
            f"FROM delivery_daily WHERE account_id = '{self._account.sid}'"
        )
        summed = ask(self._lake, query).to_pylist()[0]
        wanted = {
            "n": len(self._operations),
            "total": sum(row["total"] or 0 for row in self._operations.values()),
        }
        if summed != wanted:
            yield f"delivery_daily counts {summed}, not {wanted}"


def _rank(row: Row) -> tuple[datetime, bool, timedelta]:
    """R3: the higher, the newer. A fetch by id is complete at any time."""
    end = deadline(row["created_at"])
    is_listed_late = row["observed_at"] >= end and row["looked_up_at"] is None
    if is_listed_late:
        return row["updated_at"], False, end - row["observed_at"]
    complete_at = row["observed_at"] if row["observed_at"] < end else row["looked_up_at"]
    return row["updated_at"], True, complete_at - end


def unsealed(lake: Lake, now: datetime) -> Iterator[str]:
    """Days that change no more and are not in their last form."""
    for partition in sorted(lake.with_work(COMPACT)):
        if deadline(midnight(partition.day) + DAY - SLOT) <= now:
            yield f"{partition} is not compacted"


def changed_by_merging_again(lake: Lake) -> Iterator[str]:
    """R5"""
    before = snapshot(lake)
    for partition in lake.partitions("history"):
        merge(lake, partition)
    if snapshot(lake) != before:
        yield "R5: merging again changed something"


def all_tables(lake: Lake, tables: Sequence[Table]) -> Iterator[pa.Table]:
    """Every partition's rows of some tables."""
    for table in tables:
        for partition in lake.partitions(table.name):
            yield parquet.read(lake.part(table, partition), table.arrow)
