"""The main job over real HTTP: the archive equals the truth, whatever the API leaves open."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.access.query import ask
from pipeline.emulator import Options, World
from pipeline.emulator.listing import Bounds, Order
from pipeline.extract.planner import cut
from pipeline.extraction import extract
from pipeline.lake.landing import land
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.model.records import Partition, ScanFacts
from pipeline.model.schema import COVERAGE, HISTORY, OPERATIONS, REJECTS
from pipeline.model.windows import Window, retained_days, windows_between
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync import EVERYTHING, Range, plan, sync
from pipeline.twilio.client import OperationsClient
from tests.support.archives import account, rows, settings_for, states, sync_all, unlike_truth
from tests.support.factories import (
    ACCOUNT,
    DAY,
    at,
    new_lake,
    operation_id,
    record,
    rfc3339,
    scan,
    snapshot,
)
from tests.support.scripted_api import Answer, Received, scripted

START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 300.0, START)
ORDERS = get_args(Order)
HOUR = timedelta(hours=1)


def test_everything_is_every_retained_day_newest_first(tmp_path: Path):
    windows = plan(new_lake(tmp_path), settings_of(tmp_path), NOW, EVERYTHING).windows
    assert [window.day for window in windows] == list(reversed(retained_days(NOW)))
    assert windows[0] == Window.of_day(NOW.date())
    assert len(windows) == 8


def test_range_is_cut_at_midnight_and_ends_with_today(tmp_path: Path):
    start = at("2026-11-13 18:00")
    windows = plan(
        new_lake(tmp_path), settings_of(tmp_path), NOW, Range(start, at("2027-01-01"))
    ).windows
    assert windows == [Window.of_day(NOW.date()), Window(start, at("2026-11-14"))]
    future = Range(at("2026-12-01"), at("2027-01-01"))
    assert plan(new_lake(tmp_path), settings_of(tmp_path), NOW, future).windows == []


def settings_of(data: Path) -> Settings:
    return Settings(account_sid=ACCOUNT, auth_token="t", data=data, trust_clock=True)


def test_first_sync_derives_the_delivery_tables_of_each_day_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "pipeline.marts.derive")
    with account(WORLD, NOW, tmp_path) as (_, settings):
        report = sync(settings)
    told = [r for r in caplog.records if getattr(r, "event", "") == "derive"]
    assert report.ok
    assert len(told) == len(list(Lake(tmp_path).partitions("history"))) > 1


class _Landed(Observer):
    def __init__(self) -> None:
        self.windows: list[Window] = []

    def landed(self, facts: ScanFacts) -> None:
        self.windows.append(facts.window)


def test_scanned_day_can_be_merged_while_others_are_scanned(
    tmp_path: Path,
):
    """R4, R5: what is merged in between is merged as it would be at the end."""
    windows = [part for day in windows_between(START, NOW) for part in cut(day, 6)]
    told: list[date] = []
    landed = _Landed()
    with account(WORLD, NOW, tmp_path, concurrency=3) as (emulator, settings):
        lake = Lake(tmp_path).open()

        def merge_it(partition: Partition) -> None:
            wanted = {window for window in windows if window.day == partition.day}
            assert wanted <= set(landed.windows)
            told.append(partition.day)
            if len(told) == 1:
                assert len(landed.windows) < len(windows)
            merge(lake, partition)

        with OperationsClient(settings) as client:
            found = extract(client, lake, settings, windows, landed, on_day=merge_it)
        assert sorted(told) == sorted({window.day for window in windows})
        assert (len(found.scans), found.failures) == (len(windows), ())
        assert lake.pending() == set()
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []


@pytest.mark.parametrize(
    ("order", "bounds"),
    [
        # Each of them, and the other pairs where there is time.
        pytest.param(order, bounds, marks=[] if n % len(ORDERS) == m else [pytest.mark.slow])
        for m, order in enumerate(ORDERS)
        for n, bounds in enumerate(get_args(Bounds))
    ],
)
def test_archive_equals_the_truth_in_any_order_and_with_any_bounds(
    tmp_path: Path, order: Any, bounds: Any
):
    """R7"""
    options = Options(order=order, bounds=bounds, page_limit=37, empty_pages=True)
    with account(WORLD, NOW, tmp_path, options=options) as (emulator, settings):
        report = sync_all(settings)
        assert report.ok
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []
    assert report.summary()["new"] == len(WORLD.existing(NOW))


@pytest.mark.parametrize(
    "world",
    [
        World(5, 300.0, START, counting="exclusive"),
        World(5, 300.0, START, unknown_fields=True),
    ],
)
def test_archive_equals_the_truth_under_counting_and_unknown_fields(tmp_path: Path, world: World):
    with account(world, NOW, tmp_path, options=Options(records_key="data")) as (emulator, settings):
        report = sync_all(settings)
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []
    extra = set(rows(tmp_path, OPERATIONS)["extra"].to_pylist())
    assert (extra != {None}) == world.unknown_fields
    assert bool(report.extraction.drift) == world.unknown_fields


def test_archive_outlives_the_api(tmp_path: Path):
    """R1: what the API forgets, or tells only in part, stays as it was last seen."""
    moments = [at("2026-11-10 23:59:59") + timedelta(hours=34 * n) for n in range(13)]
    world = World(5, 60.0, START)
    with account(world, moments[0], tmp_path) as (emulator, settings):
        for moment in moments:
            emulator.clock.set(moment)
            assert sync_all(settings, publishing=moment == moments[-1]).ok
        assert moments[-1] > START + timedelta(days=17)
        assert unlike_truth(emulator, tmp_path, START, moments) == []
    warehouse = ask(Lake(tmp_path), "SELECT count(*) AS n FROM operations").to_pylist()
    assert warehouse == [{"n": len(world.existing(moments[-1]))}]


def test_operations_are_the_newest_states_of_history(tmp_path: Path):
    """R2: one operation, one row, and it equals the newest state in history."""
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        for _ in range(4):
            sync_all(settings)
            emulator.clock.step(timedelta(hours=7))
    history = rows(tmp_path, HISTORY).to_pylist()
    newest = {
        row["operation_id"]: row
        for row in sorted(history, key=lambda row: (row["updated_at"], row["observed_at"]))
    }
    operations = rows(tmp_path, OPERATIONS).to_pylist()
    assert sorted(operations, key=lambda row: row["operation_id"]) == [
        newest[operation_id] for operation_id in sorted(newest)
    ]
    assert len(history) > len(operations)


def test_sync_without_change_changes_nothing_but_coverage(tmp_path: Path):
    with account(WORLD, NOW, tmp_path) as (_, settings):
        sync_all(settings, publishing=True)
        before = {name: rows(tmp_path, name) for name in (OPERATIONS, HISTORY, REJECTS)}
        report = sync_all(settings, publishing=True)
        after = {name: rows(tmp_path, name) for name in (OPERATIONS, HISTORY, REJECTS)}
    summary = report.summary()
    assert (summary["new"], summary["changed"]) == (0, 0)
    assert summary["unchanged"] == before[OPERATIONS].num_rows
    assert before == after
    assert rows(tmp_path, COVERAGE).num_rows == 16
    assert not report.published


def test_run_begins_by_reading_the_apis_clock(tmp_path: Path):
    """R10: one request of page size 1, before anything is planned."""
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        report = sync_all(settings)
        first = emulator.requests[0]
    assert (first.path, first.query) == ("/v1/Emails/Operations", {"pageSize": "1"})
    assert report.now == NOW


@pytest.mark.parametrize(
    "now", [datetime(2001, 3, 1, 5, tzinfo=UTC), datetime(2088, 3, 1, 5, tzinfo=UTC)]
)
def test_wrong_clock_of_the_machine_costs_nothing(tmp_path: Path, now: datetime):
    """R10: whatever this machine's clock shows, days and moments are the API's."""
    start = now - timedelta(days=5)
    with account(World(5, 100.0, start), now, tmp_path) as (emulator, settings):
        assert sync_all(settings).ok
        assert unlike_truth(emulator, tmp_path, start, [now]) == []
    coverage = rows(tmp_path, COVERAGE)
    assert set(coverage["observed_at"].to_pylist()) == {now}
    assert sorted(p.day for p in Lake(tmp_path).partitions("coverage")) == retained_days(now)


def test_chosen_day_past_its_deadline_adds_findings(tmp_path: Path):
    """R1, R3: the API tells such a day only in part; that takes nothing away."""
    day = at("2026-11-11")
    with account(WORLD, at("2026-11-13"), tmp_path) as (emulator, settings):
        sync(settings, scope=Range(day, day + timedelta(days=1)), publishing=False)
        known = rows(tmp_path, OPERATIONS)
        emulator.clock.set(at("2026-11-19 06:00"))
        report = sync(settings, scope=Range(day, day + timedelta(days=1)), publishing=False)
    seen = report.extraction.scans[0].operations
    assert 0 < seen < known.num_rows
    assert rows(tmp_path, OPERATIONS).num_rows == known.num_rows
    assert {window.day for window in [s.window for s in report.extraction.scans]} == {day.date()}


def test_what_an_earlier_run_landed_is_merged_by_the_next(tmp_path: Path):
    """R5: a run that died after landing lost nothing."""
    with account(WORLD, NOW, tmp_path) as (_, settings):
        early = scan([record(1)], account_id=ACCOUNT)
        land(Lake(tmp_path).open(), early)
        sync_all(settings)
    assert operation_id(1) in rows(tmp_path, OPERATIONS)["operation_id"].to_pylist()


def test_derived_tables_can_be_left_for_a_later_sync(tmp_path: Path):
    with account(WORLD, NOW, tmp_path) as (_, settings):
        sync_all(settings, publishing=False)
        assert not Lake(tmp_path).warehouse.exists()
        assert rows(tmp_path, OPERATIONS).num_rows == len(WORLD.existing(NOW))
        report = sync_all(settings, publishing=True)
    assert report.published
    counted = ask(Lake(tmp_path), "SELECT sum(operations)::BIGINT AS n FROM delivery_daily")
    assert counted.to_pylist() == [{"n": len(WORLD.existing(NOW))}]


def test_accounts_share_a_lake_and_no_file(tmp_path: Path):
    other = Options(account_sid="AC" + "f" * 32)
    with account(WORLD, NOW, tmp_path) as (first, settings):
        sync_all(settings, publishing=True)
        with account(World(6, 200.0, START), NOW, tmp_path, options=other) as (second, more):
            sync_all(more, publishing=True)
            expected = [len(e.world.existing(NOW)) for e in (first, second)]
    query = "SELECT account_id, count(*) AS n FROM operations GROUP BY ALL ORDER BY ALL"
    assert ask(Lake(tmp_path), query).to_pylist() == [
        {"account_id": first.options.account_sid, "n": expected[0]},
        {"account_id": "AC" + "f" * 32, "n": expected[1]},
    ]


# A server that knows nothing of this project.


class OtherServer:
    """The documented API by someone else: newest first, own tokens, 20 a page, both bounds included.

    Keep-alive off, no compression, fractions of seconds in one record and an offset in another.
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = sorted(records, key=lambda one: one["id"], reverse=True)

    def __call__(self, request: Received) -> Answer:
        query = request.query
        if request.path != "/v1/Emails/Operations":
            return Answer(b"<h1>404</h1>", 404)
        low = datetime.fromisoformat(query.get("startDate", "2000-01-01T00:00:00Z"))
        high = datetime.fromisoformat(query.get("endDate", "2100-01-01T00:00:00Z"))
        size = min(int(query.get("pageSize", "50")), 20)
        begin = int(query.get("pageToken", "cursor:0").removeprefix("cursor:"))
        batch = self.records[begin : begin + size]  # the filter applies after the read
        found = [r for r in batch if low <= datetime.fromisoformat(r["createdAt"]) <= high]
        more = begin + size < len(self.records)
        pagination = {"self": "here"} | ({"next": f"cursor:{begin + size}"} if more else {})
        answer = {"pagination": pagination, "operations": found, "meta": {"took": 3}}
        return Answer(json.dumps(answer).encode(), headers={"Connection": "close"})


