"""How many requests are under way at once: few at first, more while the API bears it, half when it does not.

`Pace` is the pure part: what came so far goes in, how to go on comes out. `Gate` is the thin rim that holds
requests back. More of them at once are of use as long as this process waits for the API: one that is busy
with the answers already would only have its threads take the processor from each other. A 429 says that
requests come too fast, which fewer of them at once may not mend where each is quick: so then they also keep a
distance, at the rate that the API bore, which grows again slowly.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from pipeline.twilio.errors import RetriableApiError

log = logging.getLogger(__name__)

_FIRST: Final = 2
_GROWTH: Final = 0.5
"""What an answer adds: so the limit grows by half in the time that one request takes."""

_TOLERANCE: Final = 2.0
_TOLERATED: Final = 0.02
"""Latency holds up to so many times the shortest one, and so many seconds: below that it is noise."""

_MANY: Final = 1000
"""Times of work that are waited for: then work limits nothing."""

_FORGOTTEN: Final = 0.01
"""By this share the shortest time grows with each answer: luck does not stand for ever."""

_BUSY: Final = 1.25
"""A process is busy where an answer, waiting included, takes less than so many times the work on as many
answers as may come at once."""

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
        shortest: the shortest time that an answer was waited for lately, by its size: a full page takes
            longer than an empty one, whatever the API bears. Sizes are told apart by their powers of 2.
        strain: what answers take lately, as a share of what is tolerated: above 1 latency does not hold.
        waited: the shortest times of what answers came lately, on average.
        worked: what these answers took of this process's own time on a processor, on average.
        rate: requests to begin per second, at the most.
        since: when counting began that `rate` is told from: with the first request, and then with each
            halving.
        answered: answers since then.
        halved_at: when the limit was last halved. What began before that says nothing new.
        resume_at: until then the API asked to be left alone.
    """

    ceiling: int
    limit: float
    shortest: Mapping[int, float] = field(default_factory=dict)
    strain: float = 0.0
    waited: float = 0.0
    worked: float = 0.0
    rate: float = math.inf
    since: float | None = None
    answered: int = 0
    halved_at: float = -math.inf
    resume_at: float = -math.inf

    @classmethod
    def starting(cls, ceiling: int) -> "Pace":
        """The pace of a client that knows nothing yet."""
        return cls(ceiling, float(min(_FIRST, ceiling)))

    @property
    def leaves_time(self) -> bool:
        """Whether this process has time for other work while as many requests as may be are under way."""
        return self.waited + self.worked > _BUSY * self.ceiling * self.worked

    def wait(self, under_way: int, last_began: float, now: float) -> float | None:
        """Seconds until another request may begin; None if one that is under way has to end first."""
        if under_way >= max(int(self.limit), 1):
            return None
        return max(self.resume_at - now, last_began + 1 / self.rate - now, 0.0)

    def after_answer(
        self, began: float, waited: float, size: int = 0, worked: float = 0.0
    ) -> "Pace":
        """An answer came: the API bears it. The limit grows while latency holds and waiting is to be shared.

        Args:
            began: when it was asked for.
            waited: how long it was waited for, without what `worked` counts.
            size: its bytes.
            worked: what it took of this process's own time on a processor.
        """
        kind = size.bit_length()
        known = self.shortest.get(kind, math.inf)
        shortest = min(known * (1 + _FORGOTTEN), waited)
        strain = waited / (_TOLERANCE * shortest + _TOLERATED)
        strain = self.strain + _WEIGHT * (strain - self.strain)
        since = began if self.since is None else self.since
        mean_waited = self.waited + _WEIGHT * (shortest - self.waited)
        mean_worked = self.worked + _WEIGHT * (worked - self.worked)
        grown = self.limit + (_GROWTH if strain <= 1 else 0.0)
        return replace(
            self,
            limit=min(grown, self.ceiling, _useful(mean_waited, mean_worked)),
            shortest={**self.shortest, kind: shortest},
            strain=strain,
            waited=mean_waited,
            worked=mean_worked,
            rate=self.rate * (1 + _RATE_GROWTH / max(self.rate, 1.0)),
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


def _useful(waited: float, worked: float) -> float:
    """How many requests at once keep this process busy: more of them would only wait for it."""
    if waited > _MANY * worked:
        return math.inf
    return math.ceil(1 + waited / worked) if worked else 1


class Asked:
    """A request under way: tells its gate when its answer is there, and how large it is.

    What the thread does from then on until it leaves the gate, reading the answer above all, is its work.

    Args:
        now: the gate's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._worked = time.thread_time()
        self.began = now()
        self.waited: float | None = None
        self.size = 0

    def answered(self, size: int) -> None:
        """The whole answer came, in so many bytes."""
        worked = time.thread_time() - self._worked
        self.waited = max(self._now() - self.began - worked, 0.0)
        self.size = size


class Gate:
    """Holds requests back; one for all threads of a client.

    Args:
        pace: how fast to ask at first.
        sleep: waits so many seconds. One that returns early is taken for having waited.
        longest: seconds that a request is held back at the most, if the API asked for it.
    """

    def __init__(
        self,
        pace: Pace,
        sleep: Callable[[float], object] = time.sleep,
        longest: float = math.inf,
    ) -> None:
        self._pace = pace
        self._sleep = sleep
        self._longest = longest
        self._is_closed = False
        self._changed = threading.Condition()
        self._turns_taken = 0
        self._resuming: deque[threading.Event] = deque()
        self._waiting: list[threading.Event] = []
        self._under_way = 0
        self._last_began = -math.inf
        self._skipped = 0.0
        self._of_thread = threading.local()

    @property
    def pace(self) -> Pace:
        """How fast requests go now."""
        return self._pace

    @contextmanager
    def request(self) -> Iterator[Asked]:
        """Begin a request when there is room for it, and learn from how it ends.

        Raises:
            RetriableApiError: the API asked to be left alone for longer than this gate waits.
        """
        self._enter()
        asked = Asked(self._now)
        refusal: RetriableApiError | None = None
        is_answered = False
        try:
            yield asked
            is_answered = True
        except RetriableApiError as error:
            # Whatever else went wrong, a broken line for one, tells nothing of what the API bears.
            if error.status in (_TOO_MANY, _UNAVAILABLE):
                refusal = error
            raise
        finally:
            worked = self._worked()
            with self._changed:
                now = self._now()
                self._under_way -= 1
                if is_answered:
                    waited = now - asked.began if asked.waited is None else asked.waited
                    self._pace = self._pace.after_answer(asked.began, waited, asked.size, worked)
                elif refusal is not None and refusal.status is not None:
                    self._pace = self._pace.after_refusal(
                        asked.began, now, refusal.status, refusal.retry_after
                    )
                # As many as there is room for: each that wakes in vain takes the processor from the others.
                self._changed.notify(max(int(self._pace.limit) - self._under_way, 1))
                self._give_turns()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold one of as many turns as requests may be under way: for requests that follow each other.

        Threads that all ask for one request after the other would change with each of them: where answers
        come at once, that costs a fifth of a load's processor time. Of the threads that wait, the last to
        come is the first to get a turn: so a few threads do all the work, whose memory is in the
        processor's caches, and the others sleep. A thread has to choose what to do with a turn once it has
        one. Who waits before it tries again leaves its turn to others, and comes before them afterwards:
        what has begun comes before what has not.

        Raises:
            RuntimeError: this thread holds a turn already.
        """
        if self._has_turn():
            msg = "expected a thread to hold one turn at a time"
            raise RuntimeError(msg)
        self._take_turn()
        try:
            yield
        finally:
            if self._has_turn():
                self._leave_turn()

    def _has_turn(self) -> bool:
        return getattr(self._of_thread, "has_turn", False)

    def _take_turn(self, *, resumes: bool = False) -> None:
        mine = threading.Event()
        line = self._resuming if resumes else self._waiting
        with self._changed:
            line.append(mine)
            self._give_turns()
        try:
            mine.wait()
        except BaseException:
            with self._changed:
                if mine.is_set():
                    self._turns_taken -= 1
                    self._give_turns()
                else:
                    line.remove(mine)
            raise
        self._of_thread.has_turn = True

    def _leave_turn(self) -> None:
        self._of_thread.has_turn = False
        with self._changed:
            self._turns_taken -= 1
            self._give_turns()

    def _give_turns(self) -> None:
        """Hand over what turns there are: first to who had one, then to the last to come."""
        room = max(int(self._pace.limit), 1)
        while self._is_closed or self._turns_taken < room:
            if self._resuming:
                given = self._resuming.popleft()
            elif self._waiting:
                given = self._waiting.pop()
            else:
                return
            self._turns_taken += 1
            given.set()

    def _worked(self) -> float:
        """What this thread worked since it left the gate the last time."""
        so_far = time.thread_time()
        worked = so_far - getattr(self._of_thread, "worked", so_far)
        self._of_thread.worked = so_far
        return float(worked)

    def close(self) -> None:
        """Hold nobody back any more: what waits here begins, and sees for itself that all is over."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._give_turns()

    def _enter(self) -> None:
        while True:
            with self._changed:
                now = self._now()
                asked = self._pace.resume_at - now
                if asked > self._longest and not self._is_closed:
                    self._changed.notify()  # whoever waits behind this one is to hear of it too
                    raise self._too_long(asked)
                wait = self._pace.wait(self._under_way, self._last_began, now)
                if wait is None and not self._is_closed:
                    self._changed.wait()
                    continue
                if not wait or self._is_closed:
                    self._under_way += 1
                    self._last_began = now
                    return
            try:
                self._wait(wait)
            except BaseException:
                with self._changed:
                    self._changed.notify()  # the room that was meant for this one is another's
                raise

    def _too_long(self, asked: float) -> RetriableApiError:
        msg = (
            f"not asked: the API asked for {asked:.0f} s without any request, and this run waits for "
            f"{self._longest:.0f} s at the most"
        )
        log.warning(msg, extra={"event": "held_back", "wait_seconds": round(asked, 3)})
        return RetriableApiError(msg, retry_after=timedelta(seconds=asked))

    def pause(self, seconds: float) -> None:
        """Wait before another try; meanwhile this thread's turn is others'."""
        had_turn = self._has_turn()
        if had_turn:
            self._leave_turn()
        self._wait(seconds)
        if had_turn:
            self._take_turn(resumes=True)

    def _wait(self, seconds: float) -> None:
        """Wait; a `sleep` that returned early has moved the gate's clock on."""
        began = time.monotonic()
        self._sleep(seconds)
        missing = seconds - (time.monotonic() - began)
        if missing > 0:
            with self._changed:
                self._skipped += missing

    def _now(self) -> float:
        return time.monotonic() + self._skipped
