"""The API over HTTP: what is asked, how answers and errors are taken. Real HTTP against a script."""

import base64
import gzip
import itertools
import json
import logging
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient, Page
from pipeline.twilio.errors import (
    ApiError,
    CredentialsError,
    DamagedResponseError,
    FatalApiError,
    NotFoundError,
    PageTokenError,
    ResponseTooLargeError,
    RetriableApiError,
    UnexpectedResponseError,
)
from tests.support.factories import ACCOUNT, NOON, at, body, operation_id, record
from tests.support.scripted_api import Answer, Received, ScriptedApi, scripted

TOKEN = "tok-3n-very-secret"
KEY, SECRET = "SK" + "cd" * 16, "key-secret-7781"
WINDOW = Window(NOON, NOON + timedelta(hours=1))
EMPTY = Answer(body([]))
Script = list[Answer] | Callable[[Received], Answer]


@contextmanager
def api(answers: Script, **fields: Any) -> Iterator[tuple[OperationsClient, ScriptedApi]]:
    """A client of a scripted server, that does not really wait."""
    fields = {"auth_token": TOKEN, "retry_attempts": 3} | fields
    with (
        scripted(answers) as server,
        OperationsClient(
            Settings(account_sid=ACCOUNT, api_url=server.url, **fields), sleep=lambda _: None
        ) as client,
    ):
        yield client, server


def listed(answers: Script, **fields: Any) -> list[Page]:
    with api(answers, **fields) as (client, _):
        return list(client.pages(WINDOW))


def error_of(answers: Script, **fields: Any) -> ApiError:
    """What listing raises; whatever it is, it shows no credentials (R11)."""
    with pytest.raises(ApiError) as caught:
        listed(answers, **fields)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert TOKEN not in shown
    return caught.value


def envelope(status: int, code: int, message: str, **more: Any) -> Answer:
    error = {"code": code, "message": message, "infoUrl": None, "context": None} | more
    return Answer(json.dumps({"errors": [error]}).encode(), status)


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


# Compression and size.


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_compressed_responses_are_read(encoding: str, compress: Callable[[bytes], bytes]):
    with api([Answer(compress(body([record(1)])), headers={"Content-Encoding": encoding})]) as (
        client,
        server,
    ):
        (page,) = client.pages(WINDOW)
    assert page.records == 1
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "rest",
    [b"<html>", b"\0" * 8, gzip.compress(b"[]"), b" " * 600_000],
    ids=["a page", "zeros", "another body", "blanks"],
)
def test_bytes_after_the_gzip_body_are_an_error(rest: bytes):
    """R9"""
    packed = gzip.compress(body([record(1)]))
    followed = Answer(packed + rest, headers={"Content-Encoding": "gzip"})
    assert isinstance(error_of([followed]), DamagedResponseError)


def test_unknown_compression_is_an_error():
    error = error_of([Answer(b"x", headers={"Content-Encoding": "br"})])
    assert isinstance(error, DamagedResponseError)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:20] + b"\0\0\0" + b[23:]])
def test_damaged_compression_is_tried_again(damage: Callable[[bytes], bytes]):
    packed = gzip.compress(body([record(n) for n in range(50)]))
    broken = Answer(damage(packed), headers={"Content-Encoding": "gzip"})
    whole = Answer(packed, headers={"Content-Encoding": "gzip"})
    (page,) = listed([broken, whole])
    assert (page.records, page.attempts) == (50, 2)
    assert isinstance(error_of([broken]), DamagedResponseError)


def test_page_of_50_mb_is_an_error_naming_the_settings():
    error = error_of([Answer(b" " * 50_000_000)])
    assert isinstance(error, ResponseTooLargeError)
    assert "EMAIL_ARCHIVE_PAGE_SIZE" in str(error)
    assert "EMAIL_ARCHIVE_MAX_RESPONSE_BYTES" in str(error)


def test_page_of_50_mb_is_read_when_the_setting_allows_it():
    padded = body([record(1, padding="x" * 50_000_000)])
    (page,) = listed([Answer(padded)], max_response_bytes=60_000_000)
    assert page.records == 1


