"""The API over HTTP for a world: faithful to the reference, and to what it leaves open.

Where the reference leaves something open, `Options` chooses: the order of results, whether the bounds
are included, how full pages are. Pages are computed when they are asked for; a page token holds the
place where the next page begins, tied to the filters that it was made for.
"""

import asyncio
import base64
import binascii
import hmac
import json
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.emulator.clock import Clock
from pipeline.emulator.faults import SCOPE, Faults, Injector, Unreliable
from pipeline.emulator.query import (
    INVALID_PAGE_TOKEN,
    MAX_PAGE_SIZE,
    RefusedError,
    moment_of,
    next_second,
    page_size,
    read_token,
    write_token,
)
from pipeline.emulator.world import World, chances
from pipeline.errors import UsageError
from pipeline.schema import STATUSES
from pipeline.windows import RETENTION

DEMO_ACCOUNT_SID: Final = "AC" + "0123456789abcdef" * 2
DEMO_AUTH_TOKEN: Final = "emulator-auth-token"  # noqa: S105 - opens nothing but this emulator
DESCRIPTION: Final = Path(__file__).with_name("openapi.json")
"""What is served, as OpenAPI: written from the reference page."""

_BLOCK: Final = 64
_CLOCK_YEARS: Final = (1970, 9000)
_FASTEST: Final = 1e9
_ERRORS: Final = (
    (60301, "The recipient's address is on the suppression list"),
    (60302, "The sender's domain is not verified"),
    (60303, "The content could not be rendered for this recipient"),
)
"""What may fail in this emulator; the reference names no codes."""

Order = Literal["oldest", "newest", "scrambled"]
Bounds = Literal["inclusive", "exclusive", "start_inclusive", "end_inclusive"]


