"""Requests to the API, its pages and dates, and credentials. Real HTTP against a script."""

import base64
import itertools
import json
import logging
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import Settings
from pipeline.twilio.errors import (
    FatalApiError,
    PageTokenError,
    RetriableApiError,
    UnexpectedResponseError,
)
from tests.support.client import EMPTY, TOKEN, WINDOW, api, envelope, error_of, listed
from tests.support.factories import ACCOUNT, at, body, operation_id, record
from tests.support.scripted_api import Answer, Received, scripted

KEY, SECRET = "SK" + "cd" * 16, "key-secret-7781"


# What is asked.


def test_listing_requests_full_utc_times_with_margin_and_full_pages():
    """R7: the margin makes it unimportant whether the API includes its bounds."""
    with api([EMPTY]) as (client, server):
        list(client.pages(WINDOW))
    (request,) = server.requests
    assert request.path == "/v1/Emails/Operations"
    assert request.query == {
        "startDate": "2026-11-20T11:59:59Z",
        "endDate": "2026-11-20T13:00:01Z",
        "pageSize": "1000",
    }


def test_every_documented_filter_can_be_sent():
    with api([EMPTY]) as (client, server):
        list(client.pages(WINDOW, status="CANCELED", page_size=7, page_token="a+b/c="))
    assert server.requests[0].query == {
        "startDate": "2026-11-20T11:59:59Z",
        "endDate": "2026-11-20T13:00:01Z",
        "pageSize": "7",
        "status": "CANCELED",
        "pageToken": "a+b/c=",
    }


def test_page_size_is_a_setting():
    with api([EMPTY], page_size=50) as (client, server):
        list(client.pages(WINDOW))
    assert server.requests[0].query["pageSize"] == "50"


@pytest.mark.parametrize(
    ("fields", "user", "password"),
    [
        ({}, ACCOUNT, TOKEN),
        ({"api_key_sid": KEY, "api_key_secret": SECRET}, KEY, SECRET),
    ],
)
def test_basic_auth_with_token_or_api_key(fields: dict[str, str], user: str, password: str):
    with api([EMPTY], **fields) as (client, server):
        list(client.pages(WINDOW))
    (request,) = server.requests
    expected = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {expected}"


def test_netrc_replaces_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with api([EMPTY]) as (client, server):
        list(client.pages(WINDOW))
    assert server.requests[0].headers["Authorization"].startswith("Basic QUMw")


def test_one_operation_is_fetched_by_id():
    with api([Answer(json.dumps(record(1)).encode())]) as (client, server):
        page = client.operation(operation_id(1))
    assert server.requests[0].path == f"/v1/Emails/Operations/{operation_id(1)}"
    assert server.requests[0].query == {}
    assert page.operations["operation_id"].to_pylist() == [operation_id(1)]


@pytest.mark.parametrize("odd", ["../../Accounts", "a/b", "a?b=c", "a b#c", "ü"])
def test_id_is_one_segment_of_the_path_whatever_is_in_it(odd: str):
    with api([Answer(json.dumps(record(1)).encode())]) as (client, server):
        client.operation(odd)
    assert server.requests[0].path.startswith("/v1/Emails/Operations/")
    assert server.requests[0].path.count("/") == 4
    assert server.requests[0].query == {}


@pytest.mark.parametrize("none", ["", ".", ".."])
def test_malformed_id_is_refused_before_the_request(none: str):
    with api([EMPTY]) as (client, server), pytest.raises(FatalApiError, match="operation id"):
        client.operation(none)
    assert server.requests == []


def test_clock_is_one_request_of_page_size_1():
    """R10"""
    with api([Answer(body([record(1)], "more"))]) as (client, server):
        assert client.clock() == at("2026-11-20 14:00")
    assert [request.query for request in server.requests] == [{"pageSize": "1"}]


def test_connection_is_used_again():
    pages = [Answer(body([record(n)], f"t{n}")) for n in range(5)]
    with api([*pages, EMPTY]) as (client, server):
        list(client.pages(WINDOW))
    assert len(server.requests) == 6
    assert len({request.client_port for request in server.requests}) == 1


def test_one_client_serves_many_threads():
    def answer(request: Received) -> Answer:
        number = int(request.path.rsplit("_", 1)[1][5:])
        return Answer(json.dumps(record(number)).encode())

    found: dict[int, list[str]] = {}
    with api(answer, concurrency=8) as (client, _):

        def ask(number: int) -> None:
            page = client.operation(operation_id(number))
            found[number] = page.operations["operation_id"].to_pylist()

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {n: [operation_id(n)] for n in range(40)}


def test_responses_are_parsed_one_at_a_time():
    """However many are under way: threads that read would only take the interpreter from each other."""
    both_asked, both_read = threading.Event(), threading.Barrier(2)
    asked = itertools.count(1)
    met: list[bool] = []

    def answer(_: Received) -> Answer:
        if next(asked) == 2:
            both_asked.set()
        return EMPTY

    def read(_: bytes) -> Any:
        both_asked.wait(20)
        try:
            both_read.wait(0.2)
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)

    with api(answer) as (client, _):
        ask = partial(client._request, "/Emails/Operations", read, {})
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert met == [False, False]


# Pages.


