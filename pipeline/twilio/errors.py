"""What can go wrong with the API, grouped by what the caller can do about it.

- `FatalApiError`: no repetition mends it. Credentials, a malformed request, a wrong address, an
  answer of an unknown shape.
- `RetriableApiError`: the same request may succeed later. Rate limits, server faults, a broken
  connection, an answer that arrived damaged. The client has already retried it when it is raised.
- `NotFoundError`: the API does not know this operation (any more).

No message here ever holds a credential (R11): errors carry the method, the URL without user info,
and what the server said.
"""

from datetime import datetime, timedelta
from typing import Self

from pipeline.errors import ArchiveError


class ApiError(ArchiveError):
    """An answer, or the lack of one, that is not the requested data.

    Attributes:
        status: the HTTP status, or None when no answer came.
        code: Twilio's error code from the answer's envelope, or None.
        info_url: the page that Twilio names for that code, or None.
        request_id: the server's id of the request, or None.
        retry_after: how long the server asked to wait, or None.
        answered_at: when it was answered: UTC, by the API's clock; None if that is not known.
        attempts: requests that were made for it, retries included.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: int | None = None,
        info_url: str | None = None,
        request_id: str | None = None,
        retry_after: timedelta | None = None,
        answered_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.info_url = info_url
        self.request_id = request_id
        self.retry_after = retry_after
        self.answered_at = answered_at
        self.attempts = 1

    def with_note(self, note: str) -> Self:
        """The same error with more text after its message."""
        error = type(self)(
            f"{self}{note}",
            status=self.status,
            code=self.code,
            info_url=self.info_url,
            request_id=self.request_id,
            retry_after=self.retry_after,
            answered_at=self.answered_at,
        )
        error.attempts = self.attempts
        return error


class FatalApiError(ApiError):
    """Repeating the request cannot help: 400, 401, 403, a redirect, an answer of unknown shape."""


class CredentialsError(FatalApiError):
    """401 or 403: the account SID, token or key is wrong, or may not read email operations."""


class PageTokenError(FatalApiError):
    """The page token was refused, or came again: the listing has to begin anew."""


class UnexpectedResponseError(FatalApiError):
    """JSON of a shape that is not a page or an operation: never taken for an empty result (R9)."""


class ResponseTooLargeError(FatalApiError):
    """The answer is larger than the setting allows."""


class RetriableApiError(ApiError):
    """The same request may succeed later: 429, 5xx, a broken or timed-out connection."""


class ResponseTimeoutError(RetriableApiError):
    """A connection was made, and no whole response came in time."""


class DamagedResponseError(RetriableApiError):
    """A 200 whose body is not the JSON it should be: cut off, HTML of a proxy, broken encoding."""


class NotFoundError(ApiError):
    """404 for one operation: never known, or older than the retention."""