def test_gzip_bomb_is_stopped_at_the_limit():
    bomb = Answer(gzip.compress(b"\0" * 200_000_000), headers={"Content-Encoding": "gzip"})
    with api([bomb], max_response_bytes=1_000_000) as (client, _):
        tracemalloc.start()
        with pytest.raises(ResponseTooLargeError):
            list(client.pages(WINDOW))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


# Errors, grouped by what can be done about them.


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_stop_at_once(status: int):
    with api([envelope(status, 20003, "Authenticate")]) as (client, server):
        with pytest.raises(CredentialsError, match="check TWILIO_ACCOUNT_SID") as caught:
            list(client.pages(WINDOW))
        assert len(server.requests) == 1
    assert (caught.value.status, caught.value.code) == (status, 20003)


def test_twilios_code_message_and_page_are_in_the_error():
    answer = envelope(
        400, 20001, "Bad pageSize", infoUrl="https://t.example/20001", context={"a": 1}
    )
    error = error_of([answer])
    assert type(error) is FatalApiError
    assert str(error) == (
        "GET /v1/Emails/Operations: 400 20001: Bad pageSize (see https://t.example/20001)"
    )
    assert (error.code, error.info_url) == (20001, "https://t.example/20001")


@pytest.mark.parametrize(
    "content",
    [
        b"<html><body>Bad\n Gateway</body></html>",
        b"",
        b"\xff\xfe\0",
        b"[]",
        b'{"errors": []}',
        b'{"errors": "x"}',
        b'{"errors": [3]}',
        b'{"code": 20001, "message": "old form"}',
        b'{"errors": [{"code": "x", "message": 7, "infoUrl": 8}]}',
        b"[" * 100_000,
    ],
)
def test_error_bodies_of_any_kind_are_tolerated(content: bytes):
    error = error_of([Answer(content, 400)])
    assert type(error) is FatalApiError
    assert "400" in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int):
    """The advice not to retry a 500 is for sending; a GET is safe to repeat."""
    (page,) = listed([Answer(b"<html>", status), Answer(b"", status), Answer(body([record(1)]))])
    assert (page.records, page.attempts) == (1, 3)


def test_lasting_error_says_how_often_it_was_tried():
    error = error_of([envelope(503, 20503, "Service Unavailable")])
    assert type(error) is RetriableApiError
    assert "tried 3 times" in str(error)
    assert (error.status, error.code) == (503, 20503)


@pytest.mark.parametrize(
    ("status", "header", "least", "most"),
    [
        (429, "7", 7, 7.7),
        (503, "7", 7, 7.7),
        (429, "Fri, 20 Nov 2026 14:00:20 GMT", 20, 22),
        (429, "0", 0.99, 1.5),
        (503, "0", 0.25, 0.5),
    ],
)
def test_retry_after_is_honoured(status: int, header: str, least: float, most: float):
    """A 429 that asks for no pause gets one of a second."""
    waits: list[float] = []
    script = [Answer(b"", status, {"Retry-After": header}), EMPTY]
    with scripted(script) as server:
        settings = Settings(account_sid=ACCOUNT, auth_token=TOKEN, api_url=server.url)
        with OperationsClient(settings, sleep=waits.append) as client:
            list(client.pages(WINDOW))
    assert least <= sum(waits) <= most


def test_unknown_operation_is_not_found():
    with api([envelope(404, 20404, "not found")]) as (client, server):
        with pytest.raises(NotFoundError) as caught:
            client.operation(operation_id(1))
        assert len(server.requests) == 1
    assert caught.value.code == 20404


def test_errors_of_an_operation_come_page_by_page():
    pages = [
        Answer(b'{"errors": [{"code": 1}], "pagination": {"next": "t"}}'),
        Answer(b'{"errors": [{"code": 2}], "pagination": {"next": null}}'),
    ]
    with api(pages) as (client, server):
        found = client.operation_errors(operation_id(1))
    assert [one.code for one in found.errors] == ["1", "2"]
    assert (found.attempts, found.observed_at) == (2, at("2026-11-20 14:00"))
    path = f"/v1/Emails/Operations/{operation_id(1)}/Errors"
    assert [(r.path, r.query) for r in server.requests] == [(path, {}), (path, {"pageToken": "t"})]


