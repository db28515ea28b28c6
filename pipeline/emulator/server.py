"""The API over HTTP for a world, as the reference describes it.

Where the reference leaves something open, `Options` chooses. Pages are computed on request.
"""

import asyncio
import json
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.emulator.accounts import ByCredentials
from pipeline.emulator.api import Api, Options, accepted_credentials, authorize
from pipeline.emulator.faults import Faults, Injector
from pipeline.emulator.middleware import FaultMiddleware
from pipeline.emulator.request import (
    RefusedError,
    error_response,
    moment_of,
    require_local,
)
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import World
from pipeline.errors import UsageError

DESCRIPTION: Final = Path(__file__).with_name("openapi.json")
"""The API as OpenAPI, written from the reference."""

_CLOCK_YEARS: Final = (1970, 9000)
_FASTEST: Final = 1e9


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
    api = Api(world, clock, options, injector or Injector(Faults()))
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
            authorize(request, self.options)
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
        accepted_credentials(options), create_app(world, clock, options, requests.append, injector)
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
        for credentials in accepted_credentials(options)
    }


def _injector(options: Options) -> Injector | None:
    return Injector(options.faults) if options.faults else None


def _config(app: ASGIApp) -> uvicorn.Config:
    # Date comes from the emulator's clock.
    return uvicorn.Config(
        app, log_level="warning", access_log=False, date_header=False, server_header=False
    )


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
