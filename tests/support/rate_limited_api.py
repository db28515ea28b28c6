"""A simulated API and the threads of a client, in virtual time: thousands of requests take a second."""

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from pipeline.twilio.rate_limiter import RateLimiter, Request

_SECONDS_OF_TOKENS = 0.5
_TIMEOUT = 60.0


@dataclass
class Api:
    """How the API responds. Times are seconds.

    Attributes:
        latency: of every response, up to a fifth more or less.
        limit: requests a second that it admits (a token bucket of half a second); others get a 429.
        limits_from: when the limit begins, and random refusals end.
        at_once: requests that it works on at once; others get a 503.
        refused: the share that gets a 429 or 503 at random.
        status: of these.
        retry_after: the Retry-After of a 429.
        unanswered: the share that never gets a response.
    """

    latency: float
    limit: float = 0.0
    limits_from: float = 0.0
    at_once: float = math.inf
    refused: float = 0.0
    status: int = 429
    retry_after: float = 0.0
    unanswered: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        self._lots = random.Random(self.seed)  # noqa: S311 - a simulation's, no secret
        self._tokens, self._filled_at = self.limit * _SECONDS_OF_TOKENS, 0.0
        self.under_way = 0

    def respond(self, now: float) -> tuple[int | None, float]:
        """The status of a request that comes now, and how long that takes; None is a timeout."""
        self.under_way += 1
        if self.under_way > self.at_once:
            return 503, 0.001
        if self.limit and now >= self.limits_from:
            filled = self._tokens + (now - self._filled_at) * self.limit
            self._tokens = min(filled, self.limit * _SECONDS_OF_TOKENS)
            self._filled_at = now
            if self._tokens < 1:
                return 429, self.latency
            self._tokens -= 1
        if self._lots.random() < self.refused and not 0 < self.limits_from <= now:
            return self.status, self.latency
        if self._lots.random() < self.unanswered:
            return None, _TIMEOUT
        return 200, self.latency * self._lots.uniform(0.8, 1.2)


@dataclass
class Run:
    """The results of some requests.

    Attributes:
        ended: the time of each response, in order.
        asked: tries, refusals included.
        refused: tries that got a 429 or 503.
    """

    ended: list[float] = field(default_factory=list)
    asked: int = 0
    refused: int = 0

    @property
    def seconds(self) -> float:
        """How long all of them took."""
        return self.ended[-1]

    @property
    def lost(self) -> float:
        """The share of tries that was refused."""
        return self.refused / self.asked


def run(api: Api, requests: int, *, ceiling: int = 8, warm: bool = False) -> Run:
    """Make requests through a limiter, on as many threads as a scan may have.

    With `warm` as many as the ceiling are under way from the beginning: a fixed concurrency.
    """
    client = _Client(api, requests, ceiling)
    if warm:
        client.warm_up(ceiling)
    return client.run()


class _Client:
    def __init__(self, api: Api, requests: int, ceiling: int) -> None:
        self._api, self._requests, self._now = api, requests, 0.0
        self._limiter = RateLimiter(ceiling, clock=lambda: self._now)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._look_again_at = 0.0
        self._begun = min(2 * ceiling, requests)
        self._ready = [0] * self._begun  # threads that want to ask: how often each has tried
        self._out = Run()

    def warm_up(self, ceiling: int) -> None:
        for _ in range(ceiling):
            self._limiter.end(self._limiter.begin(), 200, None)

    def run(self) -> Run:
        while len(self._out.ended) < self._requests:
            self._begin()
            self._now, _, action = heapq.heappop(self._events)
            action()
        return self._out

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), action))

    def _begin(self) -> None:
        while self._ready and (delay := self._limiter.delay()) is not None:
            if delay > 1e-9:
                if not self._now < self._look_again_at <= self._now + delay:
                    self._look_again_at = self._now + delay
                    self._after(delay, lambda: None)
                return
            self._ask(self._ready.pop(0) + 1)

    def _ask(self, tries: int) -> None:
        request = self._limiter.begin()
        status, took = self._api.respond(self._now)
        self._out.asked += 1
        self._out.refused += status in (429, 503)
        self._after(took, partial(self._end, request, status, tries))

    def _end(self, request: Request, status: int | None, tries: int) -> None:
        self._api.under_way -= 1
        pause = self._api.retry_after if status == 429 else 0.0
        self._limiter.end(request, status, timedelta(seconds=pause))
        if status != 200:
            # As the client's retries wait.
            wait = max(0.25 * 2.5 ** (tries - 1) + 0.125, pause)
            self._after(wait, partial(self._ready.append, tries))
            return
        self._out.ended.append(self._now)
        if self._begun < self._requests:
            self._begun += 1
            self._ready.append(0)
