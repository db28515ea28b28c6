"""The Email Operations API over HTTP.

Usable alone::

    with OperationsClient(Settings.load()) as client:
        for page in client.pages(Window(start, end)):
            page.operations  # a pyarrow.Table

A client may be shared by many threads: their requests share one rate limiter.
"""

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, Generic, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import pyarrow as pa

from pipeline import version
from pipeline.model.times import iso_seconds
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.error_response import error_of, request_id_of
from pipeline.twilio.errors import (
    ApiError,
    DamagedResponseError,
    FatalApiError,
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
from pipeline.twilio.redaction import Redaction
from pipeline.twilio.response_time import ResponseClock, ResponseTime
from pipeline.twilio.retry import with_retries
from pipeline.twilio.transport import Limits, Response, Transport

log = logging.getLogger(__name__)

_OPERATIONS: Final = "/Emails/Operations"
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of operations.

    Attributes:
        operations: the records that could be parsed, as `schema.RECORD_SCHEMA`.
        rejects: the records that could not.
        next_token: the token of the next page; None on the last page.
        records: the number of records, rejects included.
        observed_at: when the page was current: UTC, by the API's clock (R10). Of a cached response, when
            it was stored.
        clock: the API's time when the response was received. Later than `observed_at` if it was cached.
        request_id: the server's id of the request; None if it sends none.
        attempts: requests made, retries included.
        body_bytes: size of the decompressed body.
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
    """The errors of one operation.

    Attributes:
        errors: the errors, in the API's order.
        observed_at: when the last page of them was current: UTC, by the API's clock (R10).
        attempts: requests made, retries included.
    """

    errors: tuple[ErrorRecord, ...]
    observed_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class _Result(Generic[_Parsed]):
    """A parsed response."""

    parsed: _Parsed
    time: ResponseTime
    request_id: str | None
    body_bytes: int


class OperationsClient:
    """The Email Operations API for one account.

    Closing the client ends the requests of other threads at their next attempt, page or wait.

    Args:
        settings: address, credentials, page size, timeouts, retries, limits.
        sleep: waits so many seconds between attempts. By default the wait also ends when the client is
            closed.

    Attributes:
        page_size: operations per page by default.

    Every request raises:
        CredentialsError: 401 or 403.
        FatalApiError: an error that a retry can't fix.
        RetriableApiError: an error that remained after all retries.
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
        # One response at a time: parsing on 8 threads at once takes a tenth more CPU time.
        self._parsing = threading.Lock()
        self._clock = ResponseClock()
        self._redaction = Redaction(*settings.basic_auth())
        self._limiter = RateLimiter(
            settings.concurrency, sleep or self._closed.wait, settings.retry_max_wait
        )
        self._transport = _transport(settings)
        self.page_size = PageSize(settings.page_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and start no more requests."""
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

        The query bounds have a margin on both sides, since the reference does not say whether they are
        inclusive (R7). So pages may have records just outside the window; `scan` drops them.
        An empty page with a token is followed like any other.

        Args:
            window: the range of creation times.
            status: only operations of this status.
            page_size: operations per page, 1 to 1000; by default `self.page_size`.
            page_token: start at this page of an earlier listing of the same window.

        Raises:
            PageTokenError: a token was refused or repeated: list the window again.
            UnexpectedResponseError: JSON that is not a page.
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
            page = self._get_page(
                _OPERATIONS, parse_page, query | ({} if token is None else {"pageToken": token})
            )
            yield page
            token = page.next_token
            if token is None:
                return
            if token in used:
                msg = (
                    f"GET {_OPERATIONS}: the page token of an earlier page of {window} was repeated: "
                    "following it would never end. Scan the window again"
                )
                raise PageTokenError(msg, request_id=page.request_id)

    def operation(self, operation_id: str) -> Page:
        """Fetch one operation: a page of one record.

        Raises:
            NotFoundError: 404: it never existed, or is older than the retention.
            FatalApiError: the id is empty.
        """
        return self._get_page(_path_of(operation_id), parse_operation, {})

    def operation_errors(self, operation_id: str) -> OperationErrors:
        """Fetch the errors of one operation.

        The reference documents the path but not the response: any JSON is accepted, and pages are followed
        like those of a listing.

        Raises:
            NotFoundError: 404: the operation never existed, or is older than the retention.
            PageTokenError: a token was repeated.
            FatalApiError: the id is empty.
        """
        path = f"{_path_of(operation_id)}/Errors"
        errors: list[ErrorRecord] = []
        attempts, used, query = 0, set[str](), dict[str, str]()
        while True:
            result, tries = self._get(path, parse_errors, query)
            errors += result.parsed.errors
            attempts += tries
            token = result.parsed.next_token
            if token is None:
                return OperationErrors(tuple(errors), result.time.observed_at, attempts)
            if token in used:
                msg = f"GET {path}: the page token of an earlier page was repeated"
                raise PageTokenError(msg, request_id=result.request_id)
            used.add(token)
            query = {"pageToken": token}

    @property
    def overtaken(self) -> int:
        """Requests in flight that many later ones have overtaken; they may never get a response."""
        return self._limiter.overtaken

    def clock(self) -> datetime:
        """The API's time in UTC, by one request of page size 1 (R10)."""
        return self._get_page(_OPERATIONS, parse_page, {"pageSize": "1"}).clock

    def any_operations(self) -> pa.Table:
        """Some of the account's operations, by one request of a full page."""
        query = {"pageSize": str(self.page_size.current)}
        return self._get_page(_OPERATIONS, parse_page, query).operations

    def _get_page(
        self, path: str, parse: Callable[[bytes], ParsedPage], query: Mapping[str, str]
    ) -> Page:
        result, attempts = self._get(path, parse, query)
        parsed = result.parsed
        return Page(
            operations=parsed.operations,
            rejects=parsed.rejects,
            next_token=parsed.next_token,
            records=parsed.records,
            observed_at=result.time.observed_at,
            clock=result.time.clock,
            request_id=result.request_id,
            attempts=attempts,
            body_bytes=result.body_bytes,
        )

    def _get(
        self, path: str, parse: Callable[[bytes], _Parsed], query: Mapping[str, str]
    ) -> tuple[_Result[_Parsed], int]:
        """A parsed response, and the number of attempts."""
        return with_retries(
            lambda: self._request(path, parse, query),
            attempts=self._settings.retry_attempts,
            budget=self._settings.retry_max_wait,
            sleep=self._limiter.wait,
            account=self._settings.account_sid,
        )

    def _request(
        self, path: str, parse: Callable[[bytes], _Parsed], query: Mapping[str, str]
    ) -> _Result[_Parsed]:
        request = f"GET {self._base}{path}"
        target = f"{self._base}{path}"
        with self._limiter.slot():
            response = self._send(request, f"{target}?{urlencode(query)}" if query else target)
            if response.status != HTTPStatus.OK:
                raise error_of(
                    request,
                    response,
                    self._redaction.mask(response.body),
                    self._clock.read_error(response),
                    self._settings,
                    is_listing=path == _OPERATIONS,
                    has_token="pageToken" in query,
                )
        request_id = request_id_of(response)
        try:
            with self._parsing:
                parsed = parse(response.body)
        except (DamagedResponseError, UnexpectedResponseError) as error:
            reason = self._redaction.reason(error, parse, response.body)
            msg = f"{request}: {reason}. Is EMAIL_ARCHIVE_API_URL right ({self._settings.api_url})?"
            raise type(error)(msg, status=response.status, request_id=request_id) from None
        try:
            observed = self._clock.read(response)
        except ApiError as error:
            msg = f"{request}: {error}"
            raise type(error)(msg, status=error.status) from None
        return _Result(parsed, observed, request_id, len(response.body))

    def _send(self, request: str, target: str) -> Response:
        if self._closed.is_set():
            msg = f"{request}: not sent, since the client is closed"
            raise FatalApiError(msg)
        began = time.monotonic()
        try:
            response = self._transport.get(target)
        except (DamagedResponseError, ResponseTooLargeError) as error:
            msg = f"{request}: {error}"
            raise type(error)(msg, status=error.status) from None
        except RetriableApiError as error:
            url = self._settings.api_url
            msg = f"{request}: {error}. Is the network up and EMAIL_ARCHIVE_API_URL right ({url})?"
            raise type(error)(msg) from None
        _log(request, response, time.monotonic() - began)
        return response


def _transport(settings: Settings) -> Transport:
    user, secret = settings.basic_auth()
    return Transport(
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


def _path_of(operation_id: str) -> str:
    if not operation_id or operation_id in (".", ".."):
        msg = f"expected an operation id; got {operation_id!r}"
        raise FatalApiError(msg)
    return f"{_OPERATIONS}/{quote(operation_id, safe='')}"


def _log(request: str, response: Response, seconds: float) -> None:
    log.debug(
        "%s: %d, %d bytes, %.0f ms",
        request,
        response.status,
        len(response.body),
        1000 * seconds,
        extra={
            "event": "request",
            "request": request,
            "status": response.status,
            "bytes": len(response.body),
            "seconds": round(seconds, 6),
            "request_id": request_id_of(response),
        },
    )
