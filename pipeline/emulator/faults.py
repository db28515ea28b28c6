"""What goes wrong on the way from a server to a client, by lot and by script, the same from the same seed.

A request has at most one fault. Which one is drawn from the request itself and how often it came: so
threads change nothing, the same requests meet the same faults, and what is asked again is answered
otherwise. What is wrong with records is drawn from the record.
"""

import asyncio
import gzip
import hashlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.emulator.world import chances
from pipeline.errors import UsageError
from pipeline.windows import deadline

REFUSALS: Final = {
    "429": 429,
    "429-zero": 429,
    "429-date": 429,
    "500": 500,
    "502": 502,
    "503": 503,
    "503-retry-after": 503,
    "html-error": 502,
}
CONNECTIONS: Final = ("reset", "reset-midway", "drip", "length-short", "length-long")
BODIES: Final = ("html", "gzip", "truncated", "date-skew")
PAGE_SIZES: Final = ("large-page-500", "large-page-hang")
LISTINGS: Final = (
    "capped",
    "capped-silently",
    "duplicates",
    "reordered",
    "empty-pages",
    "token-refused",
    "token-loop",
    "stale",
    "partial",
)
RECORDS: Final = ("late", "malformed", "unknown-field", "unknown-status")
CLOCKS: Final = ("wrong-date",)
FAULTS: Final = (*REFUSALS, *CONNECTIONS, *BODIES, *PAGE_SIZES, *LISTINGS, *RECORDS, *CLOCKS)
"""Every kind of fault; `Faults` says what each of them is."""

SCOPE: Final = "email_archive.fault"
"""Where a request's scope has its fault."""

_SCRIPTED: Final = 0.5
"""The share of an answer's records that a fault of records befalls when a script names it."""

_LEFT_OUT: Final = 0.5
"""The share of old records that a partial answer leaves out."""

_HTML: Final = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
_DAMAGE: Final[tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]] = (
    lambda record: record | {"stats": dict(record["stats"]) | {"opened": -1}},
    lambda record: record | {"stats": dict(record["stats"]) | {"total": "many"}},
    lambda record: record | {"createdAt": "yesterday"},
    lambda record: record | {"status": None},
    lambda record: {name: value for name, value in record.items() if name != "id"},
    lambda record: {name: value for name, value in record.items() if name != "updatedAt"},
)


@dataclass(frozen=True)
class Faults:
    """Which faults an emulated API has.

    - ``429``, ``429-zero``, ``429-date``: too many requests, with Retry-After in seconds, 0, a date.
    - ``500``, ``502``, ``503``, ``503-retry-after``: server errors in Twilio's envelope.
    - ``html-error``, ``html``: a proxy's page, as a 502 and as a 200.
    - ``reset``, ``reset-midway``: the connection is reset before the answer, or within its body.
    - ``drip``: the body comes in small pieces, slowly.
    - ``length-short``, ``length-long``: Content-Length says too little, or too much.
    - ``gzip``, ``truncated``: a damaged compressed body; JSON that ends in the middle, as a 200.
    - ``date-skew``: ``Date`` is wrong, by up to `skew` in both directions; ``wrong-date``: by `wrong_by`.
    - ``large-page-500``, ``large-page-hang``: a pageSize above `large_page` gets a 500, or no response.
    - ``capped``, ``capped-silently``: a listing has no more than `cap` records: the token of the next page is
      refused, or there is none.
    - ``duplicates``: a page repeats records of its own and of the one before; ``reordered``: its records
      are in another order; ``empty-pages``: it is empty, with a token to go on.
    - ``token-refused``: its token is refused; ``token-loop``: its next token is its own.
    - ``stale``: a replica answers a listing, or about one operation, as of `stale_by` ago.
    - ``partial``: a listing leaves out half of what lies in hours whose deadline has passed.
    - ``late``: the record is in no listing in its first `late_by`.
    - ``malformed``: the record comes damaged the first time; ``unknown-field``, ``unknown-status``: it
      has one, always. In a script these four befall half of one answer's records.

    Attributes:
        seed: the same seed, the same faults.
        rates: for each kind its chance per request, or per record for the last four.
        script: the faults of the first requests, in order; None for none. Then the rates of requests
            hold; those of records always do.
        retry_after: what a server asks to wait.
        stale_by: how old a stale replica is.
        late_by: how late a record may appear.
        skew: how wrong ``Date`` may be.
        wrong_by: how wrong ``Date`` is: ahead, or behind if negative.
        drip_seconds: how long a dripping body takes, in real seconds.
        large_page: the largest pageSize without a ``large-page`` fault.
        cap: how many records a capped listing has.
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    script: Sequence[str | None] = ()
    retry_after: timedelta = timedelta(seconds=1)
    stale_by: timedelta = timedelta(minutes=10)
    late_by: timedelta = timedelta(minutes=10)
    skew: timedelta = timedelta(minutes=2)
    wrong_by: timedelta = timedelta(days=400)
    drip_seconds: float = 0.05
    large_page: int = 100
    cap: int = 5000

    def __post_init__(self) -> None:
        unknown = [kind for kind in (*self.rates, *filter(None, self.script)) if kind not in FAULTS]
        of_requests = sum(rate for kind, rate in self.rates.items() if kind not in RECORDS)
        if unknown or of_requests > 1 or not all(0 <= rate <= 1 for rate in self.rates.values()):
            msg = (
                f"expected rates from 0 to 1, of 1 together, of {', '.join(FAULTS)}; "
                f"got {', '.join(unknown) or dict(self.rates)}"
            )
            raise UsageError(msg)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Faults out of a text like ``429=0.05,reset=0.01,seed=7``, or ``script=429/none/reset``.

        Raises:
            UsageError: it can't be meant; the message names every kind.
        """
        seed, rates = 0, dict[str, float]()
        script: tuple[str | None, ...] = ()
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            try:
                if name == "seed":
                    seed = int(value)
                elif name == "script":
                    script = tuple(None if kind == "none" else kind for kind in value.split("/"))
                else:
                    rates[name] = float(value)
            except ValueError as error:
                msg = f"expected name=rate, like 429=0.05,reset=0.01,seed=7; got {part!r}"
                raise UsageError(msg) from error
        return cls(seed, rates, script)


