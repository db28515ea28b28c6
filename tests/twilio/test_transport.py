"""Kept connections, deadlines, proxies, and the certificates that are trusted."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import FatalApiError, ResponseTimeoutError, RetriableApiError
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


Sent = bytes | Callable[[BaseHTTPRequestHandler], None]


class Raw:
    """A server that is told what to send for each request, and whether it closes then."""

    def __init__(self, *answers: tuple[Sent, bool]) -> None:
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
            if callable(content):
                content(self)
            else:
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


def test_connection_closed_by_the_server_costs_no_try():
    script = Raw((whole(), True), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        client.clock()
        assert script.closed.wait(10)
        client.clock()
    assert len(set(script.ports)) == 2


def test_connection_close_is_obeyed():
    closing = answer(PAGE, f"Content-Length: {len(PAGE)}", "Connection: close")
    script = Raw((closing, False), (whole(), True))
    with raw_server(script) as url, client_of(url) as client:
        client.clock()
        client.clock()
    assert len(set(script.ports)) == 2


def test_interim_response_never_passes_for_the_next():
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
def test_incomplete_response_may_be_retried(content: bytes):
    """R9: never an empty page."""
    script = Raw((content, True))
    with (
        raw_server(script) as url,
        client_of(url) as client,
        pytest.raises(RetriableApiError, match="no complete response"),
    ):
        client.clock()


def dripping(before: bytes, dripped: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """What sends some bytes at once and the others one by one."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(before)
        with suppress(OSError):
            for place in range(len(dripped)):
                handler.wfile.write(dripped[place : place + 1])
                threading.Event().wait(0.02)

    return send


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("before", "dripped"),
    [
        (b"", HEAD * 9),
        (HEAD, b"A: a\r\n" * 100),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b" " * 1000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 100),
        (HEAD + b"\r\n", b" " * 1000),
    ],
    ids=["status", "headers", "body", "chunks", "body without length"],
)
def test_dripping_response_ends_at_its_deadline(before: bytes, dripped: bytes):
    """A byte now and then keeps the read timeout from ending it."""
    with (
        raw_server(Raw((dripping(before, dripped), True))) as url,
        client_of(url, response_timeout=0.2, read_timeout=30.0) as client,
        pytest.raises(ResponseTimeoutError, match="EMAIL_ARCHIVE_RESPONSE_TIMEOUT"),
    ):
        client.clock()


def test_deadline_is_of_each_response_and_not_of_a_connection():
    slow = dripping(whole()[:-5], whole()[-5:])
    script = Raw(*[(slow, False)] * 4)
    with raw_server(script) as url, client_of(url, response_timeout=0.3) as client:
        for _ in range(4):
            assert client.clock() == NOW
    assert len(set(script.ports)) == 1


