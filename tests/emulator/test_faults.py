"""The emulator's faults: each is what it says, and what the client and a sync make of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipeline.emulator import FAULTS, Emulator, Faults, Options, World
from pipeline.emulator.faults import (
    BODIES,
    CLOCKS,
    CONNECTIONS,
    LISTINGS,
    PAGE_SIZES,
    RECORDS,
    REFUSALS,
)
from pipeline.emulator.listing import Order
from pipeline.errors import UsageError
from pipeline.extract.scan import Listing, scan_window, scan_windows
from pipeline.model.schema import OPERATIONS, REJECTS
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.sync import Days, sync
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import PageTokenError, RetriableApiError
from tests.support.archives import account, rows, sync_all, unlike_truth
from tests.support.factories import at

START = at("2026-11-10")
NOW = at("2026-11-12 12:00")
HOUR = timedelta(hours=1)
WORLD = World(6, 150.0, START)
DAY = Window.of_day(START.date())
PAGE = 20
SCOPE = Days([(START + n * timedelta(days=1)).date() for n in range(3)])
TRANSIENT = (
    *REFUSALS,
    "reset",
    "reset-midway",
    "length-short",
    "length-long",
    "html",
    "gzip",
    "truncated",
)


def no_wait(_: float) -> None:
    """Time is the emulator's."""


@contextmanager
def troubled(folder: Path, faults: Faults, **fields: Any) -> Iterator[tuple[Emulator, Settings]]:
    options = Options(faults=faults)
    with account(WORLD, NOW, folder, options=options, page_size=PAGE, **fields) as found:
        yield found


@contextmanager
def plain_client(emulator: Emulator) -> Iterator[httpx2.Client]:
    """A client that mends nothing."""
    auth = (emulator.options.auth_token, emulator.options.account_sid)[::-1]
    with httpx2.Client(base_url=f"{emulator.url}/", auth=auth) as client:
        yield client


def listing(client: httpx2.Client, **query: str) -> httpx2.Response:
    start, end = (f"{bound:%Y-%m-%dT%H:%M:%SZ}" for bound in DAY.query_bounds())
    bounds = {"startDate": start, "endDate": end, "pageSize": str(PAGE)}
    return client.get("Emails/Operations", params=bounds | query)


@pytest.fixture
def scripted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx2.Client]:
    """The API whose first answer has the fault that the test names."""
    with (
        troubled(tmp_path, Faults(script=[request.param])) as (emulator, _),
        plain_client(emulator) as client,
    ):
        yield client


def test_every_kind_is_tested_here():
    assert set(FAULTS) == {
        *REFUSALS,
        *CONNECTIONS,
        *BODIES,
        *PAGE_SIZES,
        *LISTINGS,
        *RECORDS,
        *CLOCKS,
    }
    assert len(FAULTS) == len(set(FAULTS))


@pytest.mark.parametrize(("scripted", "status"), REFUSALS.items(), indirect=["scripted"])
def test_refusals_have_their_status_and_happen_once(scripted: httpx2.Client, status: int):
    assert listing(scripted).status_code == status
    assert listing(scripted).status_code == 200


@pytest.mark.parametrize(
    ("scripted", "retry_after"),
    [
        ("429", "1"),
        ("429-zero", "0"),
        ("429-date", "Thu, 12 Nov 2026 12:00:01 GMT"),
        ("503-retry-after", "1"),
        ("503", None),
        ("500", None),
    ],
    indirect=["scripted"],
)
def test_retry_after_is_seconds_or_a_date(scripted: httpx2.Client, retry_after: str | None):
    assert listing(scripted).headers.get("Retry-After") == retry_after


