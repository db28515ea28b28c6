"""Errors of the API, grouped by what the caller can do about them.

- `FatalApiError`: retrying does not help. Wrong credentials, a malformed request, a wrong address, a
  response of an unknown shape.
- `RetriableApiError`: the same request may succeed later. Rate limits, server errors, a broken
  connection, a damaged response. When the client raises it, the retries are used up.
- `NotFoundError`: the API does not know this operation (any more).

Messages hold the method, the path and the server's message, and never a credential (R11).
"""

from datetime import datetime, timedelta
from typing import Final, Self

from pipeline.errors import ArchiveError

_EXCERPT_LENGTH: Final = 200


class ApiError(ArchiveError):
    """A request failed: an error response, an unusable response, or none at all.

    Attributes:
        status: the HTTP status; None without a response.
        code: Twilio's error code; None if the response has none.
        info_url: the page that Twilio names for that code, or None.
        request_id: the server's id of the request, or None.
        retry_after: the wait that ``Retry-After`` asks for, or None.
        responded_at: when the response was made: UTC, by the API's clock; None if that is not known.
        attempts: requests made, retries included.
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
        responded_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.info_url = info_url
        self.request_id = request_id
        self.retry_after = retry_after
        self.responded_at = responded_at
        self.attempts = 1

    def with_note(self, note: str) -> Self:
        """A copy of this error with `note` appended to its message."""
        error = type(self)(
            f"{self}{note}",
            status=self.status,
            code=self.code,
            info_url=self.info_url,
            request_id=self.request_id,
            retry_after=self.retry_after,
            responded_at=self.responded_at,
        )
        error.attempts = self.attempts
        return error


class FatalApiError(ApiError):
    """Retrying does not help: 400, 401, 403, a redirect, a response of an unknown shape."""


class CredentialsError(FatalApiError):
    """401 or 403: the account SID, token or key is wrong, or may not read email operations."""


class PageTokenError(FatalApiError):
    """The page token was refused or repeated: the listing must start again."""


class UnexpectedResponseError(FatalApiError):
    """JSON that is neither a page nor an operation; never treated as an empty result (R9)."""


class ResponseTooLargeError(FatalApiError):
    """The response is larger than EMAIL_ARCHIVE_MAX_RESPONSE_BYTES."""


class RetriableApiError(ApiError):
    """The same request may succeed later: 429, 5xx, a broken or timed-out connection."""


class ResponseTimeoutError(RetriableApiError):
    """Connected, but the complete response did not arrive in time."""


class DamagedResponseError(RetriableApiError):
    """A response whose body is not valid JSON: truncated, HTML of a proxy, broken encoding."""


class NotFoundError(ApiError):
    """404 for one operation: it never existed, or is older than the retention."""


def excerpt(text: str) -> str:
    """The first 200 characters of a server's text, on one line, for a message."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * _EXCERPT_LENGTH])
    line = " ".join(printable.split())
    return line if len(line) <= _EXCERPT_LENGTH else f"{line[:_EXCERPT_LENGTH]}..."
