"""The API over HTTP: pages of a window, one operation and its errors by id, the clock.

Usable alone::

    with OperationsClient(Settings.load()) as client:
        for page in client.pages(Window(start, end)):
            page.operations  # a pyarrow.Table

One client may be used by many threads at once: their requests share one rate limiter.
"""

import base64
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import pyarrow as pa

from pipeline import version
from pipeline.model.times import iso_seconds
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.errors import (
    ApiError,
    CredentialsError,
    DamagedResponseError,
    FatalApiError,
    NotFoundError,
    PageTokenError,
    ResponseTooLargeError,
    RetriableApiError,
    UnexpectedResponseError,
)
from pipeline.twilio.page_size import PageSize
from pipeline.twilio.parsing import (
    ErrorRecord,
    ParsedPage,
    Reject,
    parse_errors,
    parse_operation,
    parse_page,
)
from pipeline.twilio.rate_limiter import RateLimiter
from pipeline.twilio.retry import parse_http_date, parse_retry_after, with_retries
from pipeline.twilio.transport import Limits, Response, Transport

log = logging.getLogger(__name__)

_OPERATIONS: Final = "/Emails/Operations"
_INVALID_PAGE_TOKEN: Final = 21481
_RETRIABLE_STATUSES: Final = frozenset({408, 425, 429})
_REQUEST_IDS: Final = ("twilio-request-id", "x-request-id")
_SECONDS: Final = re.compile(r"[0-9]{1,8}")
_LONGEST_RUN: Final = timedelta(days=1)
"""How old a cached response may be."""
_CLOCK_DRIFT: Final = timedelta(minutes=10)
"""How far a Date may be from what the run's first one lets expect: servers' clocks differ a little."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9990, 1, 1, tzinfo=UTC)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXCERPT: Final = 200
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the API.

    Attributes:
        operations: the records that could be read, as `schema.RECORD_SCHEMA`.
        rejects: those that could not.
        next_token: the token of the next page; None at the end.
        records: how many records came.
        observed_at: the moment that it describes: UTC, by the API's clock (R10). An answer out of a cache
            describes the moment when it was put there.
        clock: what the API's clock showed when it came; the same but for a cache.
        request_id: the server's id of the request, where it sends one.
        attempts: requests made for it, retries included.
        body_bytes: its size, decompressed.
    """

    operations: pa.Table
    rejects: tuple[Reject, ...]
    next_token: str | None
    records: int
    observed_at: datetime
    clock: datetime
    request_id: str | None
    attempts: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class OperationErrors:
    """What the API says of the errors of one operation.

    Attributes:
        errors: the errors, in the API's order.
        observed_at: when the last of them were answered: UTC, by the API's clock (R10).
        attempts: requests made, retries included.
    """

    errors: tuple[ErrorRecord, ...]
    observed_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class _Answer(Generic[_Parsed]):
    parsed: _Parsed
    observed_at: datetime
    clock: datetime
    request_id: str | None
    body_bytes: int