@dataclass(frozen=True, slots=True)
class Options:
    """How the emulated API behaves where the real one's reference leaves it open.

    Attributes:
        account_sid: the account whose credentials are accepted.
        auth_token: its token.
        api_key_sid: an API key that is accepted too; None for none.
        api_key_secret: that key's secret.
        order: of the results.
        bounds: which of startDate and endDate are included themselves.
        page_limit: operations that a page holds at the most, whatever is asked for.
        empty_pages: let a third of the pages be empty, with a token to go on.
        records_key: where a page keeps its records.
        fading: for so long beyond the retention listings still tell of fewer and fewer operations, half
            of them at first; 0 for none.
        latency_seconds: what each answer is held back for, in real seconds.
        tells_unsettled: tell of an operation by its id beyond the retention while it is not settled,
            and for a day afterwards.
        faults: what goes wrong; None for nothing.
    """

    account_sid: str = DEMO_ACCOUNT_SID
    auth_token: str = field(default=DEMO_AUTH_TOKEN, repr=False)
    api_key_sid: str | None = None
    api_key_secret: str | None = field(default=None, repr=False)
    order: Order = "oldest"
    bounds: Bounds = "exclusive"
    page_limit: int = MAX_PAGE_SIZE
    empty_pages: bool = False
    records_key: Literal["operations", "data"] = "operations"
    fading: timedelta = timedelta(days=3)
    latency_seconds: float = 0.0
    tells_unsettled: bool = False
    faults: Faults | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered: what a test may look at. Credentials are not kept."""

    method: str
    path: str
    query: dict[str, str]
    status: int


def create_app(
    world: World,
    clock: Clock,
    options: Options,
    served: Callable[[Served], None] = lambda _: None,
    injector: Injector | None = None,
) -> ASGIApp:
    """The API and the emulator's own control endpoints as an ASGI application.

    Args:
        world: what is served.
        clock: what time it is there; ``POST /emulator/clock`` sets it, from this machine alone.
        options: how the API behaves.
        served: is told of each request that was answered.
        injector: what goes wrong; None for nothing.
    """

    def stamp(response: Response) -> None:
        response.headers["Date"] = format_datetime(clock.now().replace(microsecond=0), usegmt=True)
        response.headers["Twilio-Request-Id"] = f"RQ{secrets.token_hex(16)}"

    def api(
        answer: Callable[[Request], Any],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            if options.latency_seconds:
                await asyncio.sleep(options.latency_seconds)
            try:
                _authorize(request, options)
                response: Response = JSONResponse(answer(request))
            except RefusedError as refusal:
                response = _envelope(refusal)
            stamp(response)
            query = dict(request.query_params)
            served(Served(request.method, request.url.path, query, response.status_code))
            return response

        return respond

    def listing(request: Request) -> dict[str, Any]:
        return _listing(request, world, clock.now(), options, injector)

    def fetch(request: Request) -> dict[str, Any]:
        now, fault = clock.now(), request.scope.get(SCOPE)
        if injector and fault == "stale":
            injector.count(fault)
            now -= injector.faults.stale_by
        record = _fetch(request.path_params["operation_id"], world, now, options)
        number = world.number_of(record["id"])
        if injector is None or number is None:
            return record
        return injector.spoiled(number, record, fault)

    def errors(request: Request) -> dict[str, Any]:
        return _errors(request, world, clock.now(), options)

    async def control(request: Request) -> Response:
        try:
            _only_from_here(request)
            if request.method == "POST":
                _turn(clock, await request.body())
        except RefusedError as refusal:
            return _envelope(refusal)
        return JSONResponse({"now": _text(clock.now()), "rate": clock.rate})

    async def description(request: Request) -> Response:
        try:
            _only_from_here(request)
        except RefusedError as refusal:
            return _envelope(refusal)
        return JSONResponse(json.loads(DESCRIPTION.read_bytes()))

    async def refuse(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        answered = _envelope(RefusedError(status, HTTPStatus(status).phrase))
        answered.headers.update((error.headers or {}) if isinstance(error, HTTPException) else {})
        stamp(answered)
        served(Served(request.method, request.url.path, dict(request.query_params), status))
        return answered

    app = Starlette(
        routes=[
            Route("/v1/Emails/Operations", api(listing), methods=["GET"]),
            Route("/v1/Emails/Operations/{operation_id}", api(fetch), methods=["GET"]),
            Route("/v1/Emails/Operations/{operation_id}/Errors", api(errors), methods=["GET"]),
            Route("/emulator/clock", control, methods=["GET", "POST"]),
            Route("/emulator/openapi.json", description, methods=["GET"]),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=500, compresslevel=1)],
        exception_handlers={HTTPException: refuse},
    )
    app.router.redirect_slashes = False  # the API is documented to answer, and not to redirect
    return Unreliable(app, injector, clock.now, "/v1/") if injector else app


@dataclass(frozen=True)
class Emulator:
    """An emulator that is running.

    Attributes:
        url: the API's base URL.
        world: what it serves.
        clock: what time it is there.
        options: how it behaves.
        requests: the requests that it has answered.
        injected: how often each fault came.
    """

    url: str
    world: World
    clock: Clock
    options: Options
    requests: list[Served]
    injected: Counter[str]


@contextmanager
def running(
    world: World,
    *,
    clock: Clock,
    options: Options | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Emulator]:
    """Serve in a thread of this process, on a free port by default, while the block lasts."""
    requests: list[Served] = []
    options = options or Options()
    injector = Injector(options.faults) if options.faults else None
    app = create_app(world, clock, options, requests.append, injector)
    with socket.create_server((host, port)) as listening:
        server = uvicorn.Server(_config(app))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        try:
            url = f"http://{host}:{listening.getsockname()[1]}/v1"
            injected = injector.injected if injector else Counter[str]()
            yield Emulator(url, world, clock, options, requests, injected)
        finally:
            server.should_exit = True
            thread.join()


def serve(
    world: World,
    clock: Clock,
    options: Options,
    *,
    host: str,
    port: int,
    allow_remote: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve until interrupted.

    Args:
        world: what is served.
        clock: what time it is there.
        options: how the API behaves.
        host: the address to bind.
        port: the port; 0 takes a free one.
        allow_remote: whether `host` may be one that other machines can reach.
        ready: is told the API's base URL once requests are accepted.

    Raises:
        UsageError: `host` can be reached from elsewhere and that is not allowed, or can't be bound.
    """
    if host not in ("127.0.0.1", "::1", "localhost") and not allow_remote:
        msg = f"{host} can be reached by other machines: add --allow-remote if that is meant"
        raise UsageError(msg)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        msg = f"can't serve on {host}:{port} ({error.strerror}): choose another --port, or 0"
        raise UsageError(msg) from error
    with listening:
        ready(f"http://{host}:{listening.getsockname()[1]}/v1")
        injector = Injector(options.faults) if options.faults else None
        app = create_app(world, clock, options, injector=injector)
        uvicorn.Server(_config(app)).run([listening])


def _config(app: ASGIApp) -> uvicorn.Config:
    # Date comes from the emulator's clock, not from the machine's.
    return uvicorn.Config(
        app, log_level="warning", access_log=False, date_header=False, server_header=False
    )


# The API.


