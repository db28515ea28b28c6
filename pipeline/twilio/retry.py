"""When a request is repeated, and how long to wait before.

The waits are data: a `RetryPolicy`. What the server asks for with Retry-After is honoured, with
jitter on top so that many clients don't come back at one moment; 0 is answered with the ordinary wait
and never with a spin. A Retry-After that is a date is taken against the same answer's ``Date``: the
machine's own clock decides nothing (R10).
"""

import logging
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NoReturn, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from pipeline.twilio.errors import ApiError, RetriableApiError

log = logging.getLogger(__name__)

T = TypeVar("T")
_SECONDS = re.compile(r"\d{1,9}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one request is retried.

    Attributes:
        attempts: how often it is tried, the first time included.
        budget: seconds that the waits may add up to.
        base: seconds that the first wait is spread over; each further one over twice as many.
        cap: seconds that a wait without Retry-After takes at the most.
    """

    attempts: int
    budget: float
    base: float = 0.5
    cap: float = 30.0

    def wait(self, attempt: int, retry_after: timedelta | None, chance: float) -> float:
        """Seconds to wait after the try number `attempt`.

        Args:
            attempt: 1 after the first try.
            retry_after: what the server asked for, if it did.
            chance: a random number in [0, 1): the jitter.
        """
        spread = min(self.cap, self.base * 2.0 ** min(attempt - 1, 32))
        jittered = spread * (0.5 + 0.5 * chance)
        if retry_after is None:
            return jittered
        asked = max(retry_after.total_seconds(), 0.0)
        return max(jittered, asked * (1 + 0.1 * chance))


def run(
    policy: RetryPolicy,
    request: Callable[[], T],
    *,
    sleep: Callable[[float], object],
    chance: Callable[[], float] = random.random,
) -> tuple[T, int]:
    """Call `request` until it succeeds, may not be repeated, or the policy is exhausted.

    Returns:
        Its result, and how many tries it took.

    Raises:
        RetriableApiError: the last one, with the number of tries and the waiting in its message.
        ApiError: at once, whatever is not worth repeating.
    """
    tries = 1
    try:
        return request(), tries
    except RetriableApiError as error:
        # Only now tenacity is asked: for what goes well, it would be a tenth of the work.
        first = error
    except ApiError as error:
        error.attempts = tries
        raise
    outcomes = iter([first])

    def attempt() -> T:
        nonlocal tries
        if failed := next(outcomes, None):
            raise failed
        tries += 1
        return request()

    def wait(state: RetryCallState) -> float:
        return policy.wait(state.attempt_number, _retry_after(state), chance())

    def pause(seconds: float) -> None:
        sleep(seconds)

    def exhausted(state: RetryCallState) -> bool:
        waited = state.idle_for + state.upcoming_sleep
        return state.attempt_number >= policy.attempts or waited > policy.budget

    def tell(state: RetryCallState) -> None:
        error = _error(state)
        log.warning(
            "try %d failed, next in %.1f s: %s",
            state.attempt_number,
            state.upcoming_sleep,
            error,
            extra={
                "event": "retry",
                "attempt": state.attempt_number,
                "wait_seconds": round(state.upcoming_sleep, 3),
                "status": error.status,
                "code": error.code,
                "request_id": error.request_id,
            },
        )

    def give_up(state: RetryCallState) -> NoReturn:
        raise _with_tries(_error(state), state.attempt_number, state.idle_for) from None

    retrying = Retrying(
        retry=retry_if_exception_type(RetriableApiError),
        stop=exhausted,
        wait=wait,
        sleep=pause,
        before_sleep=tell,
        retry_error_callback=give_up,
    )
    try:
        return retrying(attempt), tries
    except ApiError as error:
        error.attempts = tries
        raise


def _error(state: RetryCallState) -> RetriableApiError:
    """Why a try failed; tenacity's callbacks are only called for these."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, RetriableApiError):
        raise TypeError
    return error


def _retry_after(state: RetryCallState) -> timedelta | None:
    return _error(state).retry_after


def _with_tries(error: RetriableApiError, tries: int, waited: float) -> RetriableApiError:
    asked = ""
    if error.retry_after is not None:
        asked = f"; the server asked to wait {error.retry_after.total_seconds():.0f} s more"
    times = "once" if tries == 1 else f"{tries} times, waiting {waited:.0f} s in all"
    return error.with_note(
        f" (tried {times}{asked}; see EMAIL_ARCHIVE_RETRY_ATTEMPTS and _SECONDS)"
    )


def parse_retry_after(value: str | None, date: datetime | None) -> timedelta | None:
    """What a Retry-After header asks for: seconds, or a date against the answer's own `date`.

    Returns:
        A wait of 0 or more; None if the header is absent or can't be read.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=math.ceil(float(text)))
    moment = parse_http_date(text)
    if moment is None or date is None:
        return None
    return max(moment - date, timedelta())


@lru_cache(maxsize=16)  # many answers have the date of the one before
def parse_http_date(value: str | None) -> datetime | None:
    """An HTTP date in UTC; None if it is absent or can't be read."""
    try:
        moment = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
