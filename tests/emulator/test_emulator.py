"""The emulated API over real HTTP: as the reference has it, and open where the reference is."""

import base64
import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx2
import pytest

from pipeline.emulator import (
    DEMO_ACCOUNT_SID,
    DEMO_AUTH_TOKEN,
    Clock,
    Emulator,
    Options,
    World,
    running,
)
from pipeline.emulator.listing import Bounds, Order
from tests.support.factories import at, rfc3339

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = at("2026-11-20 15:00")
WORLD = World(3, 2000.0, START)
DAY = {"startDate": "2026-11-20T00:00:00Z", "endDate": "2026-11-20T12:00:00Z"}


@contextmanager
def served(
    world: World = WORLD, now: datetime = NOW, **options: Any
) -> Iterator[tuple[httpx2.Client, Emulator]]:
    with (
        running(world, clock=Clock(now), options=Options(**options)) as emulator,
        httpx2.Client(auth=(DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN)) as http,
    ):
        yield http, emulator


def listing(http: httpx2.Client, emulator: Emulator, **query: str) -> list[list[dict[str, Any]]]:
    """The records of every page of a listing."""
    pages = []
    while True:
        answer = http.get(f"{emulator.url}/Emails/Operations", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        pages.append(page[emulator.options.records_key])
        token = page["pagination"]["next"]
        if token is None:
            return pages
        query["pageToken"] = token


def flat(pages: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return list(itertools.chain.from_iterable(pages))


def refusal(answer: httpx2.Response) -> tuple[int, int]:
    """Status and Twilio code of an error, which must come in Twilio's envelope."""
    (error,) = answer.json()["errors"]
    assert set(error) == {"code", "message", "infoUrl", "context"}
    return answer.status_code, error["code"]


def test_response_has_the_documented_form():
    with served() as (http, emulator):
        answer = http.get(f"{emulator.url}/Emails/Operations", params=DAY | {"pageSize": "2"})
    assert answer.headers["Date"] == "Fri, 20 Nov 2026 15:00:00 GMT"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Twilio-Request-Id"].startswith("RQ")
    page = answer.json()
    assert set(page) == {"operations", "pagination"}
    assert set(page["pagination"]) == {"next", "self"}
    assert [set(record) for record in page["operations"]] == [
        {"id", "status", "stats", "createdAt", "updatedAt"}
    ] * 2


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("empty_pages", [False, True])
def test_listing_holds_every_operation_once_in_every_order(order: str, empty_pages: bool):
    with served(order=order, empty_pages=empty_pages, page_limit=40) as (http, emulator):
        pages = listing(http, emulator, **DAY)
    numbers = WORLD.numbers(at("2026-11-20"), at("2026-11-20 12:00"))
    expected = WORLD.records(range(numbers.start, numbers.stop), NOW)
    found = flat(pages)
    assert sorted(r["id"] for r in found) == sorted(
        r["id"] for r in expected if r["createdAt"] != "2026-11-20T00:00:00Z"
    )
    assert any(not page for page in pages) == empty_pages
    ids = [record["id"] for record in found]
    assert (ids == sorted(ids)) == (order == "oldest")
    assert (ids == sorted(ids, reverse=True)) == (order == "newest")


@pytest.mark.parametrize("bounds", get_args(Bounds))
def test_bounds_are_included_as_chosen(bounds: str):
    first, last = WORLD.records(WORLD.numbers(at("2026-11-20 10:00"), at("2026-11-20 11:00")), NOW)[
        :: max(len(WORLD.numbers(at("2026-11-20 10:00"), at("2026-11-20 11:00"))) - 1, 1)
    ]
    with served(bounds=bounds) as (http, emulator):
        found = flat(
            listing(http, emulator, startDate=first["createdAt"], endDate=last["createdAt"])
        )
    created = {record["createdAt"] for record in found}
    assert (first["createdAt"] in created) == (bounds in ("inclusive", "start_inclusive"))
    assert (last["createdAt"] in created) == (bounds in ("inclusive", "end_inclusive"))


def test_status_filter_applies_after_the_read():
    """As with the real cursor, a page may then be short or empty and still have a next."""
    with served() as (http, emulator):
        every = flat(listing(http, emulator, **DAY))
        pages = listing(http, emulator, **DAY, status="CANCELED", pageSize="20")
    canceled = [record for record in every if record["status"] == "CANCELED"]
    assert canceled
    assert flat(pages) == canceled
    assert [] in pages[:-1]


def test_page_size_is_50_by_default_and_1000_at_most():
    busy = World(3, 60_000.0, START)
    with served(busy) as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        assert len(http.get(url, params=DAY).json()["operations"]) == 50
        assert len(http.get(url, params=DAY | {"pageSize": "1000"}).json()["operations"]) == 1000
        for bad in ("0", "1001", "-1", "x", "", "1.5", "9" * 5000, "٣"):
            assert refusal(http.get(url, params=DAY | {"pageSize": bad})) == (400, 20001)


@pytest.mark.parametrize(
    "changed",
    [
        {"startDate": "2026-11-20T01:00:00Z"},
        {"endDate": "2026-11-20T11:00:00Z"},
        {"status": "COMPLETED"},
        {"pageToken": "rubbish"},
        {"pageToken": "AAAA"},
        {"pageToken": ""},
    ],
)
def test_token_is_tied_to_its_filters(changed: dict[str, str]):
    with served() as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        token = http.get(url, params=DAY).json()["pagination"]["next"]
        assert http.get(url, params=DAY | {"pageToken": token}).status_code == 200
        answer = http.get(url, params=DAY | {"pageToken": token} | changed)
    assert refusal(answer) == (400, 21481)


def test_page_token_goes_on_where_it_was_although_time_went_on():
    with served(order="oldest") as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        first = http.get(url, params={"pageSize": "10"} | DAY).json()
        emulator.clock.step(timedelta(hours=1))
        token = first["pagination"]["next"]
        second = http.get(url, params={"pageSize": "10", "pageToken": token} | DAY).json()
        ids = [record["id"] for page in (first, second) for record in page["operations"]]
        assert ids == sorted(set(ids))
        assert len(ids) == 20


@pytest.mark.parametrize(
    "bad", [{"startDate": "yesterday"}, {"endDate": "2026-11-20T10:00:00"}, {"status": "DONE"}]
)
def test_malformed_filter_is_refused(bad: dict[str, str]):
    with served() as (http, emulator):
        assert refusal(http.get(f"{emulator.url}/Emails/Operations", params=bad)) == (400, 20001)


@pytest.mark.parametrize(
    "form", ["2026-11-20", "2026-11-20T02:00:00+02:00", "2026-11-20T00:00:00Z"]
)
def test_bare_dates_and_offsets_are_accepted(form: str):
    with served() as (http, emulator):
        found = listing(http, emulator, **(DAY | {"startDate": form}), pageSize="1000")
        assert found == listing(http, emulator, **DAY, pageSize="1000")


def test_one_operation_by_id():
    (record,) = WORLD.records([30_000], NOW)
    with served() as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        assert http.get(f"{url}/{record['id']}").json() == record
        for unknown in ("x", "comms_operation_" + "0" * 26):
            assert refusal(http.get(f"{url}/{unknown}")) == (404, 20404)


def test_errors_of_an_operation_are_as_many_as_its_failed_emails():
    """The reference names the address alone: this emulator answers in the form of a listing."""
    every = WORLD.records(WORLD.numbers(at("2026-11-18"), at("2026-11-19")), NOW)
    most = max(every, key=lambda one: one["stats"]["failed"])
    none = next(one for one in every if not one["stats"]["failed"])
    assert most["stats"]["failed"] > 3
    with served(page_limit=3) as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        found: list[dict[str, Any]] = []
        query: dict[str, str] = {}
        while query.get("pageToken", "") is not None:
            page = http.get(f"{url}/{most['id']}/Errors", params=query).json()
            assert len(page["errors"]) <= 3
            found += page["errors"]
            query = {"pageToken": page["pagination"]["next"]}
        assert http.get(f"{url}/{none['id']}/Errors").json()["errors"] == []
        assert refusal(http.get(f"{url}/x/Errors")) == (404, 20404)
        assert refusal(http.get(f"{url}/{most['id']}/Errors?pageToken=zz")) == (400, 21481)
    assert len(found) == most["stats"]["failed"]
    assert {tuple(one) for one in found} == {("code", "message")}


def test_unsettled_operation_may_be_fetched_beyond_the_retention():
    early = WORLD.existing(at("2026-11-02"))
    later = at("2026-11-09 12:00")
    late = [one for one in WORLD.records(early, later) if one["status"] == "SCHEDULED"]
    assert late
    for tells, expected in ((True, 200), (False, 404)):
        with served(now=later, returns_unsettled=tells) as (http, emulator):
            answer = http.get(f"{emulator.url}/Emails/Operations/{late[0]['id']}")
            assert answer.status_code == expected
            emulator.clock.set(at("2026-11-25"))
            gone = http.get(f"{emulator.url}/Emails/Operations/{late[0]['id']}")
            assert gone.status_code == 404


def test_expired_operation_is_not_found_and_leaves_the_lists():
    """As documented: requests for older records may yield incomplete results, with a 200."""
    day = WORLD.numbers(at("2026-11-10"), at("2026-11-11"))
    (record,) = WORLD.records([day.start], NOW)
    query = {"startDate": "2026-11-09T23:59:59Z", "endDate": "2026-11-11T00:00:00Z"}
    found = []
    with served(bounds="exclusive") as (http, emulator):
        for moment in ("2026-11-16 23:59", "2026-11-18 12:00", "2026-11-19 12:00", "2026-11-22"):
            emulator.clock.set(at(moment))
            found.append(len(flat(listing(http, emulator, **query, pageSize="1000"))))
        gone = http.get(f"{emulator.url}/Emails/Operations/{record['id']}")
        emulator.clock.set(
            datetime.fromisoformat(record["createdAt"]) + timedelta(days=6, hours=23)
        )
        known = http.get(f"{emulator.url}/Emails/Operations/{record['id']}")
    assert found[0] == len(day)
    assert found == sorted(found, reverse=True)
    assert 0 < found[1] < len(day)
    assert found[3] == 0
    assert refusal(gone) == (404, 20404)
    assert known.json()["id"] == record["id"]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Basic !!!",
        "Basic " + base64.b64encode(b"AC:x").decode(),
        "Bearer " + base64.b64encode(f"{DEMO_ACCOUNT_SID}:{DEMO_AUTH_TOKEN}".encode()).decode(),
    ],
)
def test_wrong_credentials_are_refused(header: str | None):
    with served() as (_, emulator):
        headers = {} if header is None else {"Authorization": header}
        answer = httpx2.get(f"{emulator.url}/Emails/Operations", headers=headers)
        assert refusal(answer) == (401, 20003)
        assert answer.headers["Date"] == "Fri, 20 Nov 2026 15:00:00 GMT"