def test_endless_pages_of_errors_are_an_error():
    again = Answer(b'{"errors": [{"code": 1}], "pagination": {"next": "t"}}')
    with api([again]) as (client, server), pytest.raises(PageTokenError, match="was repeated"):
        client.operation_errors(operation_id(1))
    assert len(server.requests) == 2


def test_missing_errors_are_not_found_at_the_apis_time():
    """R10"""
    gone = Answer(b"{}", 404, {"Age": "60"}, date="Fri, 20 Nov 2026 14:00:00 GMT")
    with api([gone]) as (client, _), pytest.raises(NotFoundError) as caught:
        client.operation_errors(operation_id(1))
    assert caught.value.responded_at == at("2026-11-20 14:01")


def test_refusal_with_a_wrong_date_has_no_time():
    """R10: when something was asked is stored too."""
    gone = Answer(b"{}", 404, date="Thu, 25 Dec 2027 14:00:00 GMT")
    with api([Answer(body([])), gone]) as (client, _):
        client.clock()
        with pytest.raises(NotFoundError) as caught:
            client.operation(operation_id(1))
    assert caught.value.responded_at is None


@pytest.mark.parametrize("date", ["Mon, 01 Jan 1601 00:00:00 GMT", "Fri, 31 Dec 9999 00:00:00 GMT"])
def test_date_out_of_range_is_an_error(date: str):
    error = error_of([Answer(body([]), date=date, headers={"Age": "99999999"})])
    assert isinstance(error, UnexpectedResponseError)
    assert "expected a Date header" in str(error)


def test_missing_list_means_a_wrong_url():
    error = error_of([Answer(b"<html>nothing here", 404)])
    assert type(error) is FatalApiError
    assert "Is EMAIL_ARCHIVE_API_URL right?" in str(error)


def test_html_instead_of_json_is_retried_and_then_an_error():
    """R9: it may be a proxy's passing page; it is never an empty result."""
    error = error_of([Answer(b"<!doctype html><title>Log in</title>")])
    assert isinstance(error, DamagedResponseError)
    assert "doctype html" in str(error)
    assert "EMAIL_ARCHIVE_API_URL" in str(error)
    assert listed([Answer(b"<html>"), EMPTY])[0].attempts == 2


def test_response_without_operations_is_an_error_naming_it():
    """R9"""
    error = error_of([Answer(b'{"emails": [], "pagination": {}}')])
    assert isinstance(error, UnexpectedResponseError)
    assert "emails" in str(error)


def test_page_cut_off_in_the_middle_is_tried_again():
    """R9"""
    whole = body([record(n) for n in range(20)])
    honest = Answer(whole[: len(whole) // 2])
    lying = Answer(whole[: len(whole) // 2], headers={"Content-Length": str(len(whole))})
    assert listed([honest, lying, Answer(whole)])[0].attempts == 3
    assert isinstance(error_of([honest]), DamagedResponseError)
    assert isinstance(error_of([lying]), RetriableApiError)


def test_broken_connection_is_retried():
    assert listed([Answer(drop=True), EMPTY])[0].attempts == 2


def test_stalled_response_times_out_and_is_retried():
    stalling = Answer(b"{", headers={"Content-Length": "1000"}, stalls=True)
    assert listed([stalling, EMPTY], read_timeout=0.2)[0].attempts == 2


def test_missing_server_is_named_with_the_variable():
    with scripted([EMPTY]) as server:
        url = server.url
    settings = Settings(account_sid=ACCOUNT, auth_token=TOKEN, api_url=url, retry_attempts=2)
    with (
        OperationsClient(settings, sleep=lambda _: None) as client,
        pytest.raises(RetriableApiError) as caught,
    ):
        client.clock()
    assert url in str(caught.value)
    assert "EMAIL_ARCHIVE_API_URL" in str(caught.value)
    assert "tried 2 times" in str(caught.value)


def test_missing_page_is_an_error_after_good_pages():
    with api([Answer(body([record(1)], "t1")), envelope(500, 20500, "oops")]) as (client, _):
        pages = client.pages(WINDOW)
        assert next(pages).records == 1
        with pytest.raises(RetriableApiError):
            next(pages)


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
