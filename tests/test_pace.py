"""Adaptive concurrency: the controller's rules, and the gate on virtual time."""

import math
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
            pace = pace.after_answer(began, now)
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
    assert played(8, [("answer", 0.3, None)] * 6)[-1].limit == 8


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
                pace = pace.after_answer(began, bucket.now)
            else:
                refused += 1
                pace = pace.after_refusal(began, bucket.now, 429, timedelta(seconds=1))
        else:
            ahead = under_way[0][0] if under_way else math.inf
            if ahead <= bucket.now + wait:
                ends, began, admitted = under_way.pop(0)
                bucket.now = ends
                if admitted:
                    pace = pace.after_answer(began, bucket.now)
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
    assert gate.pace.limit == 2