@pytest.mark.parametrize(
    ("scripted", "error"),
    [
        ("reset", httpx2.ReadError),
        ("reset-midway", httpx2.ReadError),
        ("length-long", httpx2.RemoteProtocolError),
        ("gzip", httpx2.DecodingError),
    ],
    indirect=["scripted"],
)
def test_broken_responses_break_a_plain_client(scripted: httpx2.Client, error: type[Exception]):
    with pytest.raises(error):
        listing(scripted)
    assert listing(scripted).status_code == 200


@pytest.mark.parametrize("scripted", ["truncated", "length-short", "html"], indirect=True)
def test_responses_without_json_come_with_200(scripted: httpx2.Client):
    answer = listing(scripted)
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"."):
        answer.json()


@pytest.mark.parametrize("scripted", ["html", "html-error"], indirect=True)
def test_page_of_a_proxy_is_html(scripted: httpx2.Client):
    answer = listing(scripted)
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.content.startswith(b"<html>")


@pytest.mark.parametrize("scripted", ["drip"], indirect=True)
def test_dripping_body_is_whole_in_the_end(scripted: httpx2.Client):
    assert listing(scripted).json()["operations"] == listing(scripted).json()["operations"]


@pytest.mark.parametrize("scripted", ["date-skew"], indirect=True)
def test_skewed_date_is_wrong_by_minutes(scripted: httpx2.Client):
    dates = [parsedate_to_datetime(listing(scripted).headers["Date"]) for _ in range(2)]
    assert timedelta() < abs(dates[0] - NOW) <= Faults().skew
    assert dates[1] == NOW


def ids(answer: httpx2.Response) -> list[str]:
    return [record["id"] for record in answer.json()["operations"]]


@pytest.mark.parametrize("scripted", ["reordered"], indirect=True)
def test_reordered_page_has_the_same_records(scripted: httpx2.Client):
    reordered, usual = ids(listing(scripted)), ids(listing(scripted))
    assert reordered != usual
    assert sorted(reordered) == usual


def test_page_with_duplicates_repeats_records_of_the_page_before(tmp_path: Path):
    with (
        troubled(tmp_path, Faults(script=[None, "duplicates"])) as (emulator, _),
        plain_client(emulator) as client,
    ):
        first = listing(client)
        token = first.json()["pagination"]["next"]
        second = ids(listing(client, pageToken=token))
        assert second[:3] == ids(first)[-3:]
        assert second[-1] == second[-2]
        assert second[3:-1] == ids(listing(client, pageToken=token))


@pytest.mark.parametrize("scripted", ["empty-pages"], indirect=True)
def test_empty_page_has_a_token_to_go_on(scripted: httpx2.Client):
    empty = listing(scripted).json()
    assert empty["operations"] == []
    following = listing(scripted, pageToken=empty["pagination"]["next"])
    assert ids(following) == ids(listing(scripted))


def test_tokens_are_refused_or_lead_back(tmp_path: Path):
    with (
        troubled(tmp_path, Faults(script=[None, "token-refused", "token-loop"])) as (emulator, _),
        plain_client(emulator) as client,
    ):
        token = listing(client).json()["pagination"]["next"]
        refused = listing(client, pageToken=token)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["code"] == 21481
        assert listing(client, pageToken=token).json()["pagination"]["next"] == token
        assert listing(client, pageToken=token).json()["pagination"]["next"] != token


def test_stale_replica_lists_an_earlier_state(tmp_path: Path):
    faults = Faults(script=["stale"], stale_by=timedelta(hours=40))
    with troubled(tmp_path, faults) as (emulator, _), plain_client(emulator) as client:
        stale = listing(client)
        assert parsedate_to_datetime(stale.headers["Date"]) == NOW
        before = WORLD.records(WORLD.numbers(START, NOW - faults.stale_by), NOW - faults.stale_by)
        assert stale.json()["operations"] == before[:PAGE]
        assert listing(client).json()["operations"] != before[:PAGE]


