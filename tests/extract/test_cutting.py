"""Windows that are cut: those over their budget, and those the API refuses to list on."""

import itertools
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest

from pipeline.emulator import Clock, Options, World, running
from pipeline.emulator.listing import Order
from pipeline.extract.scan import FailedScan, ScanResult, scan_window, scan_windows
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from tests.support.factories import ACCOUNT, NOON, at, body, operation_id, record
from tests.support.scans import HOUR, WINDOW, api, scanned
from tests.support.scripted_api import Answer, Received


def created(moment: datetime, number: int = 1, **more: Any) -> dict[str, Any]:
    return record(number, created_at=moment, **more)


def test_window_over_its_budget_is_cut_and_keeps_its_pages():
    """R1, R4: what was seen lands, and covers nothing; the parts tile the window."""
    answers = [Answer(body([record(n)], f"t{n}")) for n in range(30)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, WINDOW, max_pages=4)
    assert (listing.scan.facts.complete, listing.scan.facts.pages) == (False, 4)
    assert listing.scan.operations.num_rows == 4
    assert len(listing.parts) >= 2
    assert listing.parts[0].start == WINDOW.start
    assert listing.parts[-1].end == WINDOW.end
    assert all(a.end == b.start for a, b in itertools.pairwise(listing.parts))


def minutes_apart(count: int, first: int = 0) -> list[dict]:
    """Records of a day's first minutes, in order of creation."""
    midnight = at("2026-11-20")
    return [
        record(n, created_at=midnight + n * timedelta(minutes=1))
        for n in range(first, first + count)
    ]


def test_ordered_listing_expected_over_budget_is_cut_early():
    """R4: ten minutes of a day fill the first page: the rest is listed in parts, which tile the day."""
    day = Window.of_day(NOON.date())
    answers = [Answer(body(minutes_apart(10, 10 * n), f"t{n}")) for n in range(30)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, day, max_pages=16)
    assert (listing.scan.facts.complete, listing.scan.facts.pages) == (False, 1)
    assert listing.parts[0].start == day.start
    assert listing.parts[-1].end == day.end
    assert all(a.end == b.start for a, b in itertools.pairwise(listing.parts))
    assert len(listing.parts) >= 12


def test_burst_in_the_first_second_causes_few_cuts():
    burst = [
        record(n, created_at=at("2026-11-20") + n * timedelta(milliseconds=9)) for n in range(99)
    ]
    with api([Answer(body(burst, "t"))]) as client:
        listing = scan_window(client, ACCOUNT, Window.of_day(NOON.date()), max_pages=16)
    assert 12 <= len(listing.parts) <= 24


def test_listing_in_no_order_is_not_cut_before_its_budget():
    scrambled = [
        one for pair in zip(minutes_apart(5), minutes_apart(5, 5), strict=True) for one in pair
    ]
    answers = [Answer(body(scrambled, f"t{n}")) for n in range(30)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, Window.of_day(NOON.date()), max_pages=16)
    assert listing.scan.facts.pages == 16


def test_ordered_listing_more_than_half_done_goes_on():
    """The API's clock shows 14:00: after 15 of 26 pages 28 are expected, and half of them are there."""
    day = Window.of_day(NOON.date())
    pages = [
        [record(n, created_at=at("2026-11-20") + n * timedelta(minutes=32))] for n in range(26)
    ]
    answers = [Answer(body(page, f"t{n}" if n < 25 else None)) for n, page in enumerate(pages)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, day, max_pages=15)
    assert (listing.scan.facts.complete, listing.scan.facts.pages) == (True, 26)


@pytest.mark.parametrize(
    "minutes",
    [
        # More come from hour to hour: after 30 of 33 pages 32 are expected, and 7 more would be borne.
        pytest.param([*range(0, 480, 32), *range(469, 840, 21)], id="lacks few pages"),
        # After 30 of 39 pages 39 are expected: 9 more, where cutting would list 30 again.
        pytest.param([*range(0, 640, 32), *range(612, 688, 4)], id="lacks less than cutting costs"),
    ],
)
def test_ordered_listing_near_its_end_exceeds_its_budget(
    minutes: list[int],
):
    day, last = Window.of_day(NOON.date()), len(minutes) - 1
    pages = [
        [record(n, created_at=at("2026-11-20") + minute * timedelta(minutes=1))]
        for n, minute in enumerate(minutes)
    ]
    answers = [Answer(body(page, f"t{n}" if n < last else None)) for n, page in enumerate(pages)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, day, max_pages=15)
    assert (listing.scan.facts.complete, listing.scan.facts.pages) == (True, len(minutes))
    assert len(minutes) > 30


def test_listing_whose_last_hours_are_dense_is_cut():
    """R9: a page a minute from 12:00 on, as after a campaign: expected is never much more than there is."""
    day = Window.of_day(NOON.date())
    minutes = [*(60 * n for n in range(13)), *(720 + n / 10 for n in range(1, 400))]
    answers = [
        Answer(
            body([record(n, created_at=at("2026-11-20") + minute * timedelta(minutes=1))], f"t{n}")
        )
        for n, minute in enumerate(minutes)
    ]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, day, max_pages=10)
    assert not listing.scan.facts.complete
    assert listing.scan.facts.pages <= 3 * 10
    assert len(listing.parts) >= 12


