"""Windows to scans: completeness, the margin, duplicates, and what one failing window costs."""

import itertools
import threading
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest

from pipeline.emulator import Clock, Options, World, running
from pipeline.emulator.listing import Bounds, Order
from pipeline.errors import ArchiveError
from pipeline.extract.scan import FailedScan, ScanResult, scan_window, scan_windows
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import CredentialsError
from tests.support.factories import ACCOUNT, NOON, at, body, operation_id, record, rfc3339
from tests.support.scans import HOUR, WINDOW, api, scanned
from tests.support.scripted_api import Answer, Received


def created(moment: datetime, number: int = 1, **more: Any) -> dict[str, Any]:
    return record(number, created_at=moment, **more)


def test_scan_holds_every_page():
    listing = scanned([record(1), record(2)], [], [record(3)])
    ids = listing.scan.operations["operation_id"].to_pylist()
    assert ids == [operation_id(n) for n in (1, 2, 3)]
    facts = listing.scan.facts
    assert (facts.pages, facts.requests, facts.retries) == (3, 3, 0)
    assert (facts.records, facts.operations, facts.complete) == (3, 3, True)


def test_empty_scan_is_a_scan():
    listing = scanned([])
    assert listing.scan.operations.num_rows == 0
    assert (listing.scan.facts.operations, listing.scan.facts.complete) == (0, True)


def test_states_are_observed_when_the_scan_began():
    """R4, R10: a scan proves what was so when it began, and the moment is the API's."""
    dates = ["Fri, 20 Nov 2026 14:00:00 GMT", "Fri, 20 Nov 2026 14:07:00 GMT"]
    facts = scanned([record(1)], [record(2)], dates=dates).scan.facts
    assert facts.observed_at == at("2026-11-20 14:00")
    assert facts.completed_at == at("2026-11-20 14:07")
    observed = scanned([record(1)], [record(2)], dates=dates).scan.operations["observed_at"]
    assert observed.to_pylist() == [at("2026-11-20 14:00")] * 2


@pytest.mark.parametrize(
    ("moment", "is_inside"),
    [
        (NOON - timedelta(seconds=1), False),
        (NOON, True),
        (NOON + HOUR - timedelta(microseconds=1), True),
        (NOON + HOUR, False),
    ],
)
def test_what_lies_outside_the_window_is_dropped(moment: datetime, is_inside: bool):
    """R7: it belongs to the neighbouring window, which asks for it too."""
    scan = scanned([created(moment)]).scan
    assert scan.operations.num_rows == is_inside
    assert scan.facts.outside == (not is_inside)


def test_reject_outside_the_window_is_dropped_unless_undated():
    """R1, R7"""
    outside = created(NOON - timedelta(seconds=1), 1, status=7)
    inside = created(NOON, 2, status=7)
    unknown = record(3, createdAt="soon")
    scan = scanned([outside, inside, unknown]).scan
    assert scan.rejects["operation_id"].to_pylist() == [operation_id(2), operation_id(3)]
    assert (scan.facts.rejects, scan.facts.outside) == (2, 1)


def test_operation_listed_twice_is_one():
    """R7: duplicates across pages come when records move between them."""
    scan = scanned([record(1), record(2)], [record(2), record(3)]).scan
    ids = scan.operations["operation_id"].to_pylist()
    assert sorted(ids) == [operation_id(n) for n in (1, 2, 3)]
    assert (scan.facts.records, scan.facts.operations, scan.facts.duplicates) == (4, 3, 1)


def test_two_states_of_one_operation_in_one_scan_are_both_kept():
    """R1: it changed between two pages; both states were seen."""
    later = record(1, updated_at=NOON + HOUR, stats={"opened": 1})
    scan = scanned([record(1)], [later]).scan
    assert sorted(scan.operations["opened"].to_pylist()) == [0, 1]
    assert (scan.facts.operations, scan.facts.duplicates) == (1, 0)