def _listing(
    request: Request, world: World, now: datetime, options: Options, injector: Injector | None
) -> dict[str, Any]:
    query = request.query_params
    fault = request.scope.get(SCOPE)
    size = min(page_size(query.get("pageSize")), options.page_limit)
    status = query.get("status")
    if status is not None and status not in STATUSES:
        raise RefusedError(400, f"status must be one of {', '.join(STATUSES)}")
    filters = [query.get("startDate"), query.get("endDate"), status]
    if injector and fault == "stale":
        injector.count(fault)
        now -= injector.faults.stale_by
    matching = _matching(world, now, options, filters[0], filters[1])
    order = _Ordered(world.seed, options.order, matching)
    token = query.get("pageToken")
    place, was_empty = read_token(token, filters) if token is not None else (order.first, False)
    size, end = _limits(order, place, size, injector, fault, has_token=token is not None)
    leaves_empty = options.empty_pages and chances(world.seed, np.array([place]))[0] < 1 / 3
    if injector and fault == "empty-pages" and not was_empty:
        injector.count(fault)
        leaves_empty = True
    if leaves_empty and not was_empty:
        records, following, is_empty = [], place, True
    else:
        numbers, following = order.page(place, size)
        if injector and fault == "duplicates":
            injector.count(fault)
            # Those of the page before come too, and the last one twice.
            again = order.page(max(place - 3, order.first), min(3, place - order.first))[0]
            numbers = [*again, *numbers, *numbers[-1:]]
        if injector and fault == "reordered":
            injector.count(fault)
            numbers = numbers[1::2] + numbers[::2]
        records = _known(world, numbers, now, options.fading)
        records = [record for record in records if status in (None, record["status"])]
        if injector:
            ids = world.columns(numbers, now)["operation_id"].tolist()
            records = _answered(records, dict(zip(ids, numbers, strict=True)), now, injector, fault)
        is_empty = False
    more = following < end
    following_token = write_token(following, filters, is_empty=is_empty) if more else None
    if injector and fault == "token-loop" and token is not None:
        injector.count(fault)
        following_token = token
    return {
        options.records_key: records,
        "pagination": {"next": following_token, "self": str(request.url)},
    }


def _limits(
    order: "_Ordered",
    place: int,
    size: int,
    injector: Injector | None,
    fault: str | None,
    *,
    has_token: bool,
) -> tuple[int, int]:
    """The size of a page, and where its listing ends."""
    if injector is None:
        return size, order.end
    if fault == "token-refused" and has_token:
        injector.count(fault)
        raise RefusedError(400, "Invalid page token", INVALID_PAGE_TOKEN)
    cap = order.first + injector.faults.cap
    if fault not in ("capped", "capped-silently") or order.end <= cap:
        return size, order.end
    if fault == "capped-silently" and place + size >= cap:
        injector.count(fault)
    elif place >= cap:
        injector.count(fault)
        raise RefusedError(400, f"A listing has {injector.faults.cap} results at the most")
    size = min(size, max(cap - place, 0))
    return size, cap if fault == "capped-silently" else order.end


def _answered(
    records: list[dict[str, Any]],
    numbers: dict[str, int],
    now: datetime,
    injector: Injector,
    fault: str | None,
) -> list[dict[str, Any]]:
    """The records of a page, as they are answered."""
    answered = []
    for record in records:
        number = numbers[record["id"]]
        created_at = datetime.fromisoformat(record["createdAt"])
        if not injector.hides(number, created_at, now, fault):
            answered.append(injector.spoiled(number, record, fault))
    if fault == "partial" and len(answered) < len(records):
        injector.count(fault)
    return answered


def _fetch(operation_id: str, world: World, now: datetime, options: Options) -> dict[str, Any]:
    number = world.number_of(operation_id)
    records = [] if number is None else world.records([number], now)
    if number is None or not records or not _told(records[0], world, number, now, options):
        raise RefusedError(404, f"The requested resource {operation_id} was not found")
    return records[0]


def _told(
    record: dict[str, Any], world: World, number: int, now: datetime, options: Options
) -> bool:
    """Whether the API tells of a record by its id."""
    if now < datetime.fromisoformat(record["createdAt"]) + RETENTION:
        return True
    yesterday = world.records([number], now - timedelta(days=1)) if options.tells_unsettled else []
    return any(one["status"] in ("SCHEDULED", "PROCESSING") for one in yesterday)


def _errors(request: Request, world: World, now: datetime, options: Options) -> dict[str, Any]:
    """One error for each failed email. The reference leaves the form open: this one is a listing's."""
    operation_id = request.path_params["operation_id"]
    record = _fetch(operation_id, world, now, options)
    size = min(page_size(request.query_params.get("pageSize")), options.page_limit)
    filters: list[str | None] = [operation_id]
    token = request.query_params.get("pageToken")
    place, _ = read_token(token, filters) if token is not None else (0, False)
    failed = record["stats"]["failed"]
    number = world.number_of(operation_id) or 0
    stop = min(place + size, failed)
    return {
        "errors": failures(world, number, range(place, stop)),
        "pagination": {
            "next": write_token(stop, filters, is_empty=False) if stop < failed else None,
            "self": str(request.url),
        },
    }


def failures(world: World, number: int, which: range) -> list[dict[str, Any]]:
    """The errors of some of the emails that failed in an operation."""
    kinds = chances(world.seed + 2, number + np.asarray(which, dtype=np.int64))
    found = [_ERRORS[int(chance * len(_ERRORS))] for chance in kinds.tolist()]
    return [{"code": code, "message": message} for code, message in found]