def test_sync_works_against_an_independent_server(tmp_path: Path):
    midnight = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC)
    moments = [midnight + timedelta(minutes=7 * n) for n in range(-300, 120)]
    records = [record(n, created_at=moment) for n, moment in enumerate(moments)]
    records[5]["createdAt"] = records[5]["createdAt"].replace("Z", ".25Z")
    eastern = moments[9] + timedelta(hours=2)
    records[9]["createdAt"] = rfc3339(eastern).replace("Z", "+02:00")
    with scripted(OtherServer(records)) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", api_url=server.url, data=tmp_path, trust_clock=True
        )
        report = sync_all(settings)
    assert report.ok
    found = rows(tmp_path, OPERATIONS)
    assert sorted(found["operation_id"].to_pylist()) == [
        operation_id(n) for n in range(len(records))
    ]
    created = dict(
        zip(found["operation_id"].to_pylist(), found["created_at"].to_pylist(), strict=True)
    )
    assert created[operation_id(9)] == moments[9]
    assert created[operation_id(5)] == moments[5] + timedelta(seconds=0.25)


@pytest.mark.slow
def test_two_archives_of_one_account_hold_the_same(tmp_path: Path):
    """R5: what is archived is a function of what was answered, not of concurrency or page size."""
    with account(WORLD, NOW, tmp_path / "a") as (emulator, settings):
        other = settings_for(emulator, tmp_path / "b", concurrency=1, page_size=11)
        for _ in range(3):
            sync_all(settings)
            sync_all(other)
            emulator.clock.step(timedelta(hours=5))
    first, second = (snapshot(Lake(tmp_path / name)) for name in "ab")
    for content in (first, second):
        for name in [n for n in content if n.startswith(("coverage", "slot_coverage"))]:
            del content[name]  # pages, requests and cut windows differ, and are counted there
    assert first == second
    assert states(rows(tmp_path / "a", HISTORY)) == states(rows(tmp_path / "b", HISTORY))
