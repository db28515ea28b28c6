"""The API over HTTP for a world, as the reference describes it.

Where the reference leaves something open, `Options` chooses. Pages are computed on request. A page token
holds the place where the next page begins, and is bound to the filters of its listing.
"""

import asyncio
import hmac
import json
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
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

from pipeline.emulator.accounts import ByCredentials, basic_credentials
from pipeline.emulator.chance import chances
from pipeline.emulator.faults import SCOPE, Faults, Injector
from pipeline.emulator.listing import Bounds, Listing, Order
from pipeline.emulator.middleware import FaultMiddleware
from pipeline.emulator.request import (
    MAX_PAGE_SIZE,
    RefusedError,
    error_response,
    moment_of,
    page_size,
    read_token,
    require_local,
    write_token,
)
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import World
from pipeline.errors import UsageError
from pipeline.model.windows import RETENTION

DEMO_ACCOUNT_SID: Final = "AC" + "0123456789abcdef" * 2
DEMO_AUTH_TOKEN: Final = "emulator-auth-token"  # noqa: S105 - valid for this emulator only
DESCRIPTION: Final = Path(__file__).with_name("openapi.json")
"""The API as OpenAPI, written from the reference."""

_CLOCK_YEARS: Final = (1970, 9000)
_FASTEST: Final = 1e9
_ERRORS: Final = (
    (60301, "The recipient's address is on the suppression list"),
    (60302, "The sender's domain is not verified"),
    (60303, "The content could not be rendered for this recipient"),
)
"""Errors of failed emails. The reference names no codes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the emulated API behaves where the reference leaves it open.

    Attributes:
        account_sid: the account whose credentials are accepted.
        auth_token: its token.
        api_key_sid: an API key that is accepted too; None for none.
        api_key_secret: the key's secret.
        order: of the results.
        bounds: which of startDate and endDate are inclusive.
        page_limit: the most operations in a page, even if pageSize is larger.
        empty_pages: whether a third of the pages are empty, with a token for the next one.
        records_key: the name of a page's list of records.
        fading: for how long after the retention a listing still includes some operations: half of them at
            first, then fewer; 0 for none.
        latency_seconds: delay of each response, in real seconds.
        returns_unsettled: whether an operation can be fetched by id after the retention while it is not
            settled, and for a day afterwards.
        faults: injected faults; None for none.
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
    returns_unsettled: bool = False
    faults: Faults | None = None


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """A request and the status of its response, for tests. Credentials are not kept."""

    method: str
    path: str
    query: dict[str, str]
    status: int


def create_app(
    world: World,
    clock: Clock,
    options: Options,
    on_response: Callable[[ServedRequest], None] = lambda _: None,
    injector: Injector | None = None,
) -> ASGIApp:
    """The API and the emulator's control endpoints as an ASGI application.

    Args:
        world: the operations.
        clock: the API's clock. ``POST /emulator/clock`` sets it, from this machine only.
        options: the API's behaviour.
        on_response: called with each request that got a response.
        injector: injects faults; None for none.
    """
    api = _Api(world, clock, options, injector or Injector(Faults()))
    responder = _Responder(clock, options, on_response)

    async def control(request: Request) -> Response:
        require_local(request)
        if request.method == "POST":
            _set_clock(clock, await request.body())
        now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        return JSONResponse({"now": now, "rate": clock.rate})

    app = Starlette(
        routes=[
            Route("/v1/Emails/Operations", responder.endpoint(api.listing)),
            Route("/v1/Emails/Operations/{operation_id}", responder.endpoint(api.operation)),
            Route("/v1/Emails/Operations/{operation_id}/Errors", responder.endpoint(api.errors)),
            Route("/emulator/clock", control, methods=["GET", "POST"]),
            Route("/emulator/openapi.json", _description),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=500, compresslevel=1)],
        exception_handlers={HTTPException: responder.refuse},
    )
    app.router.redirect_slashes = False  # the API answers with 404 and does not redirect
    return FaultMiddleware(app, injector, clock.now, "/v1/") if injector else app


@dataclass(frozen=True, slots=True)
class _Responder:
    """Adds the API's headers to responses, and calls `on_response` for each."""

    clock: Clock
    options: Options
    on_response: Callable[[ServedRequest], None]

    def endpoint(
        self, content: Callable[[Request], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that needs credentials and responds with `content` as JSON."""

        async def respond(request: Request) -> Response:
            await asyncio.sleep(self.options.latency_seconds)
            _authorize(request, self.options)
            return self._finish(request, JSONResponse(content(request)))

        return respond

    async def refuse(self, request: Request, error: Exception) -> Response:
        """The response to an error."""
        assert isinstance(error, HTTPException)  # noqa: S101 - for mypy: registered for it alone
        return self._finish(request, error_response(error))

    def _finish(self, request: Request, response: Response) -> Response:
        now = self.clock.now().replace(microsecond=0)
        response.headers["Date"] = format_datetime(now, usegmt=True)
        response.headers["Twilio-Request-Id"] = f"RQ{secrets.token_hex(16)}"
        query = dict(request.query_params)
        self.on_response(
            ServedRequest(request.method, request.url.path, query, response.status_code)
        )
        return response


async def _description(request: Request) -> Response:
    require_local(request)
    return Response(DESCRIPTION.read_bytes(), media_type="application/json")


@dataclass(frozen=True)
class Emulator:
    """A running emulator.

    Attributes:
        url: the API's base URL.
        world: its operations.
        clock: its clock.
        options: its behaviour.
        requests: the requests that got a response.
        injected: how often each fault was injected.
    """

    url: str
    world: World
    clock: Clock
    options: Options
    requests: list[ServedRequest]
    injected: Counter[str]


@contextmanager
def running(
    world: World,
    *,
    clock: Clock,
    options: Options | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    others: Sequence[tuple[World, Options]] = (),
) -> Iterator[Emulator]:
    """Serve in a thread of this process, by default on a free port, until the block ends.

    `others` are more accounts at the same address, each with its world and its options.
    """
    requests: list[ServedRequest] = []
    options = options or Options()
    injector = _injector(options)
    apps = dict.fromkeys(
        _accepted(options), create_app(world, clock, options, requests.append, injector)
    )
    app = ByCredentials(apps | _apps(others, clock, requests.append))
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
    accounts: Sequence[tuple[World, Options]],
    clock: Clock,
    *,
    host: str,
    port: int,
    allow_remote: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve until interrupted.

    Args:
        accounts: the operations of each account, and how its API behaves.
        clock: the API's clock.
        host: the address to bind.
        port: the port; 0 for a free one.
        allow_remote: whether `host` may be an address that other machines can reach.
        ready: called with the API's base URL once requests are accepted.

    Raises:
        UsageError: `host` can be reached from elsewhere without `allow_remote`, or can't be bound.
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
        uvicorn.Server(_config(ByCredentials(_apps(accounts, clock)))).run([listening])


def _apps(
    accounts: Sequence[tuple[World, Options]],
    clock: Clock,
    on_response: Callable[[ServedRequest], None] = lambda _: None,
) -> dict[bytes, ASGIApp]:
    """The application of each account, by the credentials that it accepts."""
    return {
        credentials: app
        for world, options in accounts
        for app in [create_app(world, clock, options, on_response, _injector(options))]
        for credentials in _accepted(options)
    }


def _injector(options: Options) -> Injector | None:
    return Injector(options.faults) if options.faults else None


def _config(app: ASGIApp) -> uvicorn.Config:
    # Date comes from the emulator's clock.
    return uvicorn.Config(
        app, log_level="warning", access_log=False, date_header=False, server_header=False
    )


@dataclass(frozen=True, slots=True)
class _Api:
    """The API's three endpoints."""

    world: World
    clock: Clock
    options: Options
    injector: Injector

    def listing(self, request: Request) -> dict[str, Any]:
        """One page of operations."""
        fault = request.scope.get(SCOPE)
        options = self.options
        listing = Listing(
            world=self.world,
            now=self._now(fault),
            order=options.order,
            bounds=options.bounds,
            fading=options.fading,
            empty_pages=options.empty_pages,
            injector=self.injector,
            fault=fault,
        )
        records, token = listing.page(request.query_params, options.page_limit)
        return _page(request, options.records_key, records, token)

    def operation(self, request: Request) -> dict[str, Any]:
        """One operation by its id."""
        fault = request.scope.get(SCOPE)
        number, record = self._find(request, self._now(fault))
        return self.injector.with_faults(number, record, fault)

    def errors(self, request: Request) -> dict[str, Any]:
        """One error per failed email, in pages like those of a listing: the reference leaves it open."""
        number, record = self._find(request, self.clock.now())
        query = request.query_params
        size = min(page_size(query.get("pageSize")), self.options.page_limit)
        filters: list[str | None] = [record["id"]]
        token = query.get("pageToken")
        place, _ = read_token(token, filters) if token is not None else (0, False)
        failed = record["stats"]["failed"]
        stop = min(place + size, failed)
        following = write_token(stop, filters, is_empty=False) if stop < failed else None
        return _page(request, "errors", failures(self.world, number, range(place, stop)), following)

    def _now(self, fault: str | None) -> datetime:
        now = self.clock.now()
        stale = self.injector.counted(fault, "stale")
        return now - self.injector.faults.stale_by if stale else now

    def _find(self, request: Request, now: datetime) -> tuple[int, dict[str, Any]]:
        """The number and the record of the operation in the path."""
        operation_id = request.path_params["operation_id"]
        number = self.world.number_of(operation_id)
        records = [] if number is None else self.world.records([number], now)
        if number is None or not records or not self._is_available(number, records[0], now):
            raise RefusedError(404, f"The requested resource {operation_id} was not found")
        return number, records[0]

    def _is_available(self, number: int, record: dict[str, Any], now: datetime) -> bool:
        if now < datetime.fromisoformat(record["createdAt"]) + RETENTION:
            return True
        if not self.options.returns_unsettled:
            return False
        yesterday = self.world.records([number], now - timedelta(days=1))
        return any(one["status"] in ("SCHEDULED", "PROCESSING") for one in yesterday)


def _page(request: Request, key: str, items: list[Any], token: str | None) -> dict[str, Any]:
    return {key: items, "pagination": {"next": token, "self": str(request.url)}}


def failures(world: World, number: int, which: range) -> list[dict[str, Any]]:
    """The errors of some of an operation's failed emails."""
    kinds = chances(world.seed + 2, number + np.asarray(which, dtype=np.int64))
    found = [_ERRORS[int(chance * len(_ERRORS))] for chance in kinds.tolist()]
    return [{"code": code, "message": message} for code, message in found]


def _authorize(request: Request, options: Options) -> None:
    given = basic_credentials(request.headers)
    if not any(hmac.compare_digest(given, one) for one in _accepted(options)):
        raise RefusedError(401, "Authenticate")


def _accepted(options: Options) -> list[bytes]:
    """The credentials of an account."""
    accepted = [f"{options.account_sid}:{options.auth_token}".encode()]
    if options.api_key_sid and options.api_key_secret:
        accepted.append(f"{options.api_key_sid}:{options.api_key_secret}".encode())
    return accepted


def _set_clock(clock: Clock, body: bytes) -> None:
    try:
        match json.loads(body):
            case {"now": str(text)}:
                clock.set(_checked(moment_of("now", text)))
            case {"step_seconds": int() | float() as seconds}:
                clock.set(_checked(clock.now() + timedelta(seconds=seconds)))
            case {"rate": int() | float() as rate} if 0 <= rate <= _FASTEST:
                clock.run(rate)
            case _:
                raise ValueError
    except (ValueError, OverflowError, RecursionError):
        msg = 'expected {"now": <date-time>}, {"step_seconds": <number>} or {"rate": <0 or more>}'
        raise RefusedError(400, msg) from None


def _checked(now: datetime) -> datetime:
    """A time that leaves room for the retention before it and scans after it."""
    if not _CLOCK_YEARS[0] <= now.year < _CLOCK_YEARS[1]:
        raise ValueError
    return now.astimezone(UTC)
