"""Adaptive concurrency: the controller's rules, and the gate on virtual time."""

import heapq
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.twilio.errors import RetriableApiError
from pipeline.twilio.pace import Gate, Pace

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "429", "503"]),
        st.floats(0.001, 2.0),
        st.one_of(st.none(), st.floats(0, 30)),
    ),
    max_size=60,
)


def played(ceiling: int, events: list[tuple[str, float, float | None]]) -> list[Pace]:
    """Every pace on the way, one request after the other."""
    pace, now, paces = Pace.starting(ceiling), 0.0, []
    for what, took, asked in events:
        began, now = now, now + took
        if what == "answer":
            pace = pace.after_answer(began, took)
        else:
            after = None if asked is None else timedelta(seconds=asked)
            pace = pace.after_refusal(began, now, int(what), after)
        paces.append(pace)
    return paces


@given(st.integers(1, 64), EVENTS)
def test_limit_is_one_at_least_and_never_above_the_setting(ceiling: int, events: list):
    for pace in played(ceiling, events):
        assert 1 <= pace.limit <= ceiling
        assert pace.rate >= 0.5


@given(st.integers(1, 64), EVENTS, st.sampled_from([429, 503]))
def test_refusal_halves_once_for_what_was_under_way_together(
    ceiling: int, events: list, status: int
):
    before = ([Pace.starting(ceiling), *played(ceiling, events)])[-1]
    began = max(before.halved_at, 1000.0) + 1
    once = before.after_refusal(began, began + 1, status, None)
    assert once.limit == max(before.limit / 2, 1)
    assert once.after_refusal(began + 0.5, began + 1.2, status, None).limit == once.limit


def test_limit_grows_to_the_setting_while_latency_holds():
    assert played(8, [("answer", 0.3, None)] * 12)[-1].limit == 8


def test_limit_does_not_grow_where_answers_keep_this_process_busy():
    """1 ms of waiting beside 4 ms of work: with a second request at once this process waits no more."""
    pace, now = Pace.starting(8), 0.0
    for _ in range(20):
        pace, now = pace.after_answer(now, 0.001, worked=0.004), now + 0.005
    assert pace.limit == 2
    for _ in range(400):  # until the shortest time so far is forgotten
        pace, now = pace.after_answer(now, 0.02, worked=0.004), now + 0.024
    assert pace.limit == 6


def test_limit_does_not_grow_while_answers_take_longer():
    quick = [("answer", 0.05, None)] * 3
    slow = [("answer", 1.0, None)] * 3
    paces = played(64, quick + slow + slow)
    assert paces[5].limit == paces[-1].limit


def test_nothing_begins_before_the_time_that_the_api_asked_for():
    pace = Pace.starting(8).after_refusal(0.0, 1.0, 429, timedelta(seconds=7))
    assert pace.wait(0, -math.inf, 1.0) == 7.0
    assert pace.wait(0, -math.inf, 9.0) == 0.0


def test_full_house_waits_for_somebody_to_leave():
    assert Pace.starting(8).wait(2, 0.0, 5.0) is None


class Bucket:
    """A server that admits so many requests a second, on the gate's virtual time."""

    def __init__(self, limit: float) -> None:
        self.limit, self.tokens, self.filled_at, self.now = limit, limit / 2, 0.0, 0.0

    def admits(self) -> bool:
        self.tokens += (self.now - self.filled_at) * self.limit
        self.tokens, self.filled_at = min(self.tokens, self.limit / 2), self.now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@pytest.mark.parametrize("latency", [0.002, 0.05, 0.3])
def test_server_that_admits_20_a_second_refuses_less_than_5_percent(latency: float):
    """One after the other and on virtual time: what a single client may lose."""
    bucket, pace = Bucket(20), Pace.starting(8)
    refused, last, under_way = 0, -math.inf, list[tuple[float, float, bool]]()
    sent = 0
    while sent < 400 or under_way:
        wait = pace.wait(len(under_way), last, bucket.now) if sent < 400 else None
        if wait == 0:
            sent += 1
            last = bucket.now
            under_way.append((bucket.now + latency, bucket.now, bucket.admits()))
        elif wait is None:
            ends, began, admitted = under_way.pop(0)
            bucket.now = max(bucket.now, ends)
            if admitted:
                pace = pace.after_answer(began, bucket.now - began)
            else:
                refused += 1
                pace = pace.after_refusal(began, bucket.now, 429, timedelta(seconds=1))
        else:
            ahead = under_way[0][0] if under_way else math.inf
            if ahead <= bucket.now + wait:
                ends, began, admitted = under_way.pop(0)
                bucket.now = ends
                if admitted:
                    pace = pace.after_answer(began, bucket.now - began)
                else:
                    refused += 1
                    pace = pace.after_refusal(began, bucket.now, 429, timedelta(seconds=1))
            else:
                bucket.now += wait
    assert refused <= 0.05 * sent
    # It is not slow out of fear either: three fifths of what the server admits, at the least.
    assert sent / bucket.now >= 0.6 * min(20, 8 / latency)