def _matching(
    world: World, now: datetime, options: Options, start: str | None, end: str | None
) -> range:
    """The numbers whose whole-second createdAt lies between the bounds, as these are read."""
    begin, stop = world.start, next_second(now)
    if start is not None:
        begin = moment_of("startDate", start)
        if options.bounds in ("exclusive", "end_inclusive"):
            begin = next_second(begin)
    if end is not None:
        until = moment_of("endDate", end)
        if options.bounds in ("inclusive", "end_inclusive"):
            until = next_second(until)
        stop = min(stop, until)
    numbers = world.numbers(max(begin, world.start), max(stop, world.start))
    last = world.existing(now).stop
    return range(min(numbers.start, last), min(numbers.stop, last))


def _known(
    world: World, numbers: list[int], now: datetime, fading: timedelta
) -> list[dict[str, Any]]:
    """The records that the API still tells of: all for 7 days, then fewer and fewer of them."""
    records = world.records(numbers, now)
    oldest = now - RETENTION
    if all(record["createdAt"] >= _text(oldest) for record in records[:: max(len(records) - 1, 1)]):
        return records
    lots = dict(zip(numbers, chances(world.seed, np.array(numbers)).tolist(), strict=True))
    kept = []
    for number, record in zip(numbers, records, strict=True):
        beyond = oldest - datetime.fromisoformat(record["createdAt"])
        if beyond <= timedelta() or (fading and lots[number] < 0.5 * (1 - beyond / fading)):
            kept.append(record)
    return kept


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Numbers in an order, by places that a token can hold."""

    seed: int
    order: Order
    numbers: range

    @property
    def first(self) -> int:
        return self._places.start

    @property
    def end(self) -> int:
        return self._places.stop

    @property
    def _places(self) -> range:
        match self.order:
            case "oldest":
                return self.numbers
            case "newest":
                return range(-self.numbers.stop + 1, -self.numbers.start + 1)
            case "scrambled":
                start, stop = self.numbers.start // _BLOCK, -(-self.numbers.stop // _BLOCK)
                return range(start * _BLOCK, stop * _BLOCK)

    def page(self, place: int, size: int) -> tuple[list[int], int]:
        """The numbers of the page that begins at `place`, and where the next one begins."""
        places = range(max(place, self.first), min(place + size, self.end))
        following = max(places.stop, place)
        match self.order:
            case "oldest":
                return list(places), following
            case "newest":
                return [-p for p in places], following
            case "scrambled":
                return [n for n in map(self._scrambled, places) if n in self.numbers], following

    def _scrambled(self, place: int) -> int:
        """The number at a place: a block's numbers change places among themselves."""
        block, within = divmod(place, _BLOCK)
        base = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int64)
        return int(base[np.argsort(chances(self.seed + 1, base))[within]])


def _authorize(request: Request, options: Options) -> None:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        given = b""
    accepted = [f"{options.account_sid}:{options.auth_token}".encode()]
    if options.api_key_sid and options.api_key_secret:
        accepted.append(f"{options.api_key_sid}:{options.api_key_secret}".encode())
    matches = [hmac.compare_digest(given, one) for one in accepted]
    if scheme.lower() != "basic" or not any(matches):
        raise RefusedError(401, "Authenticate")


def _envelope(refusal: RefusedError) -> JSONResponse:
    error = {
        "code": refusal.code,
        "message": refusal.message,
        "infoUrl": f"https://www.twilio.com/docs/errors/{refusal.code}",
        "context": None,
    }
    answered = JSONResponse({"errors": [error]}, status_code=refusal.status)
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        answered.headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
    return answered


# The emulator's own endpoints.


def _only_from_here(request: Request) -> None:
    if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
        raise RefusedError(403, "The emulator is controlled from its own machine alone")


def _turn(clock: Clock, body: bytes) -> None:
    try:
        wanted = json.loads(body)
        match wanted:
            case {"now": str(text)}:
                clock.set(_shown(moment_of("now", text)))
            case {"step_seconds": int() | float() as seconds}:
                clock.set(_shown(clock.now() + timedelta(seconds=seconds)))
            case {"rate": int() | float() as rate} if 0 <= rate <= _FASTEST:
                clock.run(rate)
            case _:
                raise ValueError
    except (ValueError, OverflowError, RecursionError):
        msg = 'expected {"now": <date-time>}, {"step_seconds": <number>} or {"rate": <0 or more>}'
        raise RefusedError(400, msg) from None


def _shown(now: datetime) -> datetime:
    """What the clock may show: with room for the retention before it, and for a scan after it."""
    if not _CLOCK_YEARS[0] <= now.year < _CLOCK_YEARS[1]:
        raise ValueError
    return now


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
