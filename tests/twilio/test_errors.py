"""Errors of the API, grouped by what can be done about them. Real HTTP against a script."""

import re

import pytest

from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import (
    CredentialsError,
    DamagedResponseError,
    FatalApiError,
    NotFoundError,
    PageTokenError,
    RetriableApiError,
    UnexpectedResponseError,
)
from tests.support.client import EMPTY, TOKEN, WINDOW, api, envelope, error_of, listed
from tests.support.factories import ACCOUNT, at, body, operation_id, record
from tests.support.scripted_api import Answer, scripted


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_stop_at_once(status: int):
    with api([envelope(status, 20003, "Authenticate")]) as (client, server):
        with pytest.raises(
            CredentialsError, match=r"account's SID .* Check TWILIO_ACCOUNT_SID"
        ) as caught:
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
    assert re.search(
        r"Is EMAIL_ARCHIVE_API_URL right \(http://\S+/v1\)\? It ends in /v1", str(error)
    )


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
