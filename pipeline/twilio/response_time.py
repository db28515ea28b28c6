"""When a response was made, by the API's clock (R10)."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.model.times import iso_seconds
from pipeline.twilio.errors import RetriableApiError, UnexpectedResponseError, excerpt
from pipeline.twilio.retry import parse_http_date
from pipeline.twilio.transport import Response

_MAX_CACHE_AGE: Final = timedelta(days=1)
_MAX_DRIFT: Final = timedelta(minutes=10)
"""How far a response's time may be from the expected one: the clocks of servers differ a little."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9990, 1, 1, tzinfo=UTC)  # leaves room for adding durations
_AGE: Final = re.compile(r"[0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class ResponseTime:
    """Times of a response: UTC, by the API's clock.

    Attributes:
        observed_at: when the data was current: the ``Date`` header. Of a cached response, when it was stored.
        clock: the current time: ``Date`` plus ``Age``.
    """

    observed_at: datetime
    clock: datetime


class ResponseClock:
    """Reads the time of each response of a run, and rejects implausible ones.

    The times of later responses are compared with the first one's. A wrong time must not be stored: slots
    would count as scanned that were not, or as lost that were scanned.
    """

    def __init__(self) -> None:
        self._first: tuple[datetime, float] | None = None

    def read(self, response: Response) -> ResponseTime:
        """The time of a response.

        Raises:
            UnexpectedResponseError: it has no valid ``Date`` header.
            RetriableApiError: the time is far from the expected one, or the response was cached for too long.
        """
        date = date_of(response)
        if date is None:
            got = excerpt(response.headers.get("date", "none"))
            msg = f"expected a Date header, the archive's clock; got {got!r}"
            raise UnexpectedResponseError(msg, status=response.status)
        clock = date + _age_of(response)
        self._first = self._first or (clock, time.monotonic())
        expected = self._expected(clock)
        if _is_far(clock, expected) or expected - date > _MAX_CACHE_AGE:
            msg = (
                f"expected a Date near {iso_seconds(expected)}, by the Date that this run began with; "
                f"got {iso_seconds(date)}. Does a proxy send wrong ones?"
            )
            raise RetriableApiError(msg, status=response.status)
        return ResponseTime(date, clock)

    def read_error(self, response: Response) -> datetime | None:
        """The time of an error response; None if it has no plausible one."""
        date = date_of(response)
        if date is None:
            return None
        clock = date + _age_of(response)
        return None if _is_far(clock, self._expected(clock)) else clock

    def _expected(self, clock: datetime) -> datetime:
        """The current time, counted on from the run's first response; `clock` if there was none yet."""
        if self._first is None:
            return clock
        first, began = self._first
        return first + timedelta(seconds=time.monotonic() - began)


def date_of(response: Response) -> datetime | None:
    """The ``Date`` header in UTC; None if it is absent or invalid."""
    date = parse_http_date(response.headers.get("date"))
    return date if date and _EPOCH <= date < _LATEST else None


def _age_of(response: Response) -> timedelta:
    """The ``Age`` header: how long the response has been in a cache."""
    age = _AGE.fullmatch(response.headers.get("age", "").strip())
    return timedelta(seconds=int(age[0]) if age else 0)


def _is_far(clock: datetime, expected: datetime) -> bool:
    return abs(clock - expected) > _MAX_DRIFT
