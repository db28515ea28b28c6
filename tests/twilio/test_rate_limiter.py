"""The rate limiter: against APIs in virtual time, and with threads that wait."""

import threading
from contextlib import suppress
from datetime import timedelta

import pytest

from pipeline.twilio.errors import RetriableApiError
from pipeline.twilio.rate_limiter import RateLimiter
from tests.support.rate_limited_api import Api, run

SEEDS = range(5)


# In virtual time.


@pytest.mark.parametrize("latency", [0.002, 0.05, 0.3])
def test_concurrency_is_nearly_as_quick_as_the_best_fixed_one(latency: float):
    fixed = min(run(Api(latency), 200, ceiling=n, warm=True).seconds for n in (1, 2, 4, 8))
    assert fixed >= 0.85 * run(Api(latency), 200).seconds


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("share", [0.02, 0.032])
def test_random_refusals_at_most_double_the_time(status: int, share: float):
    """The API refuses for reasons of its own, and is asked 1,500 times as fast as 40 a second."""

    def ratio(seed: int) -> float:
        retry_after = 1.0 if status == 429 else 0.0
        calm = run(Api(0.2, seed=seed), 1500)
        api = Api(0.2, refused=share, status=status, retry_after=retry_after, seed=seed)
        return run(api, 1500).seconds / calm.seconds

    assert max(map(ratio, SEEDS)) <= 2


@pytest.mark.parametrize("latency", [0.002, 0.05, 0.3])
@pytest.mark.parametrize("retry_after", [0.0, 1.0])
def test_limit_of_20_a_second_is_used_and_hardly_exceeded(latency: float, retry_after: float):
    runs = [run(Api(latency, 20, retry_after=retry_after, seed=seed), 1000) for seed in SEEDS]
    assert all(1000 / one.seconds >= 0.9 * 20 for one in runs)
    assert all(one.lost <= 0.05 for one in runs)


def test_limit_of_requests_at_once_is_met_by_their_rate():
    one = run(Api(0.1, at_once=4), 1000)
    assert 1000 / one.seconds >= 0.7 * 40
    assert one.lost <= 0.06


@pytest.mark.parametrize("latency", [0.002, 0.05, 0.3])
def test_unanswered_requests_slow_no_others(latency: float):
    """At full speed until the timeout: so long as no more than 8 are unanswered at once."""
    count = 300
    for seed in SEEDS:
        api = Api(latency, unanswered=0.016, seed=seed)
        answered = int(count * 0.95)
        calm = run(Api(latency, seed=seed), count).ended[answered]
        assert run(api, count).ended[answered] <= 1.25 * calm


def test_limit_beginning_after_random_refusals_is_met():
    """What was learnt of them is forgotten once refusals become many."""
    api = Api(0.05, refused=0.02, retry_after=1.0, limits_from=10.0, limit=20)
    later = [ended for ended in run(api, 2000).ended if ended > 15]
    assert len(later) > 500
    assert len(later) / (later[-1] - later[0]) >= 0.85 * 20


# With threads.


def refuse(limiter: RateLimiter, seconds: float, status: int = 429) -> None:
    refusal = RetriableApiError("no", status=status, retry_after=timedelta(seconds=seconds))
    with suppress(RetriableApiError), limiter.slot():
        raise refusal


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_all_threads(status: int):
    slept: list[float] = []
    limiter = RateLimiter(4, slept.append)
    refuse(limiter, 30, status)

    def ask() -> None:
        with limiter.slot():
            pass

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(slept) == pytest.approx(30, abs=1)


def test_early_return_from_sleep_counts_as_waited():
    slept: list[float] = []
    limiter = RateLimiter(4, slept.append)
    refuse(limiter, 30)
    for _ in range(3):
        with limiter.slot():
            pass
    assert len(slept) == 1


def test_retry_after_longer_than_retries_may_take_is_an_error():
    """A day's Retry-After must not make every thread wait for a day."""
    limiter = RateLimiter(4, lambda _: None, longest=300)
    refuse(limiter, 86_400)
    too_long = pytest.raises(RetriableApiError, match=r"asked for 86400 s.*300 s at the most")
    with too_long as caught, limiter.slot():
        pass
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > timedelta(hours=23)


def test_no_more_requests_than_the_ceiling_are_under_way():
    limiter, lock = RateLimiter(3), threading.Lock()
    under_way, most = 0, 0

    def ask() -> None:
        nonlocal under_way, most
        for _ in range(50):
            with limiter.slot():
                with lock:
                    under_way += 1
                    most = max(most, under_way)
                with lock:
                    under_way -= 1

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most <= 3


def waiting(limiter: RateLimiter) -> tuple[threading.Thread, threading.Event]:
    """A thread that asks for a slot, and what it sets once it has one."""
    began = threading.Event()

    def ask() -> None:
        with suppress(RetriableApiError), limiter.slot():
            began.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread, began


def test_closing_lets_go_of_whoever_waits():
    limiter = RateLimiter(1)
    with limiter.slot():
        _, began = waiting(limiter)
        assert not began.wait(0.05)
        limiter.close()
        assert began.wait(10)


def test_place_of_an_abandoned_request_is_reused():
    gives_up = threading.Event()

    def sleep(_: float) -> None:
        gives_up.set()
        raise KeyboardInterrupt

    limiter = RateLimiter(1, sleep)
    with limiter.slot():
        _, began = waiting(limiter)
    assert began.wait(10)
    refuse(limiter, 30)
    with pytest.raises(KeyboardInterrupt), limiter.slot():
        pass
    assert gives_up.is_set()
    limiter.close()
    with limiter.slot():
        pass