def test_pages_are_followed_until_next_is_null():
    script = [
        Answer(body([record(1), record(2)], "t1")),
        Answer(body([record(3)], "t2")),
        Answer(body([record(4)])),
    ]
    with api(script) as (client, server):
        pages = list(client.pages(WINDOW))
    ids = [one for page in pages for one in page.operations["operation_id"].to_pylist()]
    assert ids == [operation_id(n) for n in (1, 2, 3, 4)]
    assert [request.query.get("pageToken") for request in server.requests] == [None, "t1", "t2"]
    # The token belongs to its filters: they go with it, unchanged.
    assert (
        len({request.query["startDate"] + request.query["endDate"] for request in server.requests})
        == 1
    )


def test_empty_page_with_next_token_continues():
    pages = listed([Answer(body([], "t1")), Answer(body([], "t2")), Answer(body([record(1)]))])
    assert [page.records for page in pages] == [0, 0, 1]


def test_end_is_also_an_absent_next():
    pages = listed([Answer(b'{"operations": [], "pagination": {"self": "s"}}')])
    assert [page.next_token for page in pages] == [None]


def test_listing_can_begin_at_a_token():
    with api([EMPTY]) as (client, server):
        list(client.pages(WINDOW, page_token="t9"))
    assert [request.query["pageToken"] for request in server.requests] == ["t9"]


@pytest.mark.parametrize("tokens", [["t1", "t1"], ["t1", "t2", "t1"], ["t1", "t2", "t3", "t2"]])
def test_repeated_token_is_an_error_not_a_loop(tokens: list[str]):
    error = error_of([Answer(body([], token)) for token in tokens])
    assert isinstance(error, PageTokenError)
    assert "was repeated" in str(error)


@pytest.mark.parametrize("code", [21481, 20001])
def test_refused_token_is_an_error_of_its_own(code: int):
    script = [Answer(body([], "t1")), envelope(400, code, "Invalid page token")]
    assert isinstance(error_of(script), PageTokenError)


def test_page_carries_the_responses_date_and_request_id():
    """R10: the moment is the answer's Date."""
    (page,) = listed([Answer(body([]), headers={"Twilio-Request-Id": "RQ1"})])
    assert page.observed_at == datetime(2026, 11, 20, 14, tzinfo=UTC)
    assert (page.request_id, page.attempts) == ("RQ1", 1)


def test_cached_response_counts_as_of_its_date():
    """R4, R10: it can't cover what came after it was put into the cache."""
    (page,) = listed([Answer(body([]), headers={"Age": "90"})])
    assert page.observed_at == at("2026-11-20 14:00:00")
    assert page.clock == at("2026-11-20 14:01:30")
    with api([Answer(body([]), headers={"Age": "90"})]) as (client, server):
        assert client.clock() == at("2026-11-20 14:01:30")
        assert server.requests[0].headers["Cache-Control"] == "no-cache"


def test_outlying_date_is_requested_again():
    """R4, R10: stored, it would say for ever that what came before it is lost."""
    first, stray = Answer(body([])), Answer(body([]), date="Thu, 28 Nov 2030 14:00:00 GMT")
    with api([first, stray, first]) as (client, _):
        client.clock()
        (page,) = client.pages(WINDOW)
    assert (page.observed_at, page.attempts) == (at("2026-11-20 14:00:00"), 2)
    with api([first, stray]) as (client, _):
        client.clock()
        with pytest.raises(RetriableApiError, match="expected a Date near 2026-11-20T14:00:00Z"):
            list(client.pages(WINDOW))


@pytest.mark.parametrize("date", [None, "yesterday", ""])
def test_response_without_a_date_is_an_error(date: str | None):
    """R10: nothing is stored by the machine's clock, not even then."""
    error = error_of([Answer(body([]), date=date)])
    assert isinstance(error, UnexpectedResponseError)
    assert "expected a Date header" in str(error)


def test_wrong_clock_of_the_machine_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    """R10"""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    (page,) = listed([Answer(body([]))])
    assert page.observed_at == at("2026-11-20 14:00")


# Credentials.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_follow_no_redirect(status: int):
    """R11"""
    with scripted([EMPTY]) as other:
        answer = Answer(b"", status, {"Location": f"{other.url}/Emails/Operations"})
        error = error_of([answer])
        assert other.requests == []
    assert type(error) is FatalApiError
    assert "Redirected to 127.0.0.1: not followed" in str(error)


def test_no_log_of_any_library_shows_credentials(caplog: pytest.LogCaptureFixture):
    """R11: not at DEBUG, not by the HTTP library, not when everything fails."""
    with caplog.at_level(logging.DEBUG):
        listed([Answer(b"", 503), EMPTY])
        error_of([envelope(401, 20003, "no")])
        error_of([Answer(drop=True)])
    encoded = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    text = caplog.text + "".join(repr(vars(entry)) for entry in caplog.records)
    assert "GET /v1/Emails/Operations: 200" in text
    assert TOKEN not in text
    assert encoded not in text


def test_no_repr_shows_credentials():
    """R11"""
    with api([EMPTY], api_key_sid=KEY, api_key_secret=SECRET) as (client, _):
        assert SECRET not in repr(client)
        assert TOKEN not in repr(client)
        assert ACCOUNT in repr(client)


def test_no_setting_turns_tls_verification_off():
    """R11"""
    assert not any("verify" in name for name in Settings.model_fields)
