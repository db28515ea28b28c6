"""Connections that are kept, proxies, and the certificates that are trusted."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import FatalApiError, RetriableApiError
from pipeline.windows import Window
from tests.support.factories import ACCOUNT
from tests.support.https import https_server, proxy
from tests.support.scripted_api import DATE

TOKEN = "a-token"
NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
WINDOW = Window.of_day(NOW.date())
PAGE = json.dumps({"operations": [], "pagination": {"next": None}}).encode()


def client_of(url: str, **fields: object) -> OperationsClient:
    made = {"account_sid": ACCOUNT, "auth_token": TOKEN, "api_url": url, "retry_attempts": 1}
    return OperationsClient(Settings.model_validate(made | fields), sleep=lambda _: None)


class Raw:
    """A server that is told what to send: bytes for each request, and whether it closes then."""

    def __init__(self, *answers: tuple[bytes, bool]) -> None:
        self.answers = list(answers)
        self.ports: list[int] = []
        self.closed = threading.Event()


@contextmanager
def raw_server(script: Raw) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content, closes = script.answers.pop(0)
            script.ports.append(self.client_address[1])
            self.wfile.write(content)
            self.close_connection = closes

        def finish(self) -> None:
            super().finish()
            self.connection.close()
            script.closed.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Date: {DATE}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def whole(body: bytes = PAGE) -> bytes:
    return answer(body, f"Content-Length: {len(body)}")


def test_connection_that_the_server_has_closed_since_costs_no_try():
    script = Raw((whole(), True), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        client.clock()
        assert script.closed.wait(10)
        client.clock()
    assert len(set(script.ports)) == 2


def test_server_that_says_so_is_left_after_its_answer():
    closing = answer(PAGE, f"Content-Length: {len(PAGE)}", "Connection: close")
    script = Raw((closing, False), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        client.clock()
        client.clock()
    assert len(set(script.ports)) == 2


def test_interim_answer_never_passes_for_the_next_one():
    """R4: the page of one window that came late must not be taken for that of another."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    other = json.dumps({"operations": [], "pagination": {"next": "late"}}).encode()
    script = Raw((hints, False), (hints + whole(other), False), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        for _ in range(2):
            with pytest.raises(RetriableApiError, match="interim one, 103"):
                client.clock()
        (page,) = client.pages(WINDOW)
    assert page.next_token is None
    assert len(set(script.ports)) == 3


def test_chunks_are_put_together_and_their_connection_is_used_again():
    halves = (PAGE[:10], PAGE[10:])
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves) + b"0\r\n\r\n"
    script = Raw((answer(chunks, "Transfer-Encoding: chunked"), False), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        client.clock()
        client.clock()
    assert len(set(script.ports)) == 1


@pytest.mark.parametrize(
    "content",
    [
        answer(PAGE[:-5], f"Content-Length: {len(PAGE)}"),
        answer(b"%x\r\n%b" % (len(PAGE), PAGE[:-5]), "Transfer-Encoding: chunked"),
        answer(b"none\r\n", "Transfer-Encoding: chunked"),
        b"",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 1000 + b"\r\n",
    ],
)
def test_answer_that_is_no_whole_http_is_told_as_one_that_may_be_repeated(content: bytes):
    """R9: never an empty page."""
    script = Raw((content, True))
    with (
        raw_server(script) as url,
        client_of(url) as client,
        pytest.raises(RetriableApiError, match="no whole answer from"),
    ):
        client.clock()


def test_authority_that_the_machine_trusts_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with https_server(tmp_path) as (url, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with client_of(url) as client:
            assert client.clock() == NOW
        monkeypatch.delenv("SSL_CERT_FILE")
        with (
            client_of(url) as client,
            pytest.raises(RetriableApiError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.clock()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_proxy_that_the_environment_names(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """R11: the proxy hears its own credentials, and not those of the API."""
    with https_server(tmp_path) as (url, certificate), proxy() as through:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv(variable, f"http://some%40one:pass%3Aword@{through.place}")
        with client_of(url) as client:
            assert client.clock() == NOW
            assert client.clock() == NOW
    [head] = through.asked
    assert head[0].startswith(f"CONNECT {url.split('/')[2]} ")
    credentials = base64.b64encode(b"some@one:pass:word").decode()
    assert f"Proxy-Authorization: Basic {credentials}" in head
    assert not any(line.lower().startswith("authorization") for line in head)


def test_no_proxy_and_plain_http_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with proxy() as through:
        for variable in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, through.place)
        with raw_server(Raw((whole(), True))) as url, client_of(url) as client:
            assert client.clock() == NOW
        with https_server(tmp_path) as (url, certificate):
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            monkeypatch.setenv("NO_PROXY", "localhost")
            with client_of(url) as client:
                assert client.clock() == NOW
    assert through.asked == []


def test_proxy_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with https_server(tmp_path) as (url, _), proxy(refusal) as through:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hidden@{through.place}")
        with client_of(url) as client, pytest.raises(RetriableApiError) as caught:
            client.clock()
    assert "407 Proxy Authentication Required" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("kind", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://"])
def test_proxy_of_another_kind_is_refused_before_asking(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", kind)
    with pytest.raises(FatalApiError, match="HTTPS_PROXY"):
        client_of("https://comms.twilio.com/v1")


@pytest.mark.parametrize(
    "named", ["http://user:pa/ss@host:3128", "user:pa#ss@host:1", "host:99999"]
)
def test_proxy_whose_address_can_not_be_read_is_refused_without_showing_it(
    named: str, monkeypatch: pytest.MonkeyPatch
):
    """R11: what follows the colon may be the beginning of a password."""
    monkeypatch.setenv("HTTPS_PROXY", named)
    with pytest.raises(FatalApiError, match="HTTPS_PROXY") as caught:
        client_of("https://comms.twilio.com/v1")
    assert "pa" not in str(caught.value).replace("password", "")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_closed_client_keeps_no_connection():
    script = Raw((whole(), False))
    with raw_server(script) as url:
        with client_of(url) as client:
            client.clock()
            assert not script.closed.is_set()
        assert script.closed.wait(10)
