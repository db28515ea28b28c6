"""When a request is repeated, and how long the waits are."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.twilio.errors import ApiError, FatalApiError, NotFoundError, RetriableApiError
from pipeline.twilio.retry import parse_http_date, parse_retry_after, with_retries

DATE = datetime(2026, 11, 20, 14, tzinfo=UTC)


def run(*errors: ApiError, attempts: int = 4, budget: float = 100.0) -> tuple[object, list[float]]:
    """What calling something that raises these errors comes to, and the waits."""
    left, waits = list(errors), list[float]()

    def request() -> str:
        if left:
            raise left.pop(0)
        return "done"

    try:
        result = with_retries(request, attempts=attempts, budget=budget, sleep=waits.append)
    except ApiError as error:
        return error, waits
    return result, waits


def test_first_success_needs_no_wait():
    assert run() == (("done", 1), [])


def test_waits_grow_up_to_half_a_minute():
    result, waits = run(*[RetriableApiError("no")] * 8, attempts=9, budget=1000)
    assert result == ("done", 9)
    assert 0.25 <= waits[0] <= 0.5
    assert waits[:6] == sorted(waits[:6])
    assert 30 <= max(waits) <= 30.25


def test_waits_differ():
    """Many clients that failed together do not come back together."""
    assert len({run(RetriableApiError("no"))[1][0] for _ in range(20)}) > 10


def test_last_error_is_raised_with_the_number_of_tries():
    result, waits = run(*[RetriableApiError("GET /x: 503", status=503)] * 9)
    assert isinstance(result, RetriableApiError)
    assert re.fullmatch(
        r"GET /x: 503 \(tried 4 times, waiting [23] s in all; "
        r"see EMAIL_ARCHIVE_RETRY_ATTEMPTS and EMAIL_ARCHIVE_RETRY_MAX_WAIT\)",
        str(result),
    )
    assert (result.status, result.attempts) == (503, 4)
    assert len(waits) == 3


@pytest.mark.parametrize("error", [FatalApiError("no"), NotFoundError("no")])
def test_what_no_repetition_mends_is_not_repeated(error: ApiError):
    assert run(error) == (error, [])
    assert error.attempts == 1


def test_retry_after_is_honoured_with_jitter_on_top():
    for _ in range(20):
        [wait] = run(RetriableApiError("no", retry_after=timedelta(seconds=20)))[1]
        assert 20 <= wait <= 22


def test_retry_after_of_zero_never_spins():
    asked = RetriableApiError("no", retry_after=timedelta(0))
    waits = run(asked, asked, asked)[1]
    assert len(waits) == 3
    assert min(waits) >= 0.25


def test_retry_after_beyond_the_budget_gives_up_at_once():
    result, waits = run(RetriableApiError("GET /x: 429", retry_after=timedelta(hours=1)))
    assert waits == []
    assert "the server asked to wait 3600 s more" in str(result)


def test_waits_together_stay_within_the_budget():
    asked = RetriableApiError("no", retry_after=timedelta(seconds=40))
    result, waits = run(*[asked] * 9, attempts=10)
    assert isinstance(result, RetriableApiError)
    assert len(waits) == 2


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
def test_retry_after_is_seconds_or_relative_to_the_date(value, expected):
    """R10: the machine's clock decides nothing, a date is taken against the same answer's Date."""
    assert parse_retry_after(value, DATE) == expected


def test_retry_after_date_without_a_response_date_is_unknown():
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
