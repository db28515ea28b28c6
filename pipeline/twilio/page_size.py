"""The page size of a run's listings: halved when large pages fail.

Twilio's other list endpoints are known to answer 500 at a page size of 1000 where 100 works (airbyte#23512).
"""

import threading
from typing import Final

from pipeline.twilio.errors import (
    ApiError,
    DamagedResponseError,
    ResponseTimeoutError,
    ResponseTooLargeError,
)

SMALLEST: Final = 50
_SERVER_ERROR: Final = 500


class PageSize:
    """How many operations to request per page. Shared by the threads of a client.

    A smaller size holds for the rest of the run. If pages of the smallest size fail too, the size is not the
    reason: the run goes on with the first size, and does not halve it again.

    Args:
        first: the size that the run begins with.
    """

    def __init__(self, first: int) -> None:
        self._first = self._current = first
        self._may_help = True
        self._lock = threading.Lock()

    @property
    def current(self) -> int:
        """The size to ask for now."""
        return self._current

    def after_failure(self, failed: int, error: ApiError) -> int | None:
        """The size to list with again after a page of `failed` operations failed; None if none may help."""
        if not _may_be_too_large(error):
            return None
        with self._lock:
            if self._current < failed:  # another listing has halved it meanwhile
                return self._current
            if not self._may_help or failed <= min(SMALLEST, self._first):
                self._may_help, self._current = False, self._first
                return None
            self._current = max(failed // 2, SMALLEST)
            return self._current


def _may_be_too_large(error: ApiError) -> bool:
    """Whether a page may have failed because it is too large."""
    if isinstance(error, (ResponseTooLargeError, DamagedResponseError, ResponseTimeoutError)):
        return True
    return (error.status or 0) >= _SERVER_ERROR