class OperationsClient:
    """The Email Operations API for one account.

    Args:
        settings: address, credentials, page size, time-outs, retries, limits.
        sleep: waits so many seconds between tries; by default until then, or until it is closed.

    Attributes:
        page_size: operations per page by default.

    Closing it ends what other threads still ask: at their next try, page or wait.

    Every method raises:
        CredentialsError: 401 or 403.
        FatalApiError: what no repetition mends.
        RetriableApiError: what did not go away within the settings' tries.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._settings = settings
        self._base = quote(urlsplit(settings.api_url).path, safe="/%:@!$&'()*+,;=~")
        self._closed = threading.Event()
        # One response at a time: eight threads that parse at once take a tenth more CPU for it.
        self._parsing = threading.Lock()
        self._first_clock: tuple[datetime, float] | None = None
        self.page_size = PageSize(settings.page_size)
        self._secrets = _disguises(*settings.basic_auth())
        self._limiter = RateLimiter(
            settings.concurrency, sleep or self._closed.wait, settings.retry_seconds
        )
        user, secret = settings.basic_auth()
        self._transport = Transport(
            settings.api_url,
            {
                "Authorization": f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "Cache-Control": "no-cache",
                "User-Agent": f"twilio-email-archive/{version.installed()}",
            },
            Limits(
                settings.connect_timeout,
                settings.read_timeout,
                settings.response_timeout,
                settings.max_response_bytes,
            ),
            connections=2 * settings.concurrency,
            proxy=settings.proxy(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; no request begins any more."""
        self._closed.set()
        self._limiter.close()
        self._transport.close()

    def __repr__(self) -> str:
        return f"OperationsClient({self._settings.api_url!r}, {self._settings.account_sid!r})"

    def pages(
        self,
        window: Window,
        *,
        status: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Iterator[Page]:
        """List the operations created in a window, page by page, in the API's order.

        The window is asked with a margin on both sides, since the reference leaves open whether its
        bounds are included (R7): records just outside it may come too, and `scan` drops them.
        An empty page with a token is followed like any other.

        Args:
            window: which operations.
            status: only those of this status.
            page_size: operations per page, 1 to 1000; by default what `page_size` says.
            page_token: begin at this page of an earlier listing of the same window.

        Raises:
            PageTokenError: a token was refused, or came again: begin anew.
            UnexpectedResponseError: JSON that is no page.
        """
        start, end = window.query_bounds()
        query = {
            "startDate": iso_seconds(start),
            "endDate": iso_seconds(end),
            "pageSize": str(page_size or self.page_size.current),
        }
        if status is not None:
            query["status"] = status
        used: set[str] = set()
        token = page_token
        while True:
            if token is not None:
                used.add(token)
            page = self._get(
                _OPERATIONS, parse_page, query | ({} if token is None else {"pageToken": token})
            )
            yield page
            token = page.next_token
            if token is None:
                return
            if token in used:
                msg = (
                    f"GET {_OPERATIONS}: the page token of an earlier page of {window} came again: "
                    "following it would never end. Scan the window anew"
                )
                raise PageTokenError(msg, request_id=page.request_id)

    def operation(self, operation_id: str) -> Page:
        """Fetch one operation: a page of one record.

        Raises:
            NotFoundError: 404: never known, or older than the retention.
            FatalApiError: the id is empty.
        """
        return self._get(_path_of(operation_id), parse_operation, {})

    def operation_errors(self, operation_id: str) -> OperationErrors:
        """Fetch what failed in one operation: the reference names the address, and not the answer.

        So every JSON is taken, and an answer that has pages like a listing's is followed like one.

        Raises:
            NotFoundError: 404: the operation is not known, or older than the retention.
            PageTokenError: a token came again.
            FatalApiError: the id is empty.
        """
        path = f"{_path_of(operation_id)}/Errors"
        errors: list[ErrorRecord] = []
        tries, used, query = 0, set[str](), dict[str, str]()
        while True:
            answer, attempts = self._ask(path, parse_errors, query)
            errors += answer.parsed.errors
            tries += attempts
            token = answer.parsed.next_token
            if token is None:
                return OperationErrors(tuple(errors), answer.observed_at, tries)
            if token in used:
                msg = f"GET {path}: the page token of an earlier page came again"
                raise PageTokenError(msg, request_id=answer.request_id)
            used.add(token)
            query = {"pageToken": token}

    @property
    def overtaken(self) -> int:
        """Requests under way that many later ones have overtaken: they may never be answered."""
        return self._limiter.overtaken

    def clock(self) -> datetime:
        """The API's time in UTC, by one request of page size 1 (R10)."""
        return self._get(_OPERATIONS, parse_page, {"pageSize": "1"}).clock

    def _get(
        self, path: str, parse: Callable[[bytes], ParsedPage], query: Mapping[str, str]
    ) -> Page:
        answer, attempts = self._ask(path, parse, query)
        parsed = answer.parsed
        return Page(
            operations=parsed.operations,
            rejects=parsed.rejects,
            next_token=parsed.next_token,
            records=parsed.records,
            observed_at=answer.observed_at,
            clock=answer.clock,
            request_id=answer.request_id,
            attempts=attempts,
            body_bytes=answer.body_bytes,
        )

    def _ask(
        self, path: str, parse: Callable[[bytes], _Parsed], query: Mapping[str, str]
    ) -> tuple[_Answer[_Parsed], int]:
        """A parsed response, and how many tries it took."""
        return with_retries(
            lambda: self._request(path, parse, query),
            attempts=self._settings.retry_attempts,
            budget=self._settings.retry_seconds,
            sleep=self._limiter.wait,
        )

    def _request(
        self, path: str, parse: Callable[[bytes], _Parsed], query: Mapping[str, str]
    ) -> _Answer[_Parsed]:
        """One try."""
        path = f"{self._base}{path}"
        what = f"GET {path}"
        with self._limiter.slot():
            response = self._response(what, f"{path}?{urlencode(query)}" if query else path)
            if response.status != HTTPStatus.OK:
                shown = self._without_secrets(response.body)
                has_token = "pageToken" in query
                answered_at = self._answered_at(response)
                raise _refusal(what, response, shown, answered_at, has_token=has_token)
        request_id = _request_id(response)
        try:
            with self._parsing:
                parsed = parse(response.body)
        except (DamagedResponseError, UnexpectedResponseError) as error:
            why = self._why_not(parse, response.body, error)
            msg = f"{what}: {why}. Is EMAIL_ARCHIVE_API_URL right ({self._settings.api_url})?"
            raise type(error)(msg, status=response.status, request_id=request_id) from None
        observed_at, clock = self._moments(what, response)
        return _Answer(parsed, observed_at, clock, request_id, len(response.body))

    def _response(self, what: str, target: str) -> Response:
        if self._closed.is_set():
            msg = f"{what}: not asked, since the client is closed"
            raise FatalApiError(msg)
        began = time.monotonic()
        try:
            response = self._transport.get(target)
        except (DamagedResponseError, ResponseTooLargeError) as error:
            msg = f"{what}: {error}"
            raise type(error)(msg, status=error.status) from None
        except RetriableApiError as error:
            url = self._settings.api_url
            msg = f"{what}: {error}. Is the network up and EMAIL_ARCHIVE_API_URL right ({url})?"
            raise type(error)(msg) from None
        seconds = time.monotonic() - began
        log.debug(
            "%s: %d, %d bytes, %.0f ms",
            what,
            response.status,
            len(response.body),
            1000 * seconds,
            extra={
                "event": "request",
                "request": what,
                "status": response.status,
                "bytes": len(response.body),
                "seconds": round(seconds, 6),
                "request_id": _request_id(response),
            },
        )
        return response

    def _moments(self, what: str, response: Response) -> tuple[datetime, datetime]:
        """The moment that a response describes, and what the API's clock shows (R10).

        A response whose Date is far from what the run's first one lets expect is retried. Stored, it would
        claim for ever that hours were scanned which were not, or make those that were look lost.
        """
        date = _date(response)
        if date is None:
            msg = (
                f"{what}: expected a Date header, the archive's clock; got "
                f"{_excerpt(response.headers.get('date', 'none'))!r}"
            )
            raise UnexpectedResponseError(msg, status=response.status)
        clock = date + _age(response)
        self._first_clock = self._first_clock or (clock, time.monotonic())
        expected = self._expected(clock)
        # What comes out of a cache is older; it is not to be older than a run may be.
        if _is_far(clock, expected) or expected - date > _LONGEST_RUN:
            msg = (
                f"{what}: expected a Date near {iso_seconds(expected)}, by the Date that this run "
                f"began with; got {iso_seconds(date)}. Does a proxy send wrong ones?"
            )
            raise RetriableApiError(msg, status=response.status)
        return date, clock

    def _expected(self, clock: datetime) -> datetime:
        """What the API's clock shows by now, if the run's first response was right; `clock` without one."""
        if self._first_clock is None:
            return clock
        first, then = self._first_clock
        return first + timedelta(seconds=time.monotonic() - then)

    def _answered_at(self, response: Response) -> datetime | None:
        """When a refusal was answered; None if it has no Date that can be right."""
        date = _date(response)
        if date is None:
            return None
        clock = date + _age(response)
        return None if _is_far(clock, self._expected(clock)) else clock

    def _without_secrets(self, body: bytes) -> bytes:
        """A body for a message: a proxy may show what it was sent, credentials included (R11)."""
        for secret in self._secrets:
            body = body.replace(secret, b"***")
        return body

    def _why_not(self, parse: Callable[[bytes], object], body: bytes, error: ApiError) -> str:
        """Why an answer can't be read, in words that hold no credential."""
        told = self._without_secrets(body)
        if told != body:
            try:
                parse(told)
            except ApiError as without:
                return str(without)
            return "the answer shows the credentials of the request"
        return str(error)


def _disguises(user: str, secret: str) -> tuple[bytes, ...]:
    """A secret as it goes over the line, and as it may be shown."""
    basic = base64.b64encode(f"{user}:{secret}".encode())
    return tuple({basic, secret.encode(), quote(secret, safe="").encode()})


def _path_of(operation_id: str) -> str:
    if not operation_id or operation_id in (".", ".."):
        msg = f"expected an operation id; got {operation_id!r}"
        raise FatalApiError(msg)
    return f"{_OPERATIONS}/{quote(operation_id, safe='')}"


def _refusal(
    what: str,
    response: Response,
    body: bytes,
    answered_at: datetime | None,
    *,
    has_token: bool,
) -> ApiError:
    """The error for an answer that is not 200, by what can be done about it."""
    status = response.status
    code, message, info_url = _envelope(body)
    said = f"{what}: {status}" + (f" {code}" if code else "") + (f": {message}" if message else "")
    details: dict[str, Any] = {
        "status": status,
        "code": code,
        "info_url": info_url,
        "request_id": _request_id(response),
        "answered_at": answered_at,
    }
    said += f" (see {info_url})" if info_url else ""
    if status in _REDIRECTS and response.headers.get("location"):
        host = urlsplit(response.headers.get("location", "")).hostname
        msg = (
            f"{said}. Redirected to {host or 'another path'}: not followed, since credentials follow "
            "no redirect. Set EMAIL_ARCHIVE_API_URL to the right address"
        )
        return FatalApiError(msg, **details)
    if status in (401, 403):
        msg = (
            f"{said}. The API refuses the credentials: check TWILIO_ACCOUNT_SID with "
            "TWILIO_AUTH_TOKEN, or with TWILIO_API_KEY_SID and TWILIO_API_KEY_SECRET"
        )
        return CredentialsError(msg, **details)
    if code == _INVALID_PAGE_TOKEN or (status == HTTPStatus.BAD_REQUEST and has_token):
        return PageTokenError(f"{said}. The page token is refused: scan the window anew", **details)
    if status in _RETRIABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        asked = parse_retry_after(response.headers.get("retry-after"), _date(response))
        return RetriableApiError(said, retry_after=asked, **details)
    if status == HTTPStatus.NOT_FOUND:
        if what.endswith(_OPERATIONS):
            return FatalApiError(f"{said}. Is EMAIL_ARCHIVE_API_URL right?", **details)
        return NotFoundError(f"{said}. The API does not know this operation (any more)", **details)
    return FatalApiError(said, **details)


def _envelope(body: bytes) -> tuple[int | None, str, str | None]:
    """Code, message and page out of Twilio's error envelope; whatever else came as an excerpt."""
    try:
        answer = json.loads(body)
        first = answer["errors"][0] if "errors" in answer else answer
        code, message, info_url = first.get("code"), first.get("message"), first.get("infoUrl")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None, _excerpt(body.decode(errors="replace")), None
    return (
        code if type(code) is int else None,
        _excerpt(message if isinstance(message, str) else body.decode(errors="replace")),
        _excerpt(info_url) if isinstance(info_url, str) and info_url else None,
    )


def _excerpt(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * _EXCERPT])
    line = " ".join(printable.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}..."


def _age(response: Response) -> timedelta:
    """How long the answer has lain in a cache."""
    age = _SECONDS.fullmatch(response.headers.get("age", "").strip())
    return timedelta(seconds=int(age[0]) if age else 0)


def _is_far(clock: datetime, expected: datetime) -> bool:
    return abs(clock - expected) > _CLOCK_DRIFT


def _date(response: Response) -> datetime | None:
    """Its Date; None if there is none, or none that leaves room to count on from."""
    date = parse_http_date(response.headers.get("date"))
    return date if date and _EPOCH <= date < _LATEST else None


def _request_id(response: Response) -> str | None:
    found = (response.headers.get(name) for name in _REQUEST_IDS)
    return next((_excerpt(value) for value in found if value), None)