class Injector:
    """Draws the faults of requests and records, and counts them.

    Attributes:
        injected: how often each kind came.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.injected: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._requests = 0
        self._times: Counter[str] = Counter()
        self._damaged: set[int] = set()

    def of_request(self, path: str, query: str) -> str | None:
        """The fault of a request that has just come."""
        faults = self.faults
        with self._lock:
            place, self._requests = self._requests, self._requests + 1
            key = f"{path}?{query}"
            times, self._times[key] = self._times[key], self._times[key] + 1
        if place < len(faults.script):
            return faults.script[place]
        lot = _lot(faults.seed, key, times)
        for kind, rate in faults.rates.items():
            if kind in RECORDS:
                continue
            if lot < rate:
                return kind
            lot -= rate
        return None

    def count(self, kind: str) -> None:
        """Note that a fault has come."""
        with self._lock:
            self.injected[kind] += 1

    def hides(
        self, number: int, created_at: datetime, now: datetime, fault: str | None = None
    ) -> bool:
        """Whether a record is left out of a listing that has this fault itself."""
        if fault == "partial" and now >= deadline(created_at):
            return self._chance(fault, number) < _LEFT_OUT
        if now - created_at >= self.faults.late_by or not self._has("late", number, fault):
            return False
        self.count("late")
        return True

    def spoiled(
        self, number: int, record: dict[str, Any], fault: str | None = None
    ) -> dict[str, Any]:
        """A record as it is answered this time, by an answer that has this fault itself."""
        if self._has("unknown-field", number, fault):
            self.count("unknown-field")
            record = record | {"campaign": {"name": f"c{number}", "steps": [1, None]}}
        if self._has("unknown-status", number, fault):
            self.count("unknown-status")
            record = record | {"status": "PAUSED"}
        if self._has("malformed", number, fault):
            with self._lock:
                is_first = number not in self._damaged
                self._damaged.add(number)
            if is_first or fault == "malformed":
                self.count("malformed")
                return _DAMAGE[number % len(_DAMAGE)](record)
        return record

    def skew(self, key: str) -> timedelta:
        """How wrong a ``Date`` is."""
        seconds = self.faults.skew.total_seconds()
        return timedelta(seconds=round((2 * _lot(self.faults.seed, key, -1) - 1) * seconds))

    def _has(self, kind: str, number: int, fault: str | None) -> bool:
        rate = _SCRIPTED if kind == fault else self.faults.rates.get(kind, 0.0)
        return bool(rate) and self._chance(kind, number) < rate

    def _chance(self, kind: str, number: int) -> float:
        seed = self.faults.seed + 1 + FAULTS.index(kind)
        return float(chances(seed, np.array([number]))[0])


def _lot(seed: int, key: str, times: int) -> float:
    """A number in [0, 1) for a request."""
    digest = hashlib.sha256(f"{seed} {times} {key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


class Unreliable:
    """An API between which and its clients things go wrong.

    Args:
        app: the API, which is told of each request's fault in its scope.
        injector: what goes wrong.
        clock: the time there.
        under: only requests to paths that begin so.
    """

    def __init__(
        self, app: ASGIApp, injector: Injector, clock: Callable[[], datetime], under: str
    ) -> None:
        self._app, self._injector, self._clock, self._under = app, injector, clock, under

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
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
            await _send(send, *self._refusal(kind))
        elif kind == "large-page-hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif kind == "reset":
            await _break(send, receive, b"", resets=True)
        else:
            # Damage is done to the plain body: what is compressed may be whole after all.
            plain = [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]
            answer = await _collect(self._app, {**scope, "headers": plain}, receive)
            await self._spoil(kind, answer, f"{scope['path']}?{query}", send, receive)

    async def _spoil(
        self, kind: str, answer: "_Answer", key: str, send: Send, receive: Receive
    ) -> None:
        status, headers, body = answer
        middle = len(body) // 2
        match kind:
            case "html":
                await _send(send, 200, headers | {"content-type": "text/html"}, _HTML)
            case "truncated":
                await _send(send, status, headers, body[:middle])
            case "gzip":
                packed = gzip.compress(body)
                damaged = packed[:20] + bytes(255 - byte for byte in packed[20:])
                await _send(send, status, headers | {"content-encoding": "gzip"}, damaged)
            case "date-skew":
                date = parsedate_to_datetime(headers["date"]) + self._injector.skew(key)
                await _send(send, status, headers | {"date": _http_date(date)}, body)
            case "wrong-date":
                date = parsedate_to_datetime(headers["date"]) + self._injector.faults.wrong_by
                await _send(send, status, headers | {"date": _http_date(date)}, body)
            case "drip":
                pause = self._injector.faults.drip_seconds / 8
                await _send(send, status, headers, body, pieces=8, pause=pause)
            case "reset-midway":
                await _break(send, receive, _raw(answer, len(body))[: -middle - 1], resets=True)
            case "length-short":
                await _break(send, receive, _raw(answer, middle), resets=False)
            case "length-long":
                await _break(send, receive, _raw(answer, len(body) + 100), resets=False)

    def _refusal(self, kind: str) -> "_Answer":
        status, now = REFUSALS.get(kind, 500), self._clock()
        asked = self._injector.faults.retry_after
        headers = {"date": _http_date(now), "content-type": "application/json"}
        match kind:
            case "429" | "503-retry-after":
                headers["retry-after"] = str(round(asked.total_seconds()))
            case "429-zero":
                headers["retry-after"] = "0"
            case "429-date":
                headers["retry-after"] = _http_date(now + asked)
            case "html-error":
                return status, headers | {"content-type": "text/html"}, _HTML
        code = 20429 if status == HTTPStatus.TOO_MANY_REQUESTS else 20500
        error = {"code": code, "message": HTTPStatus(status).phrase, "infoUrl": None}
        return status, headers, json.dumps({"errors": [error]}).encode()


_Answer = tuple[int, dict[str, str], bytes]


def _page_size(query: str) -> int:
    """The pageSize of a request; 0 if it has none that is a number."""
    asked = parse_qs(query).get("pageSize", [""])[0]
    return int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 0


async def _collect(app: ASGIApp, scope: Scope, receive: Receive) -> _Answer:
    """The whole answer of an app."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    start = messages[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, b"".join(one.get("body", b"") for one in messages[1:])


async def _send(
    send: Send,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    pieces: int = 1,
    pause: float = 0.0,
) -> None:
    """Answer as the protocol wants it; the body in so many pieces, with pauses between."""
    full = dict(headers) | {"content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in full.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    size = max(-(-len(body) // pieces), 1)
    for begin in range(0, len(body), size):
        piece = body[begin : begin + size]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(pause)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _raw(answer: _Answer, length: int) -> bytes:
    """An answer as it goes over the line, with any Content-Length."""
    status, headers, body = answer
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name != "content-length"]
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode() + body


async def _break(send: Send, receive: Receive, data: bytes, *, resets: bool) -> None:
    """Write bytes to the line as they are, and end the connection.

    A server won't send what is against the protocol, so this reaches for the line itself: uvicorn gives
    each request a method of the object that has it.
    """
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]  # uvicorn hands over a bound method
    line = transport.get_extra_info("socket")
    if data:
        transport.write(data)
    if resets:
        await asyncio.sleep(0.01)  # what a reset overtakes would not arrive
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        # At once: a client that believes in the length would send its next request on this line.
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.replace(microsecond=0), usegmt=True)
