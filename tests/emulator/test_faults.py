"""The emulator's faults: each is what it says."""

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
from pipeline.errors import UsageError
from pipeline.model.windows import Window
from pipeline.settings import Settings
from tests.support.archives import account
from tests.support.factories import at

START = at("2026-11-10")
NOW = at("2026-11-12 12:00")
WORLD = World(6, 150.0, START)
DAY = Window.of_day(START.date())
PAGE = 20


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


def test_faults_are_read_from_a_text():
    assert Faults.parse("429=0.05, reset=0.01,seed=7") == Faults(7, {"429": 0.05, "reset": 0.01})
    assert Faults.parse("script=429/none/late") == Faults(script=("429", None, "late"))


@pytest.mark.parametrize(
    "text", ["teapot=0.1", "script=teapot", "429", "429=often", "429=1.5", "500=0.6,503=0.6"]
)
def test_unknown_fault_error_names_the_kinds(text: str):
    with pytest.raises(UsageError, match=r"429.*reset"):
        Faults.parse(text)
