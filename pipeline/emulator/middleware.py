"""ASGI middleware that injects the faults of requests."""

import asyncio
import gzip
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.emulator.faults import LISTINGS, PAGE_SIZES, RECORDS, REFUSALS, SCOPE, Injector

_HTML: Final = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
_HTML_TYPE: Final = {"content-type": "text/html"}


class FaultMiddleware:
    """ASGI middleware that injects faults into requests.

    The app finds a request's fault in its scope under `SCOPE`.

    Args:
        app: the API.
        injector: chooses the faults.
        clock: the API's time.
        under: the prefix of the paths that have faults.
    """

    def __init__(
        self, app: ASGIApp, injector: Injector, clock: Callable[[], datetime], under: str
    ) -> None:
        self._app, self._injector, self._clock, self._under = app, injector, clock, under

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["type"] != "http" or not scope["path"].startswith(self._under):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode()
        kind = self._injector.of_request(scope["path"], query)
        if kind in PAGE_SIZES and _page_size(query) <= self._injector.faults.large_page:
            kind = None
        scope = {**scope, SCOPE: kind}
        if kind is None or kind in LISTINGS or kind in RECORDS:
            await self._app(scope, receive, send)
            return
        self._injector.count(kind)
        if kind in REFUSALS or kind == "large-page-500":
            await self._refusal(kind)(scope, receive, send)
        elif kind == "large-page-hang":
            await _disconnected(receive)
        elif kind == "reset":
            await _break(send, receive, b"", resets=True)
        else:
            # The plain body is damaged: a cut in a compressed one may go unnoticed.
            plain = [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]
            original = await _collect(self._app, {**scope, "headers": plain}, receive)
            key = f"{scope['path']}?{query}"
            if kind in ("reset-midway", "length-short", "length-long"):
                await self._break(kind, original, send, receive)
            else:
                await self._changed(kind, original, key)(scope, receive, send)

    def _changed(self, kind: str, original: Response, key: str) -> Response:
        """A response with another body or Date."""
        faults, body, headers = self._injector.faults, bytes(original.body), original.headers
        match kind:
            case "html":
                return Response(_HTML, 200, {"date": headers["date"]} | _HTML_TYPE)
            case "truncated":
                body = body[: len(body) // 2]
            case "gzip":
                packed = gzip.compress(body)
                body = packed[:20] + bytes(255 - byte for byte in packed[20:])
                headers["content-encoding"] = "gzip"
            case "date-skew" | "wrong-date":
                error = faults.wrong_by if kind == "wrong-date" else self._injector.skew(key)
                headers["date"] = _http_date(parsedate_to_datetime(headers["date"]) + error)
            case "drip":
                headers["content-length"] = str(len(body))
                dripping = _drip(body, pieces=8, pause=faults.drip_seconds / 8)
                return StreamingResponse(dripping, original.status_code, headers)
        del headers["content-length"]
        return Response(body, original.status_code, headers)

    async def _break(self, kind: str, original: Response, send: Send, receive: Receive) -> None:
        """Write a response that breaks HTTP, and close the connection."""
        length = len(original.body)
        if kind == "reset-midway":
            cut = _raw(original, length)[: -(length // 2) - 1]
            await _break(send, receive, cut, resets=True)
        else:
            wrong = length // 2 if kind == "length-short" else length + 100
            await _break(send, receive, _raw(original, wrong), resets=False)

    def _refusal(self, kind: str) -> Response:
        status, now = REFUSALS.get(kind, 500), self._clock()
        headers = {"date": _http_date(now)}
        wait = self._injector.faults.retry_after
        match kind:
            case "429" | "503-retry-after":
                headers["retry-after"] = str(round(wait.total_seconds()))
            case "429-zero":
                headers["retry-after"] = "0"
            case "429-date":
                headers["retry-after"] = _http_date(now + wait)
            case "html-error":
                return Response(_HTML, status, headers | _HTML_TYPE)
        code = 20429 if status == HTTPStatus.TOO_MANY_REQUESTS else 20500
        error = {"code": code, "message": HTTPStatus(status).phrase, "infoUrl": None}
        return JSONResponse({"errors": [error]}, status, headers)


def _page_size(query: str) -> int:
    """The pageSize of a request; 0 if there is none or it is no number."""
    text = parse_qs(query).get("pageSize", [""])[0]
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """The whole response of an app."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    start, *rest = messages
    response = Response(b"".join(one.get("body", b"") for one in rest), start["status"])
    response.raw_headers = list(start["headers"])
    return response


async def _drip(body: bytes, *, pieces: int, pause: float) -> AsyncIterator[bytes]:
    size = max(-(-len(body) // pieces), 1)
    for begin in range(0, len(body), size):
        yield body[begin : begin + size]
        await asyncio.sleep(pause)


def _raw(response: Response, length: int) -> bytes:
    """A response as bytes of HTTP/1.1, with any Content-Length."""
    status = response.status_code
    headers = {**response.headers, "content-length": str(length)}
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + bytes(response.body)


async def _break(send: Send, receive: Receive, data: bytes, *, resets: bool) -> None:
    """Write raw bytes and close the connection.

    A server refuses to send what breaks HTTP, so this uses the connection itself. uvicorn's `send` is a
    bound method of the object that has it.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # uvicorn's bound method
    connection = transport.get_extra_info("socket")
    if data:
        transport.write(data)
    if resets:
        await asyncio.sleep(0.01)  # a reset may overtake data that was just written
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        # Close before a client that trusts Content-Length sends its next request.
        transport.close()
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)
