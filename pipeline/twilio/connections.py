"""Kept connections to one server: the standard library's HTTP client, with a pool and a proxy's tunnel.

It takes a third of the processor time that httpx2 or urllib3 take for a page, which would be the most of what
a request costs. What they add is not wanted here: the address is one, redirects are not followed, no
`.netrc` and no cookie is looked at, and tries are told by `retry`.
"""

import base64
import http.client
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import truststore

from pipeline.twilio.errors import FatalApiError

FAILURES: Final = (OSError, http.client.HTTPException)
"""What is raised where no whole answer comes: no route, no name, no trust, a broken line, no HTTP."""

_PORTS: Final = {"http": 80, "https": 443}


class Connections:
    """Connections to one server that are used again. Many threads may ask at once, on one each.

    Args:
        url: the server's address: https, or http on this machine. Only https goes through a proxy: the one
            that HTTPS_PROXY or ALL_PROXY names, or the system's settings, unless NO_PROXY excludes the host.
        headers: sent with every request.
        connect_timeout: seconds for connecting, TLS included.
        read_timeout: seconds for each piece of an answer.

    Raises:
        FatalApiError: the proxy is of a kind that is not spoken.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], *, connect_timeout: float, read_timeout: float
    ) -> None:
        self._address = urlsplit(url)
        self._headers = dict(headers)
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._tls = tls() if self._address.scheme == "https" else None
        self._proxy = _proxy_of(self._address)
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._is_closed = False

    def close(self) -> None:
        """Close what is not in use now; what is in use is closed after its answer."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def get(self, target: str) -> Iterator[http.client.HTTPResponse]:
        """Ask for a path with its query, and give the answer, whose body is still to be read.

        Raises:
            OSError: the connection can't be made, or breaks.
            http.client.HTTPException: what comes is no HTTP.
        """
        connection = self._taken() or self._made()
        try:
            connection.request("GET", target, headers=self._headers)
            response = connection.getresponse()
            if response.status < HTTPStatus.OK:
                # http.client takes it for the answer, and would take the answer for that of the next request.
                msg = f"expected an answer; got an interim one, {response.status}, that was not asked for"
                raise http.client.HTTPException(msg)
            yield response
            is_read = response.isclosed() and connection.sock is not None
        except BaseException:
            connection.close()
            raise
        with self._lock:
            is_kept = is_read and not self._is_closed
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            connection.close()

    def _taken(self) -> http.client.HTTPConnection | None:
        """One that was used before and that the server has not closed since."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _is_readable(connection):
                return connection
            connection.close()

    def _made(self) -> http.client.HTTPConnection:
        host, port = _place_of(self._address)
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=self._connect_timeout)
        elif self._proxy is None:
            connection = http.client.HTTPSConnection(
                host, port, timeout=self._connect_timeout, context=self._tls
            )
        else:
            connection = http.client.HTTPSConnection(
                *_place_of(self._proxy), timeout=self._connect_timeout, context=self._tls
            )
            connection.set_tunnel(host, port, headers=_authorization(self._proxy))
        try:
            connection.connect()
        except TimeoutError:
            connection.close()
            msg = f"no connection within {self._connect_timeout:g} s"
            raise ConnectionError(msg) from None
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(self._read_timeout)
        return connection


def tls() -> ssl.SSLContext:
    """Verifies the server's certificate and name by the authorities that this machine trusts."""
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _proxy_of(address: SplitResult) -> SplitResult | None:
    host = address.hostname or ""
    proxies = getproxies()
    named = proxies.get("https") or proxies.get("all")
    # Plain http is for this machine alone: it never leaves it.
    if address.scheme != "https" or not named or proxy_bypass(host):
        return None
    try:
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        is_known = proxy.scheme == "http" and bool(proxy.hostname) and proxy.port != 0
        kind = f"{proxy.scheme}://" if proxy.hostname else "one without a host"
    except ValueError:  # its message may show a part of a password
        is_known, kind = False, "one whose port is no number from 1 to 65535"
    if not is_known:
        msg = (
            "expected a proxy like http://user:password@host:port in HTTPS_PROXY or ALL_PROXY, with / and # "
            f"in a password as %2F and %23; got {kind}. Set HTTPS_PROXY to one, or NO_PROXY to {host}"
        )
        raise FatalApiError(msg)
    return proxy


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user, password = unquote(proxy.username), unquote(proxy.password or "")
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {encoded}"}


def _place_of(address: SplitResult) -> tuple[str, int]:
    return address.hostname or "", address.port or _PORTS[address.scheme]


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Whether something came that nobody asked for: mostly, that the server has closed it."""
    if isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():
        return True
    waiting = select.poll()
    waiting.register(connection.sock, select.POLLIN)
    return bool(waiting.poll(0))
