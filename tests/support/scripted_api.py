"""A small HTTP server that sends scripted responses, independent of the emulator.

Each response is bytes with a status and headers, so that a test can send whatever a server, a proxy or
a broken line may send. It keeps the requests as they came.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

DATE = "Fri, 20 Nov 2026 14:00:00 GMT"


@dataclass(frozen=True)
class Answer:
    """A response. Content-Length is correct unless in `headers`; `drop` only closes the connection."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    date: str | None = DATE
    drop: bool = False
    stalls: bool = False


@dataclass(frozen=True)
class Received:
    """One request as it came, credentials included."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    client_port: int


@dataclass(frozen=True)
class ScriptedApi:
    """A running server: its base URL, and the requests that it received."""

    url: str
    requests: list[Received]


@contextmanager
def scripted(
    answers: Sequence[Answer] | Callable[[Received], Answer],
) -> Iterator[ScriptedApi]:
    """Serve responses in order, then the last one again; or what a function returns for each request."""
    requests: list[Received] = []
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            received = Received(
                url.path, dict(parse_qsl(url.query)), dict(self.headers), self.client_address[1]
            )
            requests.append(received)
            place = min(len(requests), 0 if callable(answers) else len(answers)) - 1
            answer = answers(received) if callable(answers) else answers[place]
            if answer.drop:
                self.close_connection = True
                return
            self.send_response_only(answer.status)
            headers = {"Content-Length": str(len(answer.body)), "Content-Type": "application/json"}
            headers |= answer.headers
            if answer.date is not None:
                headers["Date"] = answer.date
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            if answer.stalls:
                self.wfile.flush()
                released.wait(30)
            if int(headers["Content-Length"]) != len(answer.body):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Tests have their own eyes."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is none of our business."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ScriptedApi(f"http://127.0.0.1:{server.server_port}/v1", requests)
    finally:
        released.set()
        server.shutdown()
        thread.join()
        server.server_close()