def test_late_records_come_after_some_minutes(tmp_path: Path):
    now = START + timedelta(hours=15)
    faults = Faults(rates={"late": 0.5}, late_by=timedelta(hours=1))
    with account(WORLD, now, tmp_path, options=Options(faults=faults)) as (emulator, _):
        numbers = WORLD.numbers(START, now)
        with plain_client(emulator) as client:
            early = client.get("Emails/Operations", params={"pageSize": "1000"})
            emulator.clock.step(timedelta(hours=1))
            later = client.get("Emails/Operations", params={"pageSize": "1000"})
        everyone = [record["id"] for record in WORLD.records(numbers, now)]
        young = [
            record["id"]
            for record in WORLD.records(WORLD.numbers(now - timedelta(hours=1), now), now)
        ]
        hidden = set(everyone) - set(ids(early))
        assert hidden
        assert hidden < set(young)
        assert set(everyone) <= set(ids(later))


def test_partial_response_omits_half_of_the_expired_hours(tmp_path: Path):
    now = START + timedelta(days=7, hours=15, minutes=30)
    options = Options(faults=Faults(script=["partial"]))
    with account(WORLD, now, tmp_path, options=options) as (emulator, _):
        with plain_client(emulator) as client:
            partial, whole = (
                client.get("Emails/Operations", params={"pageSize": "1000"}).json()["operations"]
                for _ in range(2)
            )
        assert emulator.injected == {"partial": 1}
    passed = "2026-11-10T16"  # 15:30 is in an hour that ends too
    old = [record["id"] for record in whole if record["createdAt"] < passed]
    kept = [record["id"] for record in partial if record["createdAt"] < passed]
    assert len(old) / 4 < len(kept) < 3 * len(old) / 4
    assert set(kept) < set(old)
    assert [r for r in partial if r["createdAt"] >= passed] == [
        r for r in whole if r["createdAt"] >= passed
    ]


def test_listings_end_with_the_retention_where_nothing_fades(tmp_path: Path):
    now = START + timedelta(days=8)
    for fading in (timedelta(days=3), timedelta()):
        options = Options(fading=fading)
        with (
            account(WORLD, now, tmp_path, options=options) as (emulator, _),
            plain_client(emulator) as client,
        ):
            answer = client.get("Emails/Operations", params={"pageSize": "1000"})
        old = [r for r in answer.json()["operations"] if r["createdAt"] < "2026-11-11"]
        assert bool(old) == bool(fading)


def test_stale_replica_fetches_an_earlier_state(tmp_path: Path):
    faults = Faults(script=["stale"], stale_by=timedelta(hours=40))
    with troubled(tmp_path, faults) as (emulator, _), plain_client(emulator) as client:
        numbers = range(PAGE)
        now, before = (WORLD.records(numbers, NOW - age) for age in (timedelta(), faults.stale_by))
        one = next(n for n in numbers if now[n] != before[n])
        path = f"Emails/Operations/{now[one]['id']}"
        assert client.get(path).json() == before[one]
        assert client.get(path).json() == now[one]


@pytest.mark.parametrize("kind", RECORDS)
def test_scripted_record_fault_hits_half_of_one_response(tmp_path: Path, kind: str):
    now = START + timedelta(hours=15)
    faults = Faults(script=[kind], late_by=timedelta(hours=15))
    options = Options(faults=faults)
    with (
        account(WORLD, now, tmp_path, options=options, page_size=PAGE) as (emulator, _),
        plain_client(emulator) as client,
    ):
        first, second = (listing(client).json()["operations"] for _ in range(2))
    assert second == WORLD.records(WORLD.numbers(START, now)[:PAGE], now)
    as_they_are = [record for record in first if record in second]
    assert len(as_they_are) == PAGE - emulator.injected[kind]
    assert PAGE / 4 < emulator.injected[kind] < 3 * PAGE / 4