def test_what_the_reference_does_not_know_is_counted():
    odd = record(1, status="PAUSED", region="us1")
    listing = scanned([odd, record(2, region="us1"), record(3, id="X-1")])
    assert listing.scan.operations.num_rows == 3
    assert sorted(listing.drift.values(), reverse=True) == [2, 1, 1]
    assert any("PAUSED" in what for what in listing.drift)
    assert any("region" in what for what in listing.drift)


def test_missing_page_fails_the_whole_window():
    """R4: half a listing is no scan."""
    answers = [Answer(body([record(1)], "t")), Answer(b"", 500)]
    with api(answers) as client, pytest.raises(ArchiveError, match="500"):
        scan_window(client, ACCOUNT, WINDOW)


# Many windows.


def hours(count: int) -> list[Window]:
    return [
        Window(at("2026-11-20") + n * HOUR, at("2026-11-20") + (n + 1) * HOUR) for n in range(count)
    ]


def test_failing_window_does_not_stop_the_others():
    def answer(request: Received) -> Answer:
        fails = request.query["startDate"] == "2026-11-20T02:59:59Z"
        return Answer(b"", 500) if fails else Answer(body([]))

    with api(answer) as client:
        outcomes = list(scan_windows(client, ACCOUNT, hours(6), concurrency=3))
    failed = [outcome for outcome in outcomes if isinstance(outcome, FailedScan)]
    assert [failure.window for failure in failed] == [hours(6)[3]]
    assert "500" in str(failed[0].error)
    scans = {o.scan.facts.window for o in outcomes if isinstance(o, ScanResult)}
    assert scans == set(hours(6)) - {hours(6)[3]}


def test_refused_credentials_stop_everything():
    asked: list[str] = []

    def answer(request: Received) -> Answer:
        asked.append(request.path)
        return Answer(b"", 401)

    with api(answer) as client, pytest.raises(CredentialsError):
        list(scan_windows(client, ACCOUNT, hours(24), concurrency=2))
    assert len(asked) <= 4


def test_windows_are_listed_at_once_up_to_the_limit():
    meeting = threading.Barrier(2, timeout=20)
    lock = threading.Lock()
    under_way, most = 0, 0

    def answer(_: Received) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        meeting.wait()  # passes only if two are there at the same time
        with lock:
            under_way -= 1
        return Answer(body([]))

    with api(answer, concurrency=4) as client:
        outcomes = list(scan_windows(client, ACCOUNT, hours(8), concurrency=4))
    assert len([o for o in outcomes if isinstance(o, ScanResult)]) == 8
    assert 2 <= most <= 4


def test_windows_are_listed_in_their_order():
    """R4: the most urgent ones come first, and one that is tried again soon."""
    asked: list[str] = []

    def answer(request: Received) -> Answer:
        asked.append(request.query["startDate"])
        return Answer(b"", 500) if len(asked) == 1 else Answer(body([]))

    windows = hours(20)
    with api(answer, concurrency=1) as client:
        list(scan_windows(client, ACCOUNT, windows, concurrency=4))
    starts = [rfc3339(window.query_bounds()[0]) for window in windows]
    assert sorted(set(asked)) == sorted(starts)
    last = {start: place for place, start in enumerate(asked)}
    assert last[asked[0]] <= 7
    assert all(abs(last[start] - place) <= 7 for place, start in enumerate(starts))


def test_window_waiting_for_retry_does_not_delay_others():
    """With room for one request: those after it are listed meanwhile."""
    asked: list[str] = []
    others = threading.Event()

    def answer(request: Received) -> Answer:
        asked.append(request.query["startDate"])
        if len(set(asked)) == 3:
            others.set()
        return Answer(b"", 500) if len(asked) == 1 else Answer(body([]))

    with api(answer, sleep=lambda _: others.wait(20), concurrency=1) as client:
        outcomes = list(scan_windows(client, ACCOUNT, hours(3), concurrency=3))
    assert others.is_set()
    assert len({o.scan.facts.window for o in outcomes if isinstance(o, ScanResult)}) == 3
    assert asked[-1] == asked[0]


