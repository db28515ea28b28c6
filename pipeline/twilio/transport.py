"""HTTP requests to one server: kept-alive connections, proxies, and bounds on time and size of a response.

It uses urllib3 directly. Every request has credentials, so it must not follow redirects, and must not use
cookies, `.netrc` or proxies from the environment, as clients on top of urllib3 do.
"""

import base64
import io
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, unquote, urlsplit

import truststore
import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline.twilio.connection_errors import explain
from pipeline.twilio.errors import (
    ApiError,
    DamagedResponseError,
    FatalApiError,
    ResponseTimeoutError,
    ResponseTooLargeError,
    RetriableApiError,
)

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS + 32
_CHUNK: Final = 256 * 1024
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response.

    Attributes:
        status: its status code.
        headers: by lower-case name; of a repeated header the last.
        body: decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a request.

    Attributes:
        connect_seconds: for connecting, and for TLS.
        read_seconds: between two pieces of a response.
        response_seconds: for a complete response, headers and body.
        response_bytes: of a body, before and after decompression.
    """

    connect_seconds: float
    read_seconds: float
    response_seconds: float
    response_bytes: int


class Transport:
    """Sends requests to one server. It is thread-safe: each thread uses a connection of the pool.

    Certificates are verified with the machine's trusted authorities. Redirects are not followed.

    Args:
        url: the server's address; its path is not used.
        headers: sent with every request.
        limits: what a request may take.
        connections: the most connections that are kept alive.
        proxy: an http, https or socks5 URL; None to use no proxy.

    Raises:
        FatalApiError: the proxy is of another kind.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        limits: Limits,
        *,
        connections: int = 1,
        proxy: str | None = None,
    ) -> None:
        self._headers, self._limits = dict(headers), limits
        options: dict[str, Any] = {
            "maxsize": connections,
            "timeout": urllib3.Timeout(connect=limits.connect_seconds, read=limits.read_seconds),
            "ssl_context": truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        }
        manager = urllib3.PoolManager(**options) if proxy is None else _proxied(proxy, options)
        pool = manager.connection_from_url(url)
        bounded = {"seconds": limits.response_seconds}
        pool.ConnectionCls = type("BoundedConnection", (_Bounded, pool.ConnectionCls), bounded)
        self._pool = pool

    def close(self) -> None:
        """Close idle connections; those in use are closed after their response."""
        self._pool.close()

    def get(self, target: str) -> Response:
        """Request a path with its query, and read the whole response.

        Raises:
            RetriableApiError: no connection, or no complete response.
            ResponseTooLargeError: a body larger than the limit.
        """
        status = None
        try:
            response = self._pool.urlopen(
                "GET",
                target,
                headers=self._headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            status = response.status
            try:
                return Response(
                    status,
                    {name.lower(): value for name, value in response.headers.items()},
                    self._body(response),
                )
            except BaseException:
                response.close()
                raise
        except ReadTimeoutError:
            msg = (
                f"no complete response within {self._limits.response_seconds:g} s, or nothing of it for "
                f"{self._limits.read_seconds:g} s: EMAIL_ARCHIVE_RESPONSE_TIMEOUT, EMAIL_ARCHIVE_READ_TIMEOUT"
            )
            raise ResponseTimeoutError(msg) from None
        except HTTPError as error:
            server = f"{self._pool.host}:{self._pool.port}"
            raise _cut_off(explain(error, server), status) from None

    def _body(self, response: urllib3.BaseHTTPResponse) -> bytes:
        if response.status < _OK:
            # http.client would return the real response to the next request.
            msg = f"expected a response; got an interim one, {response.status}, that was not requested"
            raise RetriableApiError(msg)
        limit = self._limits.response_bytes
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        is_plain = encoding in ("identity", "")
        if not is_plain and encoding not in ("gzip", "x-gzip", "deflate"):
            msg = f"expected gzip or no compression; got Content-Encoding {encoding[:40]!r}"
            raise DamagedResponseError(msg, status=response.status)
        decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        parts: list[bytes] = []
        received = size = 0
        while chunk := response.read(_CHUNK, decode_content=False):
            received += len(chunk)
            try:
                # One byte beyond the limit is enough to know that it is passed.
                parts.append(
                    chunk if is_plain else decompressor.decompress(chunk, limit + 1 - size)
                )
            except zlib.error as error:
                msg = f"the compressed response is damaged ({error})"
                raise DamagedResponseError(msg, status=response.status) from None
            size += len(parts[-1])
            if max(received, size) > limit:
                msg = (
                    f"the response is larger than {limit} bytes: ask for smaller pages with "
                    "EMAIL_ARCHIVE_PAGE_SIZE, or raise EMAIL_ARCHIVE_MAX_RESPONSE_BYTES"
                )
                raise ResponseTooLargeError(msg, status=response.status)
        if received and not is_plain and (decompressor.unused_data or not decompressor.eof):
            fault = "goes on after its end" if decompressor.eof else "is cut off"
            msg = f"the compressed response {fault}"
            raise DamagedResponseError(msg, status=response.status)
        return b"".join(parts)


def _cut_off(message: str, status: int | None) -> ApiError:
    """The error for a response that ended too early: before its headers, or within its body."""
    if status is None:
        return RetriableApiError(message)
    return DamagedResponseError(message, status=status)


def _proxied(url: str, options: dict[str, Any]) -> urllib3.PoolManager:
    address = _proxy_address(url if "://" in url else f"http://{url}")
    user = None if address.username is None else unquote(address.username)
    password = unquote(address.password or "")
    host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
    plain = f"{address.scheme}://{host}:{address.port or _PORTS[address.scheme]}"
    if address.scheme.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 - rarely needed

        return SOCKSProxyManager(plain, username=user, password=password, **options)
    headers = {}
    if user is not None:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {credentials}"
    return urllib3.ProxyManager(
        plain, proxy_headers=headers, proxy_ssl_context=options["ssl_context"], **options
    )


def _proxy_address(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        is_known = address.scheme in _PORTS and bool(address.hostname) and address.port != 0
        kind = f"{address.scheme}://" if address.hostname else "one without a host"
    except ValueError:  # its message may show a part of a password
        is_known, kind = False, "one whose port is no number from 1 to 65535"
    if not is_known:
        msg = (
            "expected a proxy like http://user:password@host:port, or with https:// or socks5://, in "
            f"HTTPS_PROXY or ALL_PROXY, with / and # in a password as %2F and %23; got {kind}. Set "
            "HTTPS_PROXY to one, or NO_PROXY to the API's host"
        )
        raise FatalApiError(msg)
    return address


class _Bounded:
    """Makes a connection's responses end by a deadline.

    Attributes:
        seconds: from the request to the end of the response's body.
    """

    seconds: ClassVar[float]
    sock: Any

    def response_class(self, sock: Any, *args: Any, **kwargs: Any) -> HTTPResponse:
        """Called by http.client for each response."""
        response = HTTPResponse(sock, *args, **kwargs)
        reader = _DeadlineReader(response.fp.detach(), sock, self.seconds)
        response.fp = io.BufferedReader(reader)
        return response

    @property
    def is_connected(self) -> bool:
        """Whether the connection can be used again: no data has arrived that was not requested.

        urllib3 checks the socket only, and not data that TLS has already decrypted.
        """
        sock = getattr(self.sock, "sslobj", self.sock)
        has_more = hasattr(sock, "pending") and sock.pending()
        return not has_more and bool(super().is_connected)  # type: ignore[misc]  # a mixin of urllib3's classes


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: Any, sock: Any, seconds: float) -> None:
        self._raw, self._sock = raw, sock
        self._pause = sock.gettimeout()
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(self._pause, left))
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()
