"""A rate limiter: bounds how many requests are under way at once, and how many begin in a second."""

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
"""Each accepted response raises the rate by this share. After 200 in a row the share grows with their number:
after 400 it is twice as large."""

_PAUSE: Final = 1.0
"""Seconds without new requests after a 429 without Retry-After."""

_BURST: Final = 0.5
"""Seconds of its rate that an API is expected to admit at once after a pause, as token buckets do."""

_FEW: Final = 8
"""With fewer requests between two refusals, the API's rate can't be estimated."""

_MANY: Final = 60
"""With more requests between two refusals, the refusals are not taken for random."""

_RECENT: Final = 60
_DENSE: Final = 5
"""With this many refusals among the recent responses, they are not taken for random."""

_OVERTAKEN: Final = 3
"""Times the ceiling: a request that so many later ones have overtaken may never be answered."""


@dataclass(slots=True)
class Request:
    """A request under way.

    Attributes:
        number: its number, in the order in which requests begin.
        began: the time when it began, by the limiter's clock.
        overtaken: the number of later requests that got their response first.
    """

    number: int
    began: float
    overtaken: int = 0


class RateLimiter:
    """Bounds requests for all threads of a client.

    Requests under way grow by one with each response, up to the ceiling. Their rate is not limited until the
    API refuses one with 429 or 503. Then:

    - All requests wait until its Retry-After has passed; after a 429 without one, for a second.
    - The rate is set to that of the requests accepted since the previous refusal, and grows slowly.
    - If refusals are not rarer at the lower rate, the rate is not their cause: the limit is removed, and a
      refusal delays only its own request, until there are 5 refusals in 60 responses.

    A request that many later ones have overtaken does not count as under way, so that a request without a
    response does not block others until it times out. The ceiling limits the number of such requests too.

    Args:
        ceiling: the most requests under way at once.
        sleep: waits a number of seconds. If it returns early, the time counts as waited.
        longest: the longest Retry-After in seconds that is waited for; a longer one is an error.
        clock: a monotonic clock, in seconds.
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
        # These decide whether to slow down: the first request since the last slow-down, the refusals since
        # then, the requests accepted before it, and whether slowing down did not help.
        self._first: Request | None = None
        self._refused = self._spacing = 0
        self._is_random = False
        self._recent = deque[bool](maxlen=_RECENT)

    @property
    def overtaken(self) -> int:
        """The number of requests under way that many others have overtaken."""
        with self._changed:
            return len(self._under_way) - self._counted()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may begin; adapt the limits to its response.

        Raises:
            RetriableApiError: the API requires a longer pause than this limiter waits.
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
        """Stop limiting: waiting threads go on at once, and find that their client is closed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait between two tries of a request."""
        began = self._clock()
        self._sleep(seconds)
        with self._changed:
            self._skipped += max(seconds - (self._clock() - began), 0.0)

    def _acquire(self) -> Request:
        """Wait until a request may begin. Threads begin in the order in which they came."""
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
            f"not requested: the API asked for {pause:.0f} s without any request, and this run waits for "
            f"{self._longest:.0f} s at the most"
        )
        log.warning(msg, extra={"event": "held_back", "wait_seconds": round(pause, 3)})
        return RetriableApiError(msg, retry_after=timedelta(seconds=pause))

    # The rules, on the limiter's clock.

    def delay(self) -> float | None:
        """Seconds until a request may begin; None if one that is under way has to end first."""
        if self._counted() >= self._limit or len(self._under_way) >= 2 * self._ceiling:
            return None
        return max(self._resume_at - self._now(), self._next_at - self._now(), 0.0)

    def begin(self) -> Request:
        """Note that a request begins."""
        now = self._now()
        self._begun += 1
        request = self._under_way[self._begun] = Request(self._begun, now)
        self._next_at = now if math.isinf(self._rate) else max(self._next_at, now) + 1 / self._rate
        if self._first is None:
            self._first, self._refused = request, 0
        return request

    def end(self, request: Request, status: int | None, retry_after: timedelta | None) -> None:
        """Note that a request has ended: with a response's status, or None without a response."""
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
            self._restart_measurement()
        held_before = max(self._resume_at, self._now())
        self._resume_at = max(self._resume_at, self._now() + pause)
        first = self._first
        if first is None or request.number < first.number:
            return  # it began before the last slow-down
        accepted = request.number - first.number + 1 - self._refused
        if accepted < _FEW:
            first.began += max(self._resume_at - held_before, 0.0)
            return
        if accepted <= min(self._spacing, _MANY) and not is_dense:
            self._is_random, self._rate = True, math.inf
        else:
            took = request.began - first.began
            took += _BURST if pause else took / 20
            self._rate = min(self._rate, accepted / max(took, 0.001))
            self._spacing = accepted
        self._restart_measurement()

    def _restart_measurement(self) -> None:
        self._first = None
        self._recent.clear()

    def _counted(self) -> int:
        """Requests under way, but for those that many others have overtaken."""
        many = _OVERTAKEN * self._ceiling
        return sum(request.overtaken < many for request in self._under_way.values())

    def _now(self) -> float:
        return self._clock() + self._skipped