def test_window_ending_with_its_budget_is_complete():
    answers = [Answer(body([record(n)], f"t{n}" if n < 3 else None)) for n in range(4)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, WINDOW, max_pages=4)
    assert (listing.scan.facts.complete, listing.parts) == (True, ())


def test_empty_and_foreign_pages_do_not_cut_a_window():
    """A server that filters after it reads: parts would take as many pages, and be cut for ever."""
    elsewhere = [created(NOON - HOUR, n) for n in range(3)]
    pages = [[], elsewhere, [], elsewhere, [record(7)], elsewhere, [], elsewhere, [record(8)]]
    answers = [Answer(body(page, f"t{n}" if n < 8 else None)) for n, page in enumerate(pages)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, WINDOW, max_pages=2)
    assert (listing.scan.facts.complete, listing.parts) == (True, ())
    assert listing.scan.facts.operations == 2


def test_window_of_a_second_is_listed_to_its_end():
    second = Window(NOON, NOON + timedelta(seconds=1))
    answers = [Answer(body([record(n)], f"t{n}" if n < 9 else None)) for n in range(10)]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, second, max_pages=2)
    assert (listing.scan.facts.complete, listing.scan.operations.num_rows) == (True, 10)


REFUSED = Answer(b'{"errors": [{"code": 21481, "message": "Invalid page token"}]}', 400)
SECOND = Window(NOON, NOON + timedelta(seconds=1))


def test_refused_page_token_cuts_the_window():
    """R1, R4: what came before lands, and covers nothing; the parts tile the window."""
    answers = [Answer(body([record(1)], "old")), REFUSED]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, WINDOW)
    assert (listing.scan.facts.complete, listing.scan.operations.num_rows) == (False, 1)
    assert listing.parts[0].start == WINDOW.start
    assert listing.parts[-1].end == WINDOW.end
    assert len(listing.parts) >= 2


def test_refused_page_token_restarts_a_window_of_a_second():
    answers = [
        Answer(body([record(1)], "old")),
        REFUSED,
        Answer(body([record(1)], "new")),
        Answer(body([record(2)])),
    ]
    with api(answers) as client:
        listing = scan_window(client, ACCOUNT, SECOND)
    assert listing.scan.operations["operation_id"].to_pylist() == [operation_id(1), operation_id(2)]
    assert (listing.scan.facts.complete, listing.scan.facts.requests) == (True, 4)


def test_always_refused_page_token_fails_the_window():
    def answer(request: Received) -> Answer:
        return REFUSED if "pageToken" in request.query else Answer(body([record(1)], "t"))

    with api(answer) as client:
        (outcome,) = scan_windows(client, ACCOUNT, [SECOND], concurrency=1)
        several = list(scan_windows(client, ACCOUNT, [WINDOW], concurrency=1))
    assert isinstance(outcome, FailedScan)
    assert "page token" in str(outcome.error)
    assert not any(isinstance(one, ScanResult) and one.scan.facts.complete for one in several)
    assert len(several) < 60


@pytest.mark.parametrize(("count", "is_complete"), [(499, True), (500, False), (501, True)])
def test_listing_of_a_round_number_is_listed_again_in_parts(count: int, is_complete: bool):
    """R4: an API that stops at a number of results would lose the rest without a word."""
    listing = scanned([record(n) for n in range(count)])
    assert listing.scan.facts.complete is is_complete
    assert bool(listing.parts) is not is_complete


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(o, marks=[pytest.mark.slow] if o == "scrambled" else [])
        for o in get_args(Order)
    ],
)
def test_big_window_is_cut_while_it_runs_and_nothing_is_missing(order: Any):
    """R4, R7: whatever the order of results: complete parts tile the window and hold everything."""
    world = World(11, 40_000.0, at("2026-11-19"))
    options = Options(order=order, page_limit=20)
    window = Window(at("2026-11-20 08:00"), at("2026-11-20 11:00"))
    with running(world, clock=Clock(at("2026-11-20 12:00")), options=options) as emulator:
        settings = Settings(
            account_sid=options.account_sid, auth_token=options.auth_token, api_url=emulator.url
        )
        with OperationsClient(settings) as client:
            outcomes = list(scan_windows(client, ACCOUNT, [window], concurrency=2))
    scans = [one.scan for one in outcomes if isinstance(one, ScanResult)]
    whole = sorted((one for one in scans if one.facts.complete), key=lambda one: one.facts.window)
    assert len(whole) > 10
    assert whole[0].facts.window.start == window.start
    assert whole[-1].facts.window.end == window.end
    assert all(a.facts.window.end == b.facts.window.start for a, b in itertools.pairwise(whole))
    found = [one for scan in whole for one in scan.operations["operation_id"].to_pylist()]
    expected = world.records(world.numbers(window.start, window.end), at("2026-11-20 12:00"))
    assert sorted(found) == [one["id"] for one in expected]
