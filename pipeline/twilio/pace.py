"""How many requests are under way at once: few at first, more while the API bears it, half when it does not.

`Pace` is the pure part: what came so far goes in, how to go on comes out. `Gate` is the thin rim that holds
requests back. A 429 says that requests come too fast, which fewer of them at once may not mend where each is
quick: so then they also keep a distance, at the rate that the API bore, which grows again slowly.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from pipeline.twilio.errors import RetriableApiError

_FIRST: Final = 2
_TOLERANCE: Final = 3.0
_TOLERATED: Final = 0.05
"""Latency holds up to so many times the shortest one, and so many seconds: below that it is noise."""

_WEIGHT: Final = 0.2
_BORNE: Final = 0.85
_RATE_GROWTH: Final = 0.03
_SLOWEST: Final = 0.5
_EVIDENCE: Final = 5
"""Answers that a rate is told from, at the least."""

_TOO_MANY, _UNAVAILABLE = 429, 503


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to ask. All times are seconds on one clock that only goes on.

    Attributes:
        ceiling: requests under way at once, at the most: the setting.
        limit: requests that may be under way now; its whole part counts.
        shortest: the shortest time that an answer took.
        latency: what answers take lately.
        rate: requests to begin per second, at the most.
        since: when counting began that `rate` is told from: with the first request, and then with each
            halving.
        answered: answers since then.
        halved_at: when the limit was last halved. What began before that says nothing new.
        resume_at: until then the API asked to be left alone.
    """

    ceiling: int
    limit: float
    shortest: float = math.inf
    latency: float = 0.0
    rate: float = math.inf
    since: float | None = None
    answered: int = 0
    halved_at: float = -math.inf
    resume_at: float = -math.inf

    @classmethod
    def starting(cls, ceiling: int) -> "Pace":
        """The pace of a client that knows nothing yet."""
        return cls(ceiling, float(min(_FIRST, ceiling)))

    def wait(self, under_way: int, last_began: float, now: float) -> float | None:
        """Seconds until another request may begin; None if one that is under way has to end first."""
        if under_way >= int(self.limit):
            return None
        return max(self.resume_at - now, last_began + 1 / self.rate - now, 0.0)

    def after_answer(self, began: float, now: float) -> "Pace":
        """An answer came, whatever it says: the API bears it. The limit grows while latency holds."""
        took = max(now - began, 0.0)
        shortest = min(self.shortest, took)
        latency = took if not self.latency else self.latency + _WEIGHT * (took - self.latency)
        holds = latency <= _TOLERANCE * shortest + _TOLERATED
        # At first it doubles in the time that a request takes; after a refusal it grows by one.
        growth = 1.0 if self.halved_at == -math.inf else 1 / self.limit
        limit = min(self.limit + (growth if holds else 0.0), self.ceiling)
        rate = self.rate * (1 + _RATE_GROWTH / max(self.rate, 1.0))
        since = began if self.since is None else self.since
        return replace(
            self,
            limit=limit,
            shortest=shortest,
            latency=latency,
            rate=rate,
            since=since,
            answered=self.answered + 1,
        )

    def after_refusal(
        self, began: float, now: float, status: int, retry_after: timedelta | None
    ) -> "Pace":
        """The API refused a request: with 429 it came too fast, with 503 there was too much at once."""
        asked = retry_after.total_seconds() if retry_after else 0.0
        paused = replace(self, resume_at=max(self.resume_at, now + asked))
        if began <= self.halved_at:
            return paused
        return replace(
            paused,
            limit=max(self.limit / 2, 1.0),
            rate=self._borne(now + asked) if status == _TOO_MANY else self.rate,
            since=paused.resume_at,
            answered=0,
            halved_at=now,
        )

    def _borne(self, until: float) -> float:
        """A rate that was borne, as far as answers tell of one; half of the rate so far if they don't."""
        if self.since is None or self.answered < _EVIDENCE:
            return max(self.rate / 2, _SLOWEST)
        borne = self.answered / max(until - self.since, 0.1)
        return max(_BORNE * min(borne, self.rate), _SLOWEST)


class Gate:
    """Holds requests back; one for all threads of a client.

    Args:
        pace: how fast to ask at first.
        sleep: waits so many seconds. One that returns early is taken for having waited.
    """

    def __init__(self, pace: Pace, sleep: Callable[[float], None] = time.sleep) -> None:
        self._pace = pace
        self._sleep = sleep
        self._changed = threading.Condition()
        self._under_way = 0
        self._last_began = -math.inf
        self._skipped = 0.0

    @property
    def pace(self) -> Pace:
        """How fast requests go now."""
        return self._pace

    @contextmanager
    def request(self) -> Iterator[None]:
        """Begin a request when there is room for it, and learn from how it ends."""
        began = self._enter()
        refusal: RetriableApiError | None = None
        is_answered = False
        try:
            yield
            is_answered = True
        except RetriableApiError as error:
            # Whatever else went wrong, a broken line for one, tells nothing of what the API bears.
            if error.status in (_TOO_MANY, _UNAVAILABLE):
                refusal = error
            raise
        finally:
            with self._changed:
                now = self._now()
                self._under_way -= 1
                if is_answered:
                    self._pace = self._pace.after_answer(began, now)
                elif refusal is not None and refusal.status is not None:
                    self._pace = self._pace.after_refusal(
                        began, now, refusal.status, refusal.retry_after
                    )
                self._changed.notify_all()

    def _enter(self) -> float:
        while True:
            with self._changed:
                now = self._now()
                wait = self._pace.wait(self._under_way, self._last_began, now)
                if wait is None:
                    self._changed.wait()
                    continue
                if wait == 0:
                    self._under_way += 1
                    self._last_began = now
                    return now
            self.pause(wait)

    def pause(self, seconds: float) -> None:
        """Wait; a `sleep` that returned early has moved the gate's clock on."""
        began = time.monotonic()
        self._sleep(seconds)
        missing = seconds - (time.monotonic() - began)
        if missing > 0:
            with self._changed:
                self._skipped += missing

    def _now(self) -> float:
        return time.monotonic() + self._skipped