def test_api_key_is_accepted_too():
    key, secret = "SK" + "ab" * 16, "hush"
    with served(api_key_sid=key, api_key_secret=secret) as (_, emulator):
        for auth in ((key, secret), (DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN)):
            assert httpx2.get(f"{emulator.url}/Emails/Operations", auth=auth).status_code == 200
        wrong = httpx2.get(f"{emulator.url}/Emails/Operations", auth=(key, DEMO_AUTH_TOKEN))
        assert wrong.status_code == 401


def test_other_paths_and_methods_are_refused_in_the_envelope():
    with served() as (http, emulator):
        assert refusal(http.get(f"{emulator.url}/Nothing")) == (404, 20404)
        assert refusal(http.post(f"{emulator.url}/Emails/Operations")) == (405, 20405)


def test_responses_are_compressed_if_requested():
    with served() as (http, emulator):
        url = f"{emulator.url}/Emails/Operations"
        with http.stream("GET", url, params=DAY, headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join(answer.iter_raw())
            assert answer.headers["Content-Encoding"] == "gzip"
        plain = http.get(url, params=DAY, headers={"Accept-Encoding": "identity"})
        assert "Content-Encoding" not in plain.headers
    assert json.loads(gzip.decompress(raw)) == plain.json()


def test_records_can_come_under_data_and_with_unknown_fields():
    world = World(3, 2000.0, START, unknown_fields=True, omit_recipients_and_attempts=True)
    with served(world, records_key="data") as (http, emulator):
        record = http.get(f"{emulator.url}/Emails/Operations", params=DAY).json()["data"][0]
    assert record["region"] == "us1"
    assert "read" in record["stats"]
    assert {"recipients", "attempts"}.isdisjoint(record["stats"])


def test_requests_are_kept_without_credentials():
    with served() as (http, emulator):
        http.get(f"{emulator.url}/Emails/Operations", params=DAY)
    (request,) = emulator.requests
    assert (request.method, request.path, request.status) == ("GET", "/v1/Emails/Operations", 200)
    assert request.query == DAY
    assert DEMO_AUTH_TOKEN not in repr(emulator)


# The clock.


def test_clock_can_be_read_set_stepped_and_run():
    with served() as (http, emulator):
        control = emulator.url.removesuffix("/v1") + "/emulator/clock"
        assert http.get(control).json() == {"now": "2026-11-20T15:00:00Z", "rate": 0.0}
        moved = http.post(control, json={"now": "2026-11-21T00:00:00Z"}).json()
        assert moved["now"] == "2026-11-21T00:00:00Z"
        assert (
            http.post(control, json={"step_seconds": -60}).json()["now"] == "2026-11-20T23:59:00Z"
        )
        answer = http.get(f"{emulator.url}/Emails/Operations")
        assert answer.headers["Date"] == "Fri, 20 Nov 2026 23:59:00 GMT"
        assert http.post(control, json={"rate": 3600}).json()["rate"] == 3600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"now": "soon"}',
        b'{"rate": -1}',
        b'{"step_seconds": "1"}',
        b'{"step_seconds": 1e300}',
        b'{"step_seconds": 2.3e11}',
        b'{"rate": 1e400}',
        b'{"now": "0001-01-01T00:00:00Z"}',
        b'{"now": "9999-12-31T23:59:59Z"}',
        b"[" * 100_000,
        b'{"x": 1}',
    ],
)
def test_malformed_control_is_refused_and_changes_nothing(content: bytes):
    with served() as (http, emulator):
        control = emulator.url.removesuffix("/v1") + "/emulator/clock"
        assert http.post(control, content=content).status_code == 400
        assert emulator.clock.now() == NOW
        assert http.get(f"{emulator.url}/Emails/Operations").status_code == 200


