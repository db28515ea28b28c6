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

    The size stays reduced for the rest of the run. If pages of the smallest size fail too, the size is not
    the cause: it is reset to the first size and not halved again.

    Args:
        first: the size at the start of the run.
    """

    def __init__(self, first: int) -> None:
        self._first = self._current = first
        self._can_help = True
        self._lock = threading.Lock()

    @property
    def current(self) -> int:
        """The size for new requests."""
        return self._current

    def after_failure(self, failed: int, error: ApiError) -> int | None:
        """The size to retry with after pages of size `failed` failed; None if another size won't help."""
        if not _may_be_too_large(error):
            return None
        with self._lock:
            if self._current < failed:  # another thread has already halved it
                return self._current
            if not self._can_help or failed <= min(SMALLEST, self._first):
                self._can_help, self._current = False, self._first
                return None
            self._current = max(failed // 2, SMALLEST)
            return self._current


def _may_be_too_large(error: ApiError) -> bool:
    """Whether a page may have failed because it is too large."""
    if isinstance(error, (ResponseTooLargeError, DamagedResponseError, ResponseTimeoutError)):
        return True
    return (error.status or 0) >= _SERVER_ERROR