def test_records_are_unknown_always_and_damaged_once(tmp_path: Path):
    faults = Faults(rates=dict.fromkeys(("malformed", "unknown-field", "unknown-status"), 0.2))
    with troubled(tmp_path, faults) as (emulator, _), plain_client(emulator) as client:
        first, second = (listing(client).json()["operations"] for _ in range(2))
        truth = WORLD.records(WORLD.numbers(START, NOW)[:PAGE], NOW)
        assert [record.get("id") for record in second] == [record["id"] for record in truth]
        assert (
            sum(a != b for a, b in zip(first, second, strict=True))
            == emulator.injected["malformed"]
        )
        odd = sum(record["status"] == "PAUSED" for record in second)
        extra = sum("campaign" in record for record in second)
        assert min(odd, extra, emulator.injected["malformed"]) > 0
        assert max(odd, extra) < PAGE / 2


def test_same_seed_and_requests_have_the_same_faults(tmp_path: Path):
    rates = dict.fromkeys(("500", "truncated", "empty-pages", "429"), 0.2)

    def answers(seed: int) -> list[tuple[int, int]]:
        with (
            troubled(tmp_path / str(seed), Faults(seed, rates)) as (emulator, _),
            plain_client(emulator) as client,
        ):
            found = [listing(client) for _ in range(30)]
            return [(one.status_code, len(one.content)) for one in found]

    assert answers(1) == answers(1) != answers(2)


@pytest.mark.parametrize("kind", PAGE_SIZES)
def test_page_is_too_large_only_above_the_limit(tmp_path: Path, kind: str):
    faults = Faults(rates={kind: 1.0}, large_page=10)
    with troubled(tmp_path, faults) as (emulator, _), plain_client(emulator) as client:
        assert listing(client, pageSize="10").status_code == 200
        assert emulator.injected == {}
        if kind == "large-page-hang":
            with pytest.raises(httpx2.ReadTimeout):
                client.get("Emails/Operations", params={"pageSize": "11"}, timeout=0.2)
        else:
            assert listing(client, pageSize="11").status_code == 500
        assert emulator.injected == {kind: 1}


@pytest.mark.parametrize(("kind", "ends"), [("capped", 400), ("capped-silently", 200)])
def test_capped_listing_ends_early(tmp_path: Path, kind: str, ends: int):
    faults = Faults(rates={kind: 1.0}, cap=2 * PAGE)
    with troubled(tmp_path, faults) as (emulator, _), plain_client(emulator) as client:
        token: str | None = ""
        answers = []
        while token is not None:
            answers.append(listing(client, **({"pageToken": token} if token else {})))
            token = answers[-1].json().get("pagination", {}).get("next")
    assert answers[-1].status_code == ends
    assert sum(len(ids(answer)) for answer in answers if answer.status_code == 200) == 2 * PAGE
    assert emulator.injected == {kind: 1}


# What the client and a sync make of them.


@pytest.mark.parametrize("kind", TRANSIENT)
def test_client_mends_what_passes(tmp_path: Path, kind: str):
    """R9: and never takes a broken answer for an empty one."""
    with troubled(tmp_path, Faults(script=[kind, kind])) as (emulator, settings):
        with OperationsClient(settings, sleep=no_wait) as client:
            pages = list(client.pages(DAY))
        assert emulator.injected == {kind: 2}
    assert pages[0].attempts >= 3
    assert sum(page.records for page in pages) == len(
        WORLD.numbers(START, START + timedelta(days=1))
    )


@pytest.mark.parametrize("kind", TRANSIENT)
def test_client_reports_persistent_faults(tmp_path: Path, kind: str):
    with (
        troubled(tmp_path, Faults(rates={kind: 1.0}), retry_attempts=3) as (emulator, settings),
        OperationsClient(settings, sleep=no_wait) as client,
    ):
        with pytest.raises(RetriableApiError, match="tried 3 times"):
            list(client.pages(DAY))
        # A line whose length lied is ended: the next try may find out only then.
        assert emulator.injected[kind] == 3 or (
            kind == "length-short" and emulator.injected[kind] == 2
        )