def test_gate_takes_a_sleep_that_returns_early_for_having_waited():
    slept: list[float] = []
    gate = Gate(Pace.starting(4), slept.append)
    refusal = RetriableApiError("no", status=429, retry_after=timedelta(seconds=30))
    with pytest.raises(RetriableApiError), gate.request():
        raise refusal
    with gate.request():
        pass
    assert len(slept) == 1
    assert slept[0] == pytest.approx(30, abs=1)
    assert gate.pace.limit < 2  # halved, and grown by one answer at the most


def test_request_is_not_held_back_for_longer_than_the_retries_may_take():
    """One refusal with a day's Retry-After must not make every thread wait for a day."""
    gate = Gate(Pace.starting(4), longest=300)
    first_is_in, second_is_in = threading.Event(), threading.Event()
    outcomes: list[RetriableApiError | None] = []
    refusal = RetriableApiError("no", status=503, retry_after=timedelta(days=1))

    def wait_and_refuse() -> None:
        with gate.request():
            first_is_in.set()
            second_is_in.wait(10)
            raise refusal

    def refused() -> None:
        with pytest.raises(RetriableApiError):
            wait_and_refuse()

    def asking() -> None:
        first_is_in.wait(10)
        with gate.request():
            second_is_in.set()
        first.join(10)
        try:
            with gate.request():
                outcomes.append(None)
        except RetriableApiError as error:
            outcomes.append(error)

    first, second = (threading.Thread(target=work, daemon=True) for work in (refused, asking))
    first.start(), second.start()
    second.join(10)
    [error] = outcomes
    assert error is not None
    assert "asked for 86400 s" in str(error)
    assert "300 s at the most" in str(error)
    assert error.retry_after is not None
    assert error.retry_after > timedelta(hours=23)


def test_closing_lets_go_of_whoever_waits_for_room():
    gate, ended = Gate(Pace(1, 1.0)), threading.Event()

    def waiting() -> None:
        with gate.request():
            ended.set()

    with gate.request():
        thread = threading.Thread(target=waiting, daemon=True)
        thread.start()
        assert not ended.wait(0.05)
        gate.close()
        assert ended.wait(10)


def wait_until(holds: Callable[[], bool]) -> None:
    """Until what nothing else tells; it fails if that takes far too long."""
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends


def wait_until_in_line(gate: Gate, count: int) -> None:
    """Until so many threads wait for a turn."""
    wait_until(lambda: len(gate._waiting) == count)


def test_turn_is_held_over_requests_until_its_end():
    """Whoever waits for a turn begins no request meanwhile; on one thread that is told by what waits."""
    gate, order = Gate(Pace(1, 1.0)), list[str]()

    def other() -> None:
        with gate.turn(), gate.request():
            order.append("other")

    thread = threading.Thread(target=other, daemon=True)
    with gate.turn():
        thread.start()
        wait_until_in_line(gate, 1)
        for _ in range(3):
            with gate.request() as asked:
                asked.answered(100)
            order.append("first")
    thread.join(10)
    assert order == ["first", "first", "first", "other"]


def another_waits(gate: Gate, got: threading.Event) -> None:
    """Another thread stands in line for a turn, and tells when it has one."""

    def other() -> None:
        with gate.turn():
            got.set()

    threading.Thread(target=other, daemon=True).start()
    wait_until_in_line(gate, 1)


def test_turns_are_given_as_the_limit_grows():
    gate, got = Gate(Pace(4, 1.0), lambda _: None), threading.Event()

    with gate.turn():
        another_waits(gate, got)
        for _ in range(4):
            with gate.request():
                gate._wait(1.0)  # on the gate's clock: so waiting is all that it takes
        assert gate.pace.limit > 1
        assert got.wait(10)


@pytest.mark.parametrize("ends", ["closing", "pausing"])
def test_turn_is_others_when_its_holder_waits_to_try_again_or_all_ends(ends: str):
    got = threading.Event()
    gate = Gate(Pace(1, 1.0), lambda _: got.wait(10))

    with gate.turn():
        another_waits(gate, got)
        assert not got.is_set()
        if ends == "closing":
            gate.close()
        else:
            gate.pause(1000.0)
        assert got.wait(10)


