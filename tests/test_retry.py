"""When a request is repeated, and how long the waits are."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.twilio import retry
from pipeline.twilio.errors import FatalApiError, GoneError, RetriableApiError
from pipeline.twilio.retry import RetryPolicy, parse_http_date, parse_retry_after

POLICY = RetryPolicy(attempts=4, budget=100.0, base=1.0, cap=8.0)
DATE = datetime(2026, 11, 20, 14, tzinfo=UTC)


class Script:
    """Raises what it is given, one after the other, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def run(policy: RetryPolicy, *errors: Exception, chance: float = 1.0) -> tuple[object, list[float]]:
    """The result, or the error; and the waits."""
    waits: list[float] = []
    try:
        return retry.run(policy, Script(*errors), sleep=waits.append, chance=lambda: chance), waits
    except (RetriableApiError, FatalApiError, GoneError) as error:
        return error, waits


def test_first_success_needs_no_wait():
    assert run(POLICY) == (("done", 1), [])


def test_waits_grow_to_the_cap():
    fails = [RetriableApiError("no")] * 6
    result, waits = run(RetryPolicy(7, 100.0, base=1.0, cap=8.0), *fails)
    assert result == ("done", 7)
    assert waits == [1, 2, 4, 8, 8, 8]


def test_jitter_takes_up_to_half_of_a_wait():
    assert run(POLICY, RetriableApiError("no"), chance=0.0)[1] == [0.5]


def test_last_error_is_raised_with_the_number_of_tries():
    result, waits = run(POLICY, *[RetriableApiError("GET /x: 503", status=503)] * 9)
    assert isinstance(result, RetriableApiError)
    assert str(result) == (
        "GET /x: 503 (tried 4 times, waiting 7 s in all; "
        "see EMAIL_ARCHIVE_RETRY_ATTEMPTS and _SECONDS)"
    )
    assert result.status == 503
    assert waits == [1, 2, 4]


@pytest.mark.parametrize("error", [FatalApiError("no"), GoneError("no")])
def test_what_no_repetition_mends_is_not_repeated(error: Exception):
    assert run(POLICY, error) == (error, [])


def test_retry_after_is_honoured_with_jitter_on_top():
    asked = RetriableApiError("no", retry_after=timedelta(seconds=20))
    assert run(POLICY, asked, chance=0.0)[1] == [20]
    assert run(POLICY, asked, chance=1.0)[1] == [22]


def test_retry_after_of_zero_never_spins():
    asked = RetriableApiError("no", retry_after=timedelta(0))
    assert run(POLICY, asked, asked, asked, chance=0.0)[1] == [0.5, 1, 2]


def test_retry_after_beyond_the_budget_gives_up_at_once_and_says_so():
    asked = RetriableApiError("GET /x: 429", retry_after=timedelta(hours=1))
    result, waits = run(POLICY, asked)
    assert waits == []
    assert "the server asked to wait 3600 s more" in str(result)


def test_waits_together_stay_within_the_budget():
    asked = RetriableApiError("no", retry_after=timedelta(seconds=40))
    result, waits = run(RetryPolicy(10, 100.0), *[asked] * 9, chance=0.0)
    assert isinstance(result, RetriableApiError)
    assert waits == [40, 40]


@given(
    st.integers(1, 10**6),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=2)),
    st.floats(0, 1, exclude_max=True),
)
def test_wait_is_never_nothing_and_never_less_than_asked(attempt, asked, chance):
    wait = POLICY.wait(attempt, asked, chance)
    assert wait >= 0.5
    assert asked is None or wait >= asked.total_seconds()
    assert asked is not None or wait <= POLICY.cap


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", timedelta(0)),
        (" 17 ", timedelta(seconds=17)),
        ("1.2", timedelta(seconds=2)),
        ("Fri, 20 Nov 2026 14:00:30 GMT", timedelta(seconds=30)),
        ("Fri, 20 Nov 2026 13:00:00 GMT", timedelta(0)),
        ("-5", None),
        ("soon", None),
        ("9" * 30, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_against_the_answers_own_date(value, expected):
    """R10: the machine's clock decides nothing, a date is taken against the same answer's Date."""
    assert parse_retry_after(value, DATE) == expected


def test_retry_after_date_without_a_date_of_the_answer_is_unknown():
    assert parse_retry_after("Fri, 20 Nov 2026 14:00:30 GMT", None) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Fri, 20 Nov 2026 14:00:00 GMT", DATE),
        ("Fri, 20 Nov 2026 15:00:00 +0100", DATE),
        ("2026-11-20T14:00:00Z", None),
        ("", None),
        (None, None),
    ],
)
def test_http_date_is_utc(value, expected):
    assert parse_http_date(value) == expected
