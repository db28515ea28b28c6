"""Retries of requests, and the waits before them.

The wait is an exponential backoff with jitter, or the response's Retry-After if that is longer. A Retry-After
that is a date counts from the response's ``Date``, so that this machine's clock does not matter (R10).
"""

import logging
import math
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from pipeline.twilio.errors import ApiError, RetriableApiError

log = logging.getLogger(__name__)

T = TypeVar("T")
_SECONDS = re.compile(r"\d{1,9}(\.\d+)?")


def with_retries(
    request: Callable[[], T],
    *,
    attempts: int,
    budget: float,
    sleep: Callable[[float], None],
    account: str = "",
) -> tuple[T, int]:
    """Call `request` until it succeeds, fails for good, or has used up its tries or waiting time.

    Args:
        request: the function to call.
        attempts: the most tries, the first included.
        budget: the most seconds of all waits together.
        sleep: waits a number of seconds.
        account: the SID that log records of failed tries have.

    Returns:
        Its result, and the number of tries.

    Raises:
        RetriableApiError: the last one, with the number of tries and the waiting in its message.
        ApiError: at once, for an error that a retry can't fix.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(RetriableApiError),
        stop=stop_after_attempt(attempts) | stop_before_waiting(budget),
        wait=wait_retry_after(wait_exponential(0.25, 30, exp_base=2.5) + wait_random(0, 0.25)),
        sleep=sleep,
        before_sleep=partial(_log, account),
        reraise=True,
    )
    try:
        result = retrying(request)
    except ApiError as error:
        error.attempts = retrying.statistics["attempt_number"]
        if isinstance(error, RetriableApiError):
            raise error.with_note(_tries(error, retrying.statistics["idle_for"])) from None
        raise
    return result, retrying.statistics["attempt_number"]


class stop_before_waiting(stop_base):  # noqa: N801 - named as tenacity's own
    """Stop before the waits add up to more than a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Whether the next wait would be too much."""
        return retry_state.idle_for + retry_state.upcoming_sleep > self.seconds


class wait_retry_after(wait_base):  # noqa: N801 - named as tenacity's own
    """Wait for Retry-After plus up to 10 %, but at least as long as `otherwise`."""

    def __init__(self, otherwise: wait_base) -> None:
        self.otherwise = otherwise

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait."""
        wait = self.otherwise(retry_state)
        retry_after = _error(retry_state).retry_after
        if retry_after is None:
            return wait
        return max(wait, retry_after.total_seconds() * random.uniform(1.0, 1.1))  # noqa: S311 - jitter


def _log(account: str, state: RetryCallState) -> None:
    error = _error(state)
    log.warning(
        "try %d failed, next in %.1f s: %s",
        state.attempt_number,
        state.upcoming_sleep,
        error,
        extra={
            "event": "retry",
            "account_id": account,
            "attempt": state.attempt_number,
            "wait_seconds": round(state.upcoming_sleep, 3),
            "status": error.status,
            "code": error.code,
            "request_id": error.request_id,
        },
    )


def _error(state: RetryCallState) -> RetriableApiError:
    """Why a try failed; tenacity's callbacks are only called for these."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, RetriableApiError):
        raise TypeError
    return error


def _tries(error: RetriableApiError, waited: float) -> str:
    demand = ""
    if error.retry_after is not None:
        demand = f"; the server asked to wait {error.retry_after.total_seconds():.0f} s more"
    tries = error.attempts
    times = "once" if tries == 1 else f"{tries} times, waiting {waited:.0f} s in all"
    return f" (tried {times}{demand}; see EMAIL_ARCHIVE_RETRY_ATTEMPTS and EMAIL_ARCHIVE_RETRY_MAX_WAIT)"


def parse_retry_after(value: str | None, date: datetime | None) -> timedelta | None:
    """The wait that a Retry-After header demands, as seconds or as a date.

    Args:
        value: the header.
        date: the response's ``Date``, which a date counts from.

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


@lru_cache(maxsize=16)  # many responses have the date of the one before
def parse_http_date(value: str | None) -> datetime | None:
    """An HTTP date in UTC; None if it is absent or can't be read."""
    try:
        moment = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