def test_turns_are_given_to_who_had_one_and_then_to_the_last_to_come():
    """What has begun comes before what has not."""
    gate, order = Gate(Pace(1, 1.0), lambda _: None), list[str]()

    def work(name: str) -> None:
        with gate.turn():
            order.append(name)
            if name == "c":
                gate.pause(1.0)
                order.append("c again")
            if name == "b":
                wait_until(lambda: bool(gate._resuming))  # until "c" has come back

    threads = [threading.Thread(target=work, args=name, daemon=True) for name in "abcd"]
    with gate.turn():
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            wait_until_in_line(gate, waiting)
    for thread in threads:
        thread.join(10)
    assert order == ["d", "c", "b", "c again", "a"]


def test_turn_that_is_not_taken_again_is_others():
    """An error while it waits to try again: it is left once, and nobody waits for ever."""

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    gate = Gate(Pace(1, 1.0), sleep)
    for _ in range(3):
        with suppress(KeyboardInterrupt), gate.turn():
            gate.pause(1.0)
        assert gate._turns_taken == 0


def test_thread_has_one_turn_at_a_time():
    gate = Gate(Pace(1, 1.0))
    with gate.turn(), pytest.raises(RuntimeError), gate.turn():
        pass
    assert gate._turns_taken == 0


def test_one_request_goes_on_whatever_the_limit():
    assert Pace(8, 0.4).wait(0, -math.inf, 0.0) == 0
    assert Pace(8, 0.4).wait(1, -math.inf, 0.0) is None


def test_full_pages_are_not_judged_by_small_answers():
    """The clock takes 80 ms, as empty windows do, and a page of 1,000 records 400 ms."""
    pace, now = Pace.starting(8), 0.0
    for number in range(30):
        size, took = (60, 0.08) if number % 3 == 0 else (300_000, 0.4)
        pace, now = pace.after_answer(now, took, size), now + took
    assert pace.limit == 8


def test_answer_that_was_quick_by_luck_does_not_hold_the_limit_for_ever():
    pace, now = replace(Pace.starting(64).after_answer(0.0, 0.1), limit=2.0), 1.0
    for _ in range(400):
        pace, now = pace.after_answer(now, 0.5), now + 0.5
    assert pace.limit == 64
    assert pace.shortest[0] <= 0.5


@pytest.mark.parametrize("each", [0.0, 0.0004])
@pytest.mark.parametrize("latency", [0.0, 0.05, 0.3])
def test_adaptive_concurrency_is_nearly_as_quick_as_the_best_fixed_one(latency: float, each: float):
    """On virtual time: latency may grow with the records of a page, of which every third is empty."""

    def took(pace: Pace) -> float:
        now, ends = 0.0, list[tuple[float, float, int]]()
        for number in range(400):
            size = 0 if number % 3 == 0 else 1000
            while pace.wait(len(ends), -math.inf, now) is None:
                end, began, ended = heapq.heappop(ends)
                now = end
                pace = pace.after_answer(began, now - began, ended * 300)
            heapq.heappush(ends, (now + latency + each * size + 0.001, now, size))
        return max(end for end, *_ in ends)

    best = min(took(Pace(n, float(n))) for n in (2, 4, 8))
    assert best >= 0.9 * took(Pace.starting(8))


def test_room_that_somebody_leaves_unused_is_given_on():
    """One that was woken and gives up while it waits for its turn must not keep the others waiting."""
    refuses = threading.Event()

    def sleep(_: float) -> None:
        if threading.current_thread().name == "gives up":
            refuses.set()
            raise KeyboardInterrupt

    gate, ended = Gate(Pace(1, 1.0, rate=0.5), sleep), threading.Event()

    def waiting() -> None:
        with suppress(KeyboardInterrupt), gate.request():
            ended.set()

    with gate.request():
        first = threading.Thread(target=waiting, name="gives up", daemon=True)
        second = threading.Thread(target=waiting, daemon=True)
        first.start()
        while not gate._changed._waiters:  # type: ignore[attr-defined]  # who waits is told by nothing else
            pass
        second.start()
        while len(gate._changed._waiters) < 2:  # type: ignore[attr-defined]  # the same
            pass
    assert refuses.wait(10)
    assert ended.wait(10)


def test_there_is_time_for_other_work_only_where_all_requests_together_leave_some():
    """What is waited for 100 ms and worked on for 5 leaves time beside 8 of them, and not beside 32."""
    for ceiling, waited, leaves_time in ((8, 0.1, True), (32, 0.1, False), (8, 0.0, False)):
        pace = Pace.starting(ceiling)
        for number in range(40):
            pace = pace.after_answer(number, waited, 300_000, 0.005)
        assert pace.leaves_time is leaves_time
