"""A server that speaks TLS with a certificate of its own making, and a proxy that leads to it."""

import json
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer

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


def certificate_and_key(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this machine."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    if not certificate.exists():
        subprocess.run(
            ["/usr/bin/env", "openssl", "req", *made, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    return certificate, key


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_and_key(folder))
    return context


@contextmanager
def https_server(
    folder: Path, handler: type[BaseHTTPRequestHandler] = _EmptyPages
) -> Iterator[tuple[str, Path]]:
    """Serve empty pages; yield the base URL and the self-signed certificate."""
    certificate, _ = certificate_and_key(folder)
    server = HTTPServer(("127.0.0.1", 0), handler)
    server.socket = _context(folder).wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refusals are expected
    with _served(server):
        yield f"https://localhost:{server.server_port}/v1", certificate


@contextmanager
def _served(server: TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Tunnel(StreamRequestHandler):
    server: "Proxy"

    def handle(self) -> None:
        onward = self._socks() if self.server.speaks_socks else self._connect()
        if onward is not None:
            with onward:
                _relay(self.connection, onward)

    def _connect(self) -> socket.socket | None:
        head = [self.rfile.readline().decode().strip()]
        while line := self.rfile.readline().decode().strip():
            head.append(line)
        self.server.asked.append(head)
        if self.server.refusal:
            self.wfile.write(self.server.refusal)
            return None
        host, port = head[0].split()[1].rsplit(":", 1)
        onward = socket.create_connection((host, int(port)))
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return onward

    def _socks(self) -> socket.socket:
        """RFC 1928 with a user and password (RFC 1929), and the host by name."""
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.wfile.write(b"\x05\x02")
        _, length = self.rfile.read(2)
        user = self.rfile.read(length)
        password = self.rfile.read(self.rfile.read(1)[0])
        self.wfile.write(b"\x01\x00")
        *_, kind = self.rfile.read(4)
        host = self.rfile.read(self.rfile.read(1)[0] if kind == 3 else 4)
        name = host.decode() if kind == 3 else socket.inet_ntoa(host)
        port = int.from_bytes(self.rfile.read(2), "big")
        self.server.asked.append([f"{name}:{port}", user.decode(), password.decode()])
        onward = socket.create_connection((name, port))
        self.wfile.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return onward


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Both ways until one of them ends, on one thread: TLS bears no two."""
    ends = {one: other, other: one}
    with suppress(OSError):
        while True:
            ready = select.select(list(ends), [], [])[0]
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                ends[source].sendall(data)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    ends[source].sendall(source.recv(65536))


class Proxy(ThreadingTCPServer):
    """A proxy for CONNECT or SOCKS5: the requests that it received, the status that it refuses with."""

    daemon_threads = True

    def __init__(self, refusal: bytes = b"", *, speaks_socks: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[list[str]] = []
        self.refusal = refusal
        self.speaks_socks = speaks_socks

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxy(
    refusal: bytes = b"", *, speaks_socks: bool = False, tls: Path | None = None
) -> Iterator[Proxy]:
    """Run a proxy; an HTTPS proxy uses the certificate in the folder `tls`."""
    server = Proxy(refusal, speaks_socks=speaks_socks)
    if tls is not None:
        server.socket = _context(tls).wrap_socket(server.socket, server_side=True)
    with _served(server):
        yield server
