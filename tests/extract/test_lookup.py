"""Single operations by their ids: what no listing settles, and what failed."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import Archive
from pipeline.access.query import ask
from pipeline.emulator import Clock, Options, World
from pipeline.extract.planner import RefreshPolicy, due_lookups, state_lookups_before
from pipeline.lake import parquet
from pipeline.lake.landing import land_lookups
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.lake.pending_lookups import read_pending_lookups
from pipeline.model.records import LookupBatch, Partition
from pipeline.model.schema import HISTORY, LOOKUPS, OPERATION_ERRORS, OPERATIONS, REJECTS
from pipeline.rebuild import rebuild
from pipeline.settings import Settings
from pipeline.sync import sync
from tests.support.archives import account, rows, settings_for, sync_all
from tests.support.factories import ACCOUNT, at, body, operation_id, record, snapshot
from tests.support.scripted_api import Answer, Received, ScriptedApi, scripted

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = at("2026-11-10")
WORLD = World(4, 300.0, START, end=START + DAY)
LISTING = "/v1/Emails/Operations"


def unsettled(world: World, now: datetime) -> dict[str, dict[str, Any]]:
    """The operations that are scheduled or being sent at a moment, by id."""
    records = world.records(world.existing(now), now)
    return {one["id"]: one for one in records if one["status"] in ("SCHEDULED", "PROCESSING")}


def newest(data: Path) -> dict[str, dict[str, Any]]:
    return {row["operation_id"]: row for row in rows(data, OPERATIONS).to_pylist()}


@pytest.mark.slow
def test_operation_is_fetched_by_id_until_it_settles(tmp_path: Path):
    """R2, R3: its last state comes by its id, and goes through land and merge like any other."""
    options = Options(returns_unsettled=True)
    world = World(4, 1500.0, START, end=START + DAY)
    with account(world, START + DAY, tmp_path, options=options) as (emulator, settings):
        sync(settings, publishing=False)
        emulator.clock.set(START + 7 * DAY)
        while emulator.clock.now() < START + 12 * DAY:
            assert sync(settings, publishing=False).ok
            emulator.clock.step(6 * HOUR)
        late = unsettled(world, START + 8 * DAY)
        assert late
        found = newest(tmp_path)
        assert {found[one]["status"] for one in late} <= {"COMPLETED", "CANCELED"}
        states = Counter(row["operation_id"] for row in rows(tmp_path, HISTORY).to_pylist())
        assert all(states[one] >= 2 for one in late)
        # Settled: no further lookups.
        before = len(emulator.requests)
        sync(settings, publishing=False)
        assert not [r for r in emulator.requests[before:] if r.path != LISTING]


def test_forgotten_operation_is_not_found_and_never_fetched_again(tmp_path: Path):
    """R1: its last state stays."""
    with account(WORLD, START + DAY, tmp_path, fetch_operation_errors=False) as (
        emulator,
        settings,
    ):
        sync(settings, publishing=False)
        emulator.clock.set(START + 8 * DAY)
        report = sync(settings, publishing=False)
        late = unsettled(WORLD, START + DAY)
        assert late
        assert (report.lookups.completed, report.lookups.not_found) == (len(late), len(late))
        before = newest(tmp_path)
        assert {before[one]["status"] for one in late} == {"SCHEDULED"}
        gone = rows(tmp_path, LOOKUPS).to_pylist()
        assert {row["operation_id"]: row["not_found_at"] for row in gone} == dict.fromkeys(
            late, START + 8 * DAY
        )
        emulator.clock.step(2 * DAY)
        assert sync(settings).lookups.completed == 0
    query = "SELECT count(*) AS n FROM lookups WHERE not_found_at IS NOT NULL"
    assert ask(Lake(tmp_path), query).to_pylist() == [{"n": len(late)}]


def test_failures_are_looked_up_once_and_every_error_is_kept(tmp_path: Path):
    with account(WORLD, START + DAY, tmp_path) as (_, settings):
        report = sync(settings, publishing=False)
        failed = {
            row["operation_id"]: row["failed"] for row in newest(tmp_path).values() if row["failed"]
        }
        assert failed
        assert report.lookups.completed == len(failed)
        found: Counter[str] = Counter()
        for row in rows(tmp_path, OPERATION_ERRORS).to_pylist():
            found[row["operation_id"]] += row["occurrences"]
            assert json.loads(row["raw"]) == {"code": int(row["code"]), "message": row["message"]}
            assert row["observed_at"] == START + DAY
        assert found == failed
        assert sync_all(settings, publishing=True).lookups.completed == 0
        summary = report.summary()
        assert (summary["lookups"], summary["failed_lookups"]) == (len(failed), [])
    counted = ask(Lake(tmp_path), "SELECT sum(occurrences)::BIGINT AS n FROM operation_errors")
    assert counted.to_pylist() == [{"n": sum(failed.values())}]


def test_errors_can_be_left_alone(tmp_path: Path):
    with account(WORLD, START + DAY, tmp_path, fetch_operation_errors=False) as (
        emulator,
        settings,
    ):
        assert sync(settings, publishing=False).lookups.completed == 0
        assert not [one for one in emulator.requests if one.path.endswith("/Errors")]
        on = settings_for(emulator, tmp_path)
        assert sync(on, publishing=False).lookups.completed > 0


def test_rebuilding_finds_pending_lookups_again(tmp_path: Path):
    with account(WORLD, START + DAY, tmp_path, fetch_operation_errors=False) as (_, settings):
        sync(settings, publishing=False)
        lake = Lake(tmp_path)
        before = read_pending_lookups(lake, settings.account_sid)
        for partition in lake.with_pending_lookups():
            lake.pending_lookups_file(partition).unlink()
        rebuild(lake)
    assert before
    assert read_pending_lookups(lake, settings.account_sid) == before


def test_unread_pending_lookups_are_never_due(tmp_path: Path):
    """R4: a file is not opened, or a row not looked at, only where nothing in it can be due."""
    asked = 0
    with account(WORLD, START + DAY, tmp_path) as (_, settings):
        sync(settings, publishing=False)
        lake = Lake(tmp_path)
        for errors in (False, True):
            policy = replace(RefreshPolicy.of(settings), errors=errors)
            every = read_pending_lookups(lake, settings.account_sid, errors=errors)
            for hours in range(24 * 9):
                now = START + hours * HOUR
                before = state_lookups_before(policy, now)
                some = read_pending_lookups(
                    lake, settings.account_sid, errors=errors, states_before=before
                )
                due = due_lookups(every, policy, now)
                assert due_lookups(some, policy, now) == due
                asked += len(due)
                assert len(some) <= len(every)
    assert asked


# A scripted API: one listing, and whatever it says of single operations.

FAILING = {"total": 9, "failed": 2}
LATE = record(1, status="SCHEDULED", created_at=at("2026-11-13 15:00"))
DATES = "Fri, 20 Nov 2026 14:00:00 GMT"
BEFORE_DEADLINE = at("2026-11-20 14:00")


def api(records: Iterable[dict[str, Any]], single: Answer) -> Any:
    every = list(records)

    def answer(request: Received) -> Answer:
        if request.path != LISTING:
            return single
        start, end = (request.query.get(name, "") for name in ("startDate", "endDate"))
        return Answer(body([one for one in every if start <= one["createdAt"] <= end]), date=DATES)

    return scripted(answer)


def settings_of(server: ScriptedApi, data: Path) -> Settings:
    return Settings(
        account_sid=ACCOUNT,
        auth_token="t",
        api_url=server.url,
        data=data,
        retry_attempts=1,
        trust_clock=True,
    )


@dataclass
class OneOperation:
    """An API of one operation: what a listing and a fetch by id return of it, and its clock."""

    listed: dict[str, Any]
    fetched: dict[str, Any] | None
    now: datetime = BEFORE_DEADLINE

    def answer(self, request: Received) -> Answer:
        date = format_datetime(self.now, usegmt=True)
        if request.path != LISTING:
            body_of_one = json.dumps(self.fetched).encode()
            return Answer(body_of_one, 200 if self.fetched else 503, date=date)
        start, end = (request.query.get(name, "") for name in ("startDate", "endDate"))
        found = [self.listed] if start <= self.listed["createdAt"] <= end else []
        return Answer(body(found), date=date)


def test_fetch_by_id_after_deadline_wins_at_equal_updated_at(tmp_path: Path):
    """R3: a fetch by id is complete; only a listing after the deadline may not be."""
    canceled = LATE | {"status": "CANCELED"}
    operation = OneOperation(LATE, LATE)
    with scripted(operation.answer) as server:
        settings = settings_of(server, tmp_path)
        assert sync(settings, publishing=False).ok
        operation.now += 3 * HOUR
        operation.fetched = canceled
        assert sync(settings, publishing=False).ok
        (row,) = rows(tmp_path, OPERATIONS).to_pylist()
        assert (row["status"], row["looked_up_at"]) == ("CANCELED", operation.now)
        states = [(r["status"], r["looked_up_at"]) for r in rows(tmp_path, HISTORY).to_pylist()]
        assert states == [("SCHEDULED", None), ("CANCELED", operation.now)]
        operation.now += 3 * DAY
        assert sync(settings).lookups.completed == 0
    assert [one["status"] for one in known_at(tmp_path, operation.now)] == ["CANCELED"]
    assert [one["status"] for one in known_at(tmp_path, at("2026-11-20 16:59"))] == ["SCHEDULED"]


def test_late_listed_state_wins_once_fetched_by_id(tmp_path: Path):
    """R3: also if a listing after the deadline had returned it before."""
    canceled = LATE | {"status": "CANCELED"}
    operation = OneOperation(LATE, LATE)
    with scripted(operation.answer) as server:
        settings = settings_of(server, tmp_path)
        assert sync(settings, publishing=False).ok
        operation.now += 3 * HOUR
        operation.listed, operation.fetched = canceled, None
        assert not sync_all(settings).ok
        assert [row["status"] for row in rows(tmp_path, OPERATIONS).to_pylist()] == ["SCHEDULED"]
        assert rows(tmp_path, HISTORY).num_rows == 2
        operation.now += 12 * HOUR
        operation.fetched = canceled
        assert sync(settings).ok
    (row,) = rows(tmp_path, OPERATIONS).to_pylist()
    assert (row["status"], row["looked_up_at"]) == ("CANCELED", operation.now)
    assert row["observed_at"] == at("2026-11-20 17:00")
    assert rows(tmp_path, HISTORY).num_rows == 2
    known = known_at(tmp_path, operation.now - HOUR)
    assert [(one["status"], one["looked_up_at"]) for one in known] == [("SCHEDULED", None)]


def known_at(data: Path, moment: datetime) -> list[dict[str, Any]]:
    """The operations as known at a moment: in the notebook, and the same in SQL."""
    frame = Archive(data).operations(as_of=moment)
    known = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    assert ask(Lake(data), f"FROM operations_as_of('{moment.isoformat()}')").to_pylist() == known
    return known


@pytest.mark.parametrize(
    ("status", "stats", "is_asked"),
    [
        ("COMPLETED", {"queued": 1}, True),
        ("COMPLETED", {"scheduled": 1}, True),
        ("CANCELED", {"queued": 1}, True),
        ("SCHEDULED", {}, True),
        ("PROCESSING", {}, True),
        ("PAUSED", {}, True),
        ("COMPLETED", {"queued": 0, "scheduled": None}, False),
        ("CANCELED", {}, False),
    ],
)
def test_operation_is_looked_up_until_settled_and_nothing_queued(
    tmp_path: Path, status: str, stats: dict[str, Any], is_asked: bool
):
    """R1: emails that are queued or scheduled have yet to be sent, whatever the status says."""
    one = record(1, status=status, created_at=at("2026-11-13 15:00"), stats=stats)
    operation = OneOperation(one, one)
    with scripted(operation.answer) as server:
        assert sync(settings_of(server, tmp_path), publishing=False).ok
        asked = [request.path for request in server.requests if request.path != LISTING]
    assert asked == ([f"{LISTING}/{one['id']}"] if is_asked else [])


def test_unknown_errors_are_recorded_and_not_fatal(tmp_path: Path):
    gone = Answer(b'{"errors": [{"code": 20404, "message": "no"}]}', 404, date=DATES)
    with api([record(1, stats=FAILING)], gone) as server:
        report = sync(settings_of(server, tmp_path), publishing=False)
        assert report.ok
        asked = len(server.requests)
        assert sync(settings_of(server, tmp_path), publishing=False).ok
        assert len(server.requests) == asked + 1  # nothing is due: the clock alone
    assert rows(tmp_path, OPERATION_ERRORS).num_rows == 0
    (lookup,) = rows(tmp_path, LOOKUPS).to_pylist()
    assert lookup == {
        "operation_id": operation_id(1),
        "subject": "errors",
        "requested_at": at("2026-11-20 14:00"),
        "failed": 2,
        "not_found_at": at("2026-11-20 14:00"),
        "error": None,
    }


@pytest.mark.parametrize(
    ("single", "message", "tries"),
    [
        (Answer(b"<html>", date=DATES), "expected JSON", 3),
        (Answer(b"{}", 503, date=DATES), "503", 3),
        (Answer(b'{"errors": [{"code": 1, "message": "no"}]}', 403, date=DATES), "no", 1),
        (Answer(b'{"errors": [{"code": 1, "message": "bad"}]}', 400, date=DATES), "bad", 20),
    ],
)
def test_failed_lookups_cost_only_themselves_and_stay_due(
    tmp_path: Path, single: Answer, message: str, tries: int
):
    """R9: after some failures, an API that is down or refuses all lookups gets no more in this run."""
    records = [record(n, stats=FAILING) for n in range(20)]
    with api(records, single) as server:
        settings = settings_of(server, tmp_path).model_copy(update={"concurrency": 1})
        report = sync(settings)
        asked = [one for one in server.requests if one.path != LISTING]
    assert not report.ok
    assert len(asked) == tries
    assert Lake(tmp_path).warehouse.exists()
    lookups = rows(tmp_path, LOOKUPS).to_pylist()
    assert [row["not_found_at"] for row in lookups] == [None] * tries
    assert all(message in row["error"] for row in lookups)
    assert all(message in str(failure.error) for failure in report.lookups.failures)
    assert rows(tmp_path, OPERATIONS).num_rows == 20
    assert len(read_pending_lookups(Lake(tmp_path), ACCOUNT)) == 20


@pytest.mark.slow
def test_refused_lookups_grow_rarer_and_delay_no_other(
    tmp_path: Path,
):
    """R9: each refusal is reported once; a sync between two of them succeeds."""
    refused = Answer(b'{"errors": [{"code": 1, "message": "bad"}]}', 400)
    asked: list[datetime] = []
    clock = Clock(at("2026-11-20 14:00"))

    def answer(request: Received) -> Answer:
        date = format_datetime(clock.now(), usegmt=True)
        if request.path == LISTING:
            start, end = (request.query.get(name, "") for name in ("startDate", "endDate"))
            return Answer(body([LATE] if start <= LATE["createdAt"] <= end else []), date=date)
        asked.append(clock.now())
        return replace(refused, date=date)

    with scripted(answer) as server:
        settings = settings_of(server, tmp_path)
        for _ in range(50):
            before = len(asked)
            assert sync(settings, publishing=False).ok == (len(asked) == before)
            clock.step(4 * HOUR)
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert 3 < len(asked) < 30
    assert pauses[-1] > 10 * HOUR
    assert pauses == sorted(pauses)


def test_response_about_another_operation_is_refused(tmp_path: Path):
    """R9"""
    other = Answer(json.dumps(record(2)).encode(), date=DATES)
    with api([LATE], other) as server:
        report = sync(settings_of(server, tmp_path), publishing=False)
    (failure,) = report.lookups.failures
    assert operation_id(2) in str(failure.error)
    assert [one.operation_id for one in read_pending_lookups(Lake(tmp_path), ACCOUNT)] == [
        LATE["id"]
    ]


def test_unreadable_record_by_id_is_a_reject(tmp_path: Path):
    """R9"""
    bad = json.dumps(LATE | {"stats": {"opened": -1}}).encode()
    with api([LATE], Answer(bad, date=DATES)) as server:
        assert sync(settings_of(server, tmp_path), publishing=False).ok
    (reject,) = rows(tmp_path, REJECTS).to_pylist()
    assert json.loads(reject["raw"]) == json.loads(bad)


def test_lookups_merged_twice_are_one(tmp_path: Path):
    """R5: killed after the tables were written and before the landed file was removed."""
    with account(WORLD, START + DAY, tmp_path) as (_, settings):
        sync(settings, publishing=False)
        lake = Lake(tmp_path)
        (partition,) = lake.partitions(OPERATION_ERRORS.name)
        before = snapshot(lake)
        kept = land_again(lake, partition)
        merge(lake, partition)
    assert kept
    assert snapshot(lake) == before


def land_again(lake: Lake, partition: Partition) -> bool:
    """Land the lookups of a partition again, as a killed merge leaves them."""

    def read(table: Any) -> Any:
        return parquet.read(lake.part(table, partition), table.arrow)

    rejects = REJECTS.arrow.empty_table().drop_columns(["scan_id"])
    answers = LookupBatch(
        partition,
        START + DAY,
        OPERATIONS.arrow.empty_table(),
        rejects,
        read(LOOKUPS),
        read(OPERATION_ERRORS),
        requests=1,
    )
    land_lookups(lake, answers)
    return bool(answers.lookups.num_rows and answers.errors.num_rows)