@pytest.mark.parametrize("kind", ["token-refused", "token-loop"])
def test_dead_page_token_is_an_error_of_its_own(tmp_path: Path, kind: str):
    with (
        troubled(tmp_path, Faults(script=[None, kind])) as (_, settings),
        OperationsClient(settings, sleep=no_wait) as client,
        pytest.raises(PageTokenError),
    ):
        list(client.pages(DAY))


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in FAULTS
        if kind not in ("stale", "partial", "malformed", "late", *CLOCKS)
        and not kind.startswith("capped")
    ],
)
def test_archive_equals_the_truth_whatever_goes_wrong(tmp_path: Path, kind: str):
    """R7: one request in five; what a window's own retries do not mend, the next sync does."""
    rate = 0.05 if kind.startswith("token") else 0.2
    faults = Faults(3, {kind: rate}, large_page=PAGE - 1)
    with troubled(tmp_path, faults, retry_attempts=8, read_timeout=0.5) as (emulator, settings):
        for _ in range(5):
            if sync(settings, scope=SCOPE, sleep=no_wait, publishing=False).ok:
                break
        assert emulator.injected[kind] > 0
        problems = unlike_truth(emulator, tmp_path, START, [NOW])
    if kind == "unknown-status":
        assert all("status PAUSED" in problem for problem in problems)
    else:
        assert problems == []
    assert rows(tmp_path, REJECTS).num_rows == 0


@contextmanager
def busy(
    folder: Path, faults: Faults, order: Order = "oldest", **fields: Any
) -> Iterator[tuple[Emulator, Settings]]:
    """An account with 3,000 operations a day."""
    world = World(6, 3000.0, START)
    options = Options(faults=faults, order=order)
    with account(world, START + timedelta(hours=12), folder, options=options, **fields) as found:
        yield found


@pytest.mark.parametrize(
    ("kind", "order"),
    [("capped", "oldest"), ("capped", "scrambled"), ("capped-silently", "newest")],
)
def test_capped_listing_is_cut_until_it_is_complete(tmp_path: Path, kind: str, order: Order):
    """R4, R7"""
    faults = Faults(rates={kind: 1.0}, cap=500)
    with busy(tmp_path, faults, order, page_size=250) as (emulator, settings):
        report = sync(settings, scope=Days([START.date()]), publishing=False)
        assert report.ok
        assert emulator.injected[kind] > 0
        assert unlike_truth(emulator, tmp_path, START, [emulator.clock.now()]) == []
        assert len(emulator.requests) < 60


def page_sizes(emulator: Emulator) -> list[int]:
    """The sizes of the pages that listings asked for, in order."""
    return [int(one.query["pageSize"]) for one in emulator.requests if "startDate" in one.query]


