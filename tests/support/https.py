"""A server that speaks TLS with a certificate of its own making, and a proxy that leads to it."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.support.scripted_api import DATE


class _EmptyPages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"operations": [], "pagination": {"next": None}}).encode()
        self.send_response_only(200)
        self.send_header("Date", DATE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def https_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve empty pages: the base URL, and the certificate, which nobody vouches for."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run(
        ["/usr/bin/env", "openssl", "req", *made, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), _EmptyPages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refusals are expected
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/v1", certificate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Tunnel(StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Proxy)
        head = [self.rfile.readline().decode().strip()]
        while line := self.rfile.readline().decode().strip():
            head.append(line)
        self.server.asked.append(head)
        if self.server.refusal:
            self.wfile.write(self.server.refusal)
            return
        host, port = head[0].split()[1].rsplit(":", 1)
        with socket.create_connection((host, int(port))) as onward:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pipe, args=(onward, self.connection), daemon=True)
            back.start()
            _pipe(self.connection, onward)
            back.join()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy(ThreadingTCPServer):
    """A proxy that knows CONNECT: what it was asked, line by line, and what it refuses with."""

    daemon_threads = True

    def __init__(self, refusal: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[list[str]] = []
        self.refusal = refusal

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxy(refusal: bytes = b"") -> Iterator[Proxy]:
    """Run a proxy."""
    with Proxy(refusal) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
