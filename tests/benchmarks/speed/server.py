"""An API server for the benchmark, in a process of its own: fast, so that it is never the bottleneck.

``python -m tests.benchmarks.speed.server --operations 1000000`` prints its URL and serves until its
standard input ends. It answers list requests as the reference has them, with records that were written as
JSON beforehand and pages that are compressed the first time they are asked for; a run before the measured
ones warms it up. `GET /bench/set` sets latency, that of each record, and rate limit; `GET /bench/stats`
tells what was asked.
"""

import argparse
import asyncio
import base64
import gzip
import json
import random
import sys
from collections import Counter
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa

from tests.benchmarks.speed.load import NOW, columns, json_records

ACCOUNT_SID: Final = "AC" + "5" * 32
AUTH_TOKEN: Final = "benchmark-token"
_AUTHORIZATION: Final = b"Basic " + base64.b64encode(f"{ACCOUNT_SID}:{AUTH_TOKEN}".encode())
_LIST: Final = "/v1/Emails/Operations"
_LEVEL: Final = 6
_DATE: Final = format_datetime(NOW, usegmt=True)


class Records:
    """Operations as JSON, by their place in order of creation."""

    def __init__(self, operations: int, *, varied: bool = False) -> None:
        self.chunks: list[tuple[np.ndarray, memoryview]] = []
        created = []
        for table in columns(operations, varied=varied):
            texts = pa.array(json_records(table), pa.string())
            _, offsets, data = texts.buffers()
            places = np.frombuffer(offsets, np.int32)[: len(texts) + 1]
            self.chunks.append((places, memoryview(data)))
            created.append(table["created_at"].to_numpy().astype("datetime64[s]"))
        self.created = np.concatenate(created) if created else np.array([], "datetime64[s]")
        self.size = len(self.chunks[0][0]) - 1 if self.chunks else 1

    def text(self, begin: int, end: int) -> bytes:
        """The records of some places, between commas."""
        parts = []
        while begin < end:
            offsets, data = self.chunks[begin // self.size]
            first = begin % self.size
            last = min(first + end - begin, len(offsets) - 1)
            parts.append(data[offsets[first] : offsets[last]])
            begin += last - first
        return b"".join(parts)[:-1]


class Api:
    """What is answered, and what was asked."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.pages: dict[tuple[int, int], bytes] = {}
        self.latency, self.each, self.limit, self.refused = 0.0, 0.0, 0.0, 0.0
        self.lots = random.Random(1)  # noqa: S311 - a benchmark's, no secret
        self.delay = 0.0
        self.tokens, self.refilled_at = 0.0, 0.0
        self.asked: Counter[str] = Counter()

    def respond(self, target: str, authorization: bytes, now: float) -> tuple[int, bytes, bool]:
        """Status, body, and whether it is compressed."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path.startswith("/bench/"):
            return 200, json.dumps(self._control(url.path, query)).encode(), False
        if authorization != _AUTHORIZATION:
            return self._refusal(401, 20003, "Authenticate")
        self.asked["requests"] += 1
        self.delay = self.latency
        if (self.limit and not self._admits(now)) or self.lots.random() < self.refused:
            return self._refusal(429, 20429, "Too many requests")
        if url.path != _LIST:
            return self._refusal(404, 20404, "Not found")
        return 200, self._page(query), True

    def _control(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        told = dict(self.asked)
        if path == "/bench/set":
            self.latency = float(query.get("latency", 0))
            self.each = float(query.get("each", 0))
            self.limit = float(query.get("limit", 0))
            self.refused = float(query.get("refused", 0))
            # A bucket that holds half a second's requests.
            self.tokens, self.refilled_at = self.limit / 2, 0.0
            self.asked.clear()
        return told

    def _admits(self, now: float) -> bool:
        if self.refilled_at:
            filled = self.tokens + (now - self.refilled_at) * self.limit
            self.tokens = min(filled, max(self.limit / 2, 1))
        self.refilled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def _refusal(self, status: int, code: int, message: str) -> tuple[int, bytes, bool]:
        self.asked[str(status)] += 1
        errors = [{"code": code, "message": message, "infoUrl": None, "context": None}]
        return status, json.dumps({"errors": errors}).encode(), False

    def _page(self, query: dict[str, str]) -> bytes:
        size = min(int(query.get("pageSize", "50")), 1000)
        first = self._place(query["startDate"]) if "startDate" in query else 0
        end = self._place(query["endDate"]) if "endDate" in query else len(self.records.created)
        begin = int(query.get("pageToken", first))
        stop = max(min(begin + size, end), begin)
        self.delay += self.each * (stop - begin)
        key = (begin, stop if stop < end else -stop)
        page = self.pages.get(key)
        if page is None:
            following = f'"{stop}"' if stop < end else "null"
            text = b'{"operations":[%b],"pagination":{"next":%b,"self":"%d"}}' % (
                self.records.text(begin, stop),
                following.encode(),
                begin,
            )
            page = self.pages[key] = gzip.compress(text, _LEVEL, mtime=0)
        return page

    def _place(self, text: str) -> int:
        """A bound's: the start is included, the end is not, so that the floor needs no margin."""
        moment = np.datetime64(text.removesuffix("Z"), "s")
        return int(np.searchsorted(self.records.created, moment))


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as a client of the list needs it: GET, keep-alive."""

    def __init__(self, api: Api) -> None:
        self._api, self._loop, self._received = api, asyncio.get_running_loop(), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            line, *lines = head.split(b"\r\n")
            headers = dict(part.split(b": ", 1) for part in lines)
            found = {name.lower(): value for name, value in headers.items()}
            target = line.split(b" ")[1].decode()
            now = self._loop.time()
            status, body, compressed = self._api.respond(
                target, found.get(b"authorization", b""), now
            )
            answer = (
                f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\n"
                f"Date: {_DATE}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                + ("Content-Encoding: gzip\r\n" if compressed else "")
                + ("Retry-After: 1\r\n" if status == 429 else "")
                + "\r\n"
            ).encode() + body
            if self._api.delay and not target.startswith("/bench/"):
                self._loop.call_later(self._api.delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


async def _serve(api: Api) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--varied", action="store_true", help="each with counts of its own")
    asked = parser.parse_args()
    asyncio.run(_serve(Api(Records(asked.operations, varied=asked.varied))))