@pytest.mark.parametrize("kind", PAGE_SIZES)
def test_page_size_is_halved_until_pages_come(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    """R4: and kept for the rest of the run; the next run begins with the setting."""
    faults = Faults(rates={kind: 1.0}, large_page=300)
    fields = {"retry_attempts": 2, "read_timeout": 0.3, "concurrency": 1}
    with busy(tmp_path, faults, **fields) as (emulator, settings):
        windows = [Window(START + n * HOUR, START + (n + 1) * HOUR) for n in range(3)]
        with OperationsClient(settings, sleep=no_wait) as client:
            listings = list(scan_windows(client, settings.account_sid, windows, concurrency=1))
        assert all(isinstance(one, Listing) and one.scan.facts.complete for one in listings)
        assert emulator.injected == {kind: 4}
        assert set(page_sizes(emulator)) == {250}
        assert "as if EMAIL_ARCHIVE_PAGE_SIZE were 250" in caplog.text
        with OperationsClient(settings, sleep=no_wait) as client:
            assert isinstance(scan_window(client, settings.account_sid, windows[0]), Listing)
        assert emulator.injected == {kind: 8}


def test_503_with_retry_after_halves_the_page_size_too(tmp_path: Path):
    """What the server asks to wait is waited, and does not say that smaller pages may not come."""
    waits: list[float] = []
    faults = Faults(script=["503-retry-after"] * 2, retry_after=timedelta(seconds=7))
    with busy(tmp_path, faults, retry_attempts=2) as (emulator, settings):
        with OperationsClient(settings, sleep=waits.append) as client:
            assert scan_window(client, settings.account_sid, DAY).scan.facts.complete
        assert emulator.injected == {"503-retry-after": 2}
        assert set(page_sizes(emulator)) == {500}
    assert max(waits) >= 7


def test_page_size_stays_when_it_is_not_the_cause(tmp_path: Path):
    """A server that is down for a while does not make the rest of the run slow."""
    faults = Faults(script=["500"] * 12)  # two tries of each of six sizes
    with busy(tmp_path, faults, retry_attempts=2) as (emulator, settings):
        with OperationsClient(settings, sleep=no_wait) as client:
            with pytest.raises(RetriableApiError, match="500"):
                scan_window(client, settings.account_sid, DAY)
            assert scan_window(client, settings.account_sid, DAY).scan.facts.complete
        assert set(page_sizes(emulator)) == {1000}


def test_stale_replica_never_brings_an_older_state_back(tmp_path: Path):
    """R2, R3"""
    faults = Faults(rates={"stale": 0.5}, stale_by=timedelta(hours=5))
    with troubled(tmp_path, faults) as (emulator, settings):
        newest: dict[str, Any] = {}
        for _ in range(4):
            sync_all(settings, publishing=False)
            table = rows(tmp_path, OPERATIONS).to_pylist()
            now = {row["operation_id"]: row["updated_at"] for row in table}
            assert newest.keys() <= now.keys()
            assert all(now[one] >= newest[one] for one in newest)
            newest = now
            emulator.clock.step(timedelta(hours=1))
        assert emulator.injected["stale"] > 3


def test_partial_response_removes_nothing_seen(tmp_path: Path):
    """R1, R4: and covers nothing, since the deadline has passed."""
    with troubled(tmp_path, Faults(rates={"partial": 1.0})) as (emulator, settings):
        sync_all(settings, publishing=False)
        assert emulator.injected["partial"] == 0
        known = set(rows(tmp_path, OPERATIONS)["operation_id"].to_pylist())
        emulator.clock.set(START + timedelta(days=7, hours=20))
        assert sync(settings, scope=SCOPE, publishing=False).ok
        assert emulator.injected["partial"] > 0
        assert known <= set(rows(tmp_path, OPERATIONS)["operation_id"].to_pylist())


def test_damaged_record_is_a_reject_until_the_next_scan(tmp_path: Path):
    """R9"""
    with troubled(tmp_path, Faults(rates={"malformed": 0.1})) as (emulator, settings):
        sync_all(settings, publishing=False)
        damaged = emulator.injected["malformed"]
        assert rows(tmp_path, REJECTS).num_rows == damaged > 10
        known = rows(tmp_path, OPERATIONS).num_rows
        assert known == len(WORLD.existing(NOW)) - damaged
        sync_all(settings, publishing=False)
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []
        assert rows(tmp_path, REJECTS).num_rows == damaged


# As text.


def test_faults_are_read_from_a_text():
    assert Faults.parse("429=0.05, reset=0.01,seed=7") == Faults(7, {"429": 0.05, "reset": 0.01})
    assert Faults.parse("script=429/none/late") == Faults(script=("429", None, "late"))


@pytest.mark.parametrize(
    "text", ["teapot=0.1", "script=teapot", "429", "429=often", "429=1.5", "500=0.6,503=0.6"]
)
def test_unknown_fault_error_names_the_kinds(text: str):
    with pytest.raises(UsageError, match=r"429.*reset"):
        Faults.parse(text)
