"""The API's endpoints, and how they behave where the reference leaves it open."""

import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from starlette.requests import Request

from pipeline.emulator.accounts import basic_credentials
from pipeline.emulator.chance import chances
from pipeline.emulator.faults import SCOPE, Faults, Injector
from pipeline.emulator.listing import Bounds, Listing, Order
from pipeline.emulator.request import (
    MAX_PAGE_SIZE,
    RefusedError,
    page_size,
    read_token,
    write_token,
)
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import World
from pipeline.model.windows import RETENTION

DEMO_ACCOUNT_SID: Final = "AC" + "0123456789abcdef" * 2
DEMO_AUTH_TOKEN: Final = "emulator-auth-token"  # noqa: S105 - valid for this emulator only
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
class Api:
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


def authorize(request: Request, options: Options) -> None:
    """Refuse a request without the account's credentials."""
    given = basic_credentials(request.headers)
    if not any(hmac.compare_digest(given, one) for one in accepted_credentials(options)):
        raise RefusedError(401, "Authenticate")


def accepted_credentials(options: Options) -> list[bytes]:
    """The credentials of an account."""
    accepted = [f"{options.account_sid}:{options.auth_token}".encode()]
    if options.api_key_sid and options.api_key_secret:
        accepted.append(f"{options.api_key_sid}:{options.api_key_secret}".encode())
    return accepted
