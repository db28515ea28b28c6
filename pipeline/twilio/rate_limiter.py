"""Limits the requests in flight and the rate of requests."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pipeline.twilio.errors import ApiError, RetriableApiError

log = logging.getLogger(__name__)

_FIRST: Final = 2
_TOO_MANY, _UNAVAILABLE = 429, 503
_GROWTH: Final = 0.001
"""Share by which each response raises the rate; doubled after 400 responses in a row without refusal."""

_PAUSE: Final = 1.0
"""Seconds that requests are delayed after a 429 without Retry-After."""

_BURST: Final = 0.5
"""Burst that an API is expected to accept after a pause, in seconds of its rate (token bucket)."""

_FEW: Final = 8
"""With fewer requests between two refusals, no rate can be measured."""

_MANY: Final = 60
"""With more requests between two refusals, they are not taken to be random."""

_RECENT: Final = 60
_DENSE: Final = 5
"""With as many refusals among the recent responses, they are not random."""

_OVERTAKEN: Final = 3
"""Multiple of the ceiling: a request overtaken by more later ones may never get a response."""


@dataclass(slots=True)
class Request:
    """A request in flight.

    Attributes:
        number: consecutive number, in order of start.
        began: start, on the limiter's clock.
        overtaken: how many later requests have ended before it.
    """

    number: int
    began: float
    overtaken: int = 0


class RateLimiter:
    """Limits the requests of all threads of a client.

    The limit of requests in flight grows by one with each response, up to the ceiling. The rate is not
    limited until the API refuses a request with 429 or 503. Then:

    - All requests wait for its Retry-After; after a 429 without one, for a second.
    - The rate is set to what the API accepted since the previous refusal, and grows slowly.
    - If refusals do not become rarer at the lower rate, they are random. The rate limit is removed, and a
      refusal delays only its own request, until 5 of 60 responses are refusals.

    A request that many later ones have overtaken no longer counts as in flight, so that a request without
    response takes no slot until it times out. There are at most as many of these as the ceiling.

    Args:
        ceiling: requests in flight at most.
        sleep: waits a number of seconds. If it returns early, the rest counts as waited.
        longest: longest pause in seconds that Retry-After may ask for; a longer one is an error.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        ceiling: int,
        sleep: Callable[[float], object] = time.sleep,
        longest: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ceiling, self._sleep, self._longest, self._clock = ceiling, sleep, longest, clock
        self._changed = threading.Condition()
        self._queue: list[object] = []
        self._is_closed = False
        self._skipped = 0.0  # by a sleep that returned early
        self._limit = min(_FIRST, ceiling)
        self._rate = math.inf
        self._next_at = self._resume_at = -math.inf
        self._under_way: dict[int, Request] = {}
        self._begun = 0
        self._accepted_in_a_row = 0
        # Since the last change of the rate: the first request, and how many were refused. Before it: how
        # many were accepted between refusals. And whether a lower rate did not help.
        self._first: Request | None = None
        self._refused = self._spacing = 0
        self._is_random = False
        self._recent = deque[bool](maxlen=_RECENT)

    @property
    def overtaken(self) -> int:
        """Requests in flight that do not count."""
        with self._changed:
            return len(self._under_way) - self._counted()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may start, and note how it ends.

        Raises:
            RetriableApiError: the API asked for a longer pause than this limiter waits.
        """
        request = self._acquire()
        status, retry_after = None, None
        try:
            yield
            status = 200
        except ApiError as error:
            status, retry_after = error.status, error.retry_after
            raise
        finally:
            with self._changed:
                self.end(request, status, retry_after)
                self._changed.notify_all()

    def close(self) -> None:
        """Release all waiting requests: they find that the client is closed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait between two attempts of a request."""
        began = self._clock()
        self._sleep(seconds)
        with self._changed:
            self._skipped += max(seconds - (self._clock() - began), 0.0)

    def _acquire(self) -> Request:
        """Wait until a request may start. Threads start in order of arrival."""
        turn = object()
        with self._changed:
            self._queue.append(turn)
        try:
            while True:
                with self._changed:
                    is_next = self._queue[0] is turn
                    delay = self.delay() if is_next else None
                    if self._is_closed or delay == 0:
                        return self.begin()
                    if is_next and self._resume_at - self._now() > self._longest:
                        raise self._too_long(self._resume_at - self._now())
                    if delay is None:
                        self._changed.wait()
                        continue
                self.wait(delay)
        finally:
            with self._changed:
                self._queue.remove(turn)
                self._changed.notify_all()

    def _too_long(self, pause: float) -> RetriableApiError:
        msg = (
            f"not asked: the API asked for {pause:.0f} s without any request, and this run waits for "
            f"{self._longest:.0f} s at the most"
        )
        log.warning(msg, extra={"event": "held_back", "wait_seconds": round(pause, 3)})
        return RetriableApiError(msg, retry_after=timedelta(seconds=pause))

    # The rules. Times are on the limiter's clock.

    def delay(self) -> float | None:
        """Seconds until a request may start; None if another one must end first."""
        if self._counted() >= self._limit or len(self._under_way) >= 2 * self._ceiling:
            return None
        return max(self._resume_at - self._now(), self._next_at - self._now(), 0.0)

    def begin(self) -> Request:
        """Note that a request starts."""
        now = self._now()
        self._begun += 1
        request = self._under_way[self._begun] = Request(self._begun, now)
        self._next_at = now if math.isinf(self._rate) else max(self._next_at, now) + 1 / self._rate
        if self._first is None:
            self._first, self._refused = request, 0
        return request

    def end(self, request: Request, status: int | None, retry_after: timedelta | None) -> None:
        """Note that a request has ended, with the status of its response or None."""
        del self._under_way[request.number]
        for other in self._under_way.values():
            other.overtaken += other.number < request.number
        if status in (_TOO_MANY, _UNAVAILABLE):
            self._recent.append(True)
            pause = retry_after.total_seconds() if retry_after else 0.0
            self._refuse(request, max(pause, _PAUSE) if status == _TOO_MANY else pause)
        elif status is not None:
            self._recent.append(False)
            self._accepted_in_a_row += 1
            self._limit = min(self._limit + 1, self._ceiling)
            self._rate *= 1 + _GROWTH * max(1.0, self._accepted_in_a_row / 200)

    def _refuse(self, request: Request, pause: float) -> None:
        self._refused += 1
        self._accepted_in_a_row = 0
        is_dense = sum(self._recent) >= _DENSE
        if self._is_random:
            if not is_dense:
                return
            self._is_random, self._spacing = False, 0
            self._measure_anew()
        held_before = max(self._resume_at, self._now())
        self._resume_at = max(self._resume_at, self._now() + pause)
        first = self._first
        if first is None or request.number < first.number:
            return  # it began before the last slow-down
        borne = request.number - first.number + 1 - self._refused
        if borne < _FEW:
            first.began += max(self._resume_at - held_before, 0.0)
            return
        if borne <= min(self._spacing, _MANY) and not is_dense:
            self._is_random, self._rate = True, math.inf
        else:
            took = request.began - first.began
            took += _BURST if pause else took / 20
            self._rate = min(self._rate, borne / max(took, 0.001))
            self._spacing = borne
        self._measure_anew()

    def _measure_anew(self) -> None:
        self._first = None
        self._recent.clear()

    def _counted(self) -> int:
        """Requests in flight, without those that many others have overtaken."""
        many = _OVERTAKEN * self._ceiling
        return sum(request.overtaken < many for request in self._under_way.values())

    def _now(self) -> float:
        return self._clock() + self._skipped