class _TwoResponses(BaseHTTPRequestHandler):
    """Sends a response that nobody asked for after the first, in one TLS record with it."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        # The first is as long as what http.client reads at once: the second stays in the TLS layer.
        first = whole(PAGE.ljust(8192 - len(whole(b"".ljust(1000))) + 1000))
        assert len(first) == 8192
        self.wfile.write(first + whole(LATE) if self.asked == 1 else whole())

    def log_message(self, *_: object) -> None:
        pass


LATE = json.dumps({"operations": [], "pagination": {"next": "late"}}).encode()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unsolicited_response_never_passes_for_the_next(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """R4: what it says is of another window."""
    with ExitStack() as stack:
        if scheme == "http":
            script = Raw((whole() + whole(LATE), False), (whole(), True), (whole(), True))
            url = stack.enter_context(raw_server(script))
        else:
            handler = type("Handler", (_TwoResponses,), {})
            url, certificate = stack.enter_context(https_server(tmp_path, handler))
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client = stack.enter_context(client_of(url))
        client.clock()
        (page,) = client.pages(WINDOW)
    assert page.next_token is None


def test_authority_trusted_by_the_machine_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with https_server(tmp_path) as (url, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with client_of(url) as client:
            assert client.clock() == NOW
        monkeypatch.delenv("SSL_CERT_FILE")
        with (
            client_of(url) as client,
            pytest.raises(RetriableApiError, match="its certificate is not trusted"),
        ):
            client.clock()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_environments_proxy(
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


def test_refusing_proxy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with https_server(tmp_path) as (url, _), proxy(refusal) as through:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hidden@{through.place}")
        with client_of(url) as client, pytest.raises(RetriableApiError) as caught:
            client.clock()
    assert "407 Proxy Authentication Required" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("kind", ["http", "https", "socks5", "socks5h"])
def test_proxy_of_every_kind_leads_to_the_api(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """R11: TLS to the API inside the tunnel is verified too."""
    tls = tmp_path if kind == "https" else None
    with (
        https_server(tmp_path) as (url, certificate),
        proxy(speaks_socks=kind.startswith("socks"), tls=tls) as through,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        named = f"{kind}://some%40one:pass%3Aword@{through.place}"
        with client_of(url, https_proxy=named) as client:
            assert client.clock() == NOW
            assert client.clock() == NOW
        [asked] = through.asked
        monkeypatch.delenv("SSL_CERT_FILE")
        with client_of(url, https_proxy=named) as client, pytest.raises(RetriableApiError):
            client.clock()
    if kind.startswith("socks"):
        assert asked[1:] == ["some@one", "pass:word"]
        assert asked[0].startswith("localhost:" if kind == "socks5h" else "127.0.0.1:")


def test_proxy_is_a_setting_of_the_env_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with proxy(b"HTTP/1.1 403 No\r\n\r\n") as through:
        (tmp_path / ".env").write_text(f"ALL_PROXY=http://{through.place}\nNO_PROXY=other.example")
        with client_of("https://comms.twilio.com/v1") as client, pytest.raises(RetriableApiError):
            client.clock()
    assert len(through.asked) == 1


@pytest.mark.parametrize(
    "no_proxy", ["*", "twilio.com", ".twilio.com", "a.example, COMMS.twilio.com:443"]
)
def test_no_proxy_names_hosts_and_domains(no_proxy: str):
    fields = {"account_sid": ACCOUNT, "auth_token": TOKEN, "https_proxy": "http://p.example:1"}
    for named, is_direct in ((no_proxy, True), ("lio.com,other.example", False)):
        settings = Settings.model_validate(
            fields | {"no_proxy": named, "api_url": "https://comms.twilio.com:443/v1"}
        )
        assert (settings.proxy() is None) is is_direct


@pytest.mark.parametrize("kind", ["socks4://127.0.0.1:1", "ftp://127.0.0.1:1", "http://"])
def test_unsupported_proxy_is_refused_before_the_request(kind: str):
    with pytest.raises(FatalApiError, match="HTTPS_PROXY"):
        client_of("https://comms.twilio.com/v1", https_proxy=kind)


@pytest.mark.parametrize(
    "named", ["http://user:pa/ss@host:3128", "user:pa#ss@host:1", "host:99999"]
)
def test_malformed_proxy_is_refused_without_showing_it(named: str, monkeypatch: pytest.MonkeyPatch):
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


def test_failed_connections_are_told_in_plain_words(tmp_path: Path):
    with https_server(tmp_path) as (url, _), raw_server(Raw((b"no TLS", True))) as plain:
        faults = {
            "https://nowhere.invalid/v1": "can't connect to nowhere.invalid: ",
            url: f"can't connect to {urlsplit(url).netloc}: its certificate is not trusted: ",
            plain.replace(
                "http:", "https:"
            ): f"can't connect to {urlsplit(plain).netloc}: TLS failed: ",
        }
        for address, message in faults.items():
            with client_of(address) as client, pytest.raises(RetriableApiError) as caught:
                client.clock()
            assert message in str(caught.value)
            assert "Error" not in str(caught.value)