def test_caller_leaving_early_ends_the_scans_under_way():
    """A scan of endless pages ends at its next page once nobody waits for it."""
    count = 0

    def answer(request: Received) -> Answer:
        nonlocal count
        count += 1
        if request.query["startDate"] == "2026-11-19T23:59:59Z":
            return Answer(body([]))
        return Answer(body([], f"t{count}"))

    with api(answer) as client:
        outcomes = scan_windows(client, ACCOUNT, hours(2), concurrency=2)
        assert isinstance(next(outcomes), ScanResult)
        outcomes.close()
        # Nobody waits for them; but with nobody to tell, they end by themselves.
        for thread in threading.enumerate():
            if thread.name.startswith("scan"):
                thread.join(30)
    assert not [one for one in threading.enumerate() if one.name.startswith("scan")]


def test_abandoned_windows_are_not_reported_as_failed(caplog: pytest.LogCaptureFixture):
    """Those that wait to be tried again as the caller stops, for one."""
    is_waiting, is_over = threading.Event(), threading.Event()

    def answer(request: Received) -> Answer:
        if request.query["startDate"] == "2026-11-19T23:59:59Z":
            return Answer(body([]))
        return Answer(b"", 503)

    def sleep(_: float) -> None:
        is_waiting.set()
        is_over.wait(20)

    with api(answer, sleep=sleep) as client:
        outcomes = scan_windows(client, ACCOUNT, hours(2), concurrency=2)
        assert isinstance(next(outcomes), ScanResult)
        assert is_waiting.wait(20)
        outcomes.close()
    is_over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("scan"):
            thread.join(30)
    assert "scan_failed" not in {getattr(record, "event", None) for record in caplog.records}


# Against the emulated API, whatever it leaves open.


@pytest.mark.parametrize("bounds", get_args(Bounds))
@pytest.mark.parametrize("order", get_args(Order))
def test_neighbouring_windows_find_every_operation_once(bounds: Any, order: Any):
    """R7: in any order of results and with either reading of the bounds.

    With 20,000 operations a day many seconds hold several operations, and every window's bounds are hit.
    """
    world = World(11, 20_000.0, at("2026-11-19"))
    options = Options(order=order, bounds=bounds, page_limit=100, empty_pages=True)
    start = at("2026-11-20 09:59")
    cuts = [start + timedelta(seconds=n) for n in (0, 1, 2, 3, 7, 60, 61, 600, 601.5, 900)]
    with running(world, clock=Clock(at("2026-11-20 12:00")), options=options) as emulator:
        settings = Settings(
            account_sid=options.account_sid, auth_token=options.auth_token, api_url=emulator.url
        )
        windows = [Window(a, b) for a, b in itertools.pairwise(cuts)]
        with OperationsClient(settings) as client:
            outcomes = list(scan_windows(client, ACCOUNT, windows, concurrency=2))
    scans = [outcome.scan for outcome in outcomes if isinstance(outcome, ScanResult)]
    found = [one for scan in scans for one in scan.operations["operation_id"].to_pylist()]
    expected = world.records(world.numbers(start, cuts[-1]), at("2026-11-20 12:00"))
    assert len(expected) > 100
    assert sorted(found) == [one["id"] for one in expected]


def test_query_bounds_are_whole_seconds_around_the_window():
    """R7: a window cut within a second asks for the whole second and keeps its own part."""
    asked: list[dict[str, str]] = []

    def answer(request: Received) -> Answer:
        asked.append(request.query)
        return Answer(body([record(1, created_at=NOON + timedelta(seconds=0.75))]))

    cut = NOON + timedelta(seconds=0.5)
    with api(answer) as client:
        first = scan_window(client, ACCOUNT, Window(NOON, cut)).scan
        second = scan_window(client, ACCOUNT, Window(cut, NOON + HOUR)).scan
    assert [first.operations.num_rows, second.operations.num_rows] == [0, 1]
    assert asked[0]["endDate"] == rfc3339(NOON + timedelta(seconds=2))
    assert asked[1]["startDate"] == rfc3339(NOON - timedelta(seconds=1))