def test_running_clock_goes_on_from_what_it_shows():
    clock = Clock(NOW, rate=1e9)
    first = clock.now()
    assert first >= NOW
    clock.run(0)
    stopped = clock.now()
    assert stopped >= first
    assert clock.now() == stopped


def test_public_address_needs_confirmation():
    command = [sys.executable, "-m", "pipeline.cli", "emulate", "--port", "0", "--host", "0.0.0.0"]  # noqa: S104 - what is refused
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr


def test_emulate_says_how_to_reach_it():
    command = [sys.executable, "-m", "pipeline.cli", "emulate", "--port", "0", "--rate", "0"]
    command += ["--now", "2026-11-20T15:00:00", "--per-day", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline().strip() for _ in range(4)]
        said = dict(line.removeprefix("export ").split("=", 1) for line in lines[1:])
        auth = (said["TWILIO_ACCOUNT_SID"], said["TWILIO_AUTH_TOKEN"])
        url = f"{said['EMAIL_ARCHIVE_API_URL']}/Emails/Operations"
        answer = httpx2.get(url, auth=auth, params={"startDate": rfc3339(at("2026-11-19"))})
        process.terminate()
    assert answer.headers["Date"] == "Fri, 20 Nov 2026 15:00:00 GMT"
    assert answer.json()["operations"]
