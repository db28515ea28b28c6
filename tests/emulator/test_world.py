"""The emulated world: a pure function of (seed, number, time), and a life like a real one."""

import itertools
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator.lifecycle import MAX_SIZE
from pipeline.emulator.world import World
from pipeline.model.schema import COUNT_NAMES, OPERATION_ID_PATTERN, STATUSES
from pipeline.model.windows import days_between
from tests.support.factories import at

START = datetime(2026, 9, 1, tzinfo=UTC)
WORLD = World(7, 500.0, START)
MOMENTS = st.timedeltas(timedelta(0), timedelta(days=60)).map(lambda after: START + after)
NUMBERS = st.integers(0, 20_000)
COUNTINGS = st.sampled_from(["cumulative", "exclusive"])


def states(world: World, numbers: Any, now: datetime) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in world.records(numbers, now)}


@given(NUMBERS, MOMENTS)
def test_operation_depends_on_nothing_but_seed_number_and_time(number: int, now: datetime):
    again = World(7, 500.0, START)
    among_others = states(again, range(max(number - 50, 0), number + 50), now)
    for operation_id, record in states(WORLD, [number], now).items():
        assert among_others[operation_id] == record


def test_another_seed_is_another_world():
    mine, other = (
        World(seed, 500.0, START).records(range(100), at("2026-10-01")) for seed in (1, 2)
    )
    assert {record["id"] for record in mine}.isdisjoint(record["id"] for record in other)


@given(st.lists(MOMENTS, min_size=2, max_size=6))
def test_numbers_tile_time_without_hole_or_overlap(moments: list[datetime]):
    moments = sorted(moments)
    pieces = [WORLD.numbers(a, b) for a, b in itertools.pairwise(moments)]
    whole = WORLD.numbers(moments[0], moments[-1])
    assert [n for piece in pieces for n in piece] == list(whole)


@given(MOMENTS, st.integers(0, 7200))
def test_range_holds_operations_by_their_shown_creation(now: datetime, length: int):
    end = now + timedelta(seconds=length)
    numbers = WORLD.numbers(now, end)
    wide = range(max(numbers.start - 20, 0), numbers.stop + 20)
    created = WORLD.columns(wide, at("2026-12-01"))["created_at"].tolist()
    shown = {
        number
        for number, moment in zip(wide, created, strict=True)
        if now <= moment.replace(tzinfo=UTC) < end
    }
    assert shown == set(numbers)


@given(NUMBERS)
def test_id_has_the_documented_form_and_embeds_its_creation(number: int):
    (record,) = WORLD.records([number], at("2026-12-01"))
    assert re.fullmatch(OPERATION_ID_PATTERN, record["id"])
    digits = record["id"].removeprefix("comms_operation_")[:10]
    milliseconds = sum(
        "0123456789abcdefghjkmnpqrstvwxyz".index(digit) * 32**place
        for place, digit in enumerate(reversed(digits))
    )
    embedded = datetime.fromtimestamp(milliseconds // 1000, UTC)
    assert embedded == datetime.fromisoformat(record["createdAt"])
    assert WORLD.number_of(record["id"]) == number


@pytest.mark.parametrize(
    "unknown", ["", "x", "comms_operation_" + "0" * 26, "comms_operation_" + "u" * 26]
)
def test_unknown_id_has_no_number(unknown: str):
    assert WORLD.number_of(unknown) is None


def test_ids_sort_by_creation_and_are_unique():
    ids = [record["id"] for record in WORLD.records(range(5_000), at("2026-12-01"))]
    assert ids == sorted(set(ids))


@settings(max_examples=60)
@given(NUMBERS, MOMENTS, COUNTINGS)
def test_counts_add_up_under_both_countings(number: int, now: datetime, counting: Any):
    world = World(7, 500.0, START, counting=counting)
    columns = world.columns(range(number, number + 200), now)
    count = {name: columns[name] for name in COUNT_NAMES}
    assert all((values >= 0).all() for values in count.values())
    total = count["total"]
    assert ((total >= 1) & (total <= MAX_SIZE)).all()
    if counting == "exclusive":
        parts = sum(count[name] for name in COUNT_NAMES[3:])
        assert (parts == total).all()
    else:
        waiting = count["queued"] + count["scheduled"] + count["canceled"]
        assert (waiting + count["sent"] + count["failed"] == total).all()
        assert (count["delivered"] + count["undelivered"] <= count["sent"]).all()
        assert (count["opened"] <= count["delivered"]).all()


@settings(max_examples=60)
@given(NUMBERS, st.lists(MOMENTS, min_size=2, max_size=8), COUNTINGS)
def test_state_changes_if_and_only_if_updated_at_does(number, moments, counting):
    """A later state has a later or equal updatedAt, and equal means that nothing visible changed."""
    world = World(7, 500.0, START, counting=counting)
    before: dict[str, dict[str, Any]] = {}
    for now in sorted(moments):
        after = states(world, range(number, number + 100), now)
        for operation_id, record in before.items():
            later = after[operation_id]
            assert later["updatedAt"] >= record["updatedAt"]
            if later["updatedAt"] == record["updatedAt"]:
                # Whole seconds: two events of one second share a time, and only they do.
                near = now - datetime.fromisoformat(record["updatedAt"]) < timedelta(seconds=1)
                assert later == record or near or _within_one_second(world, record, later)
        for record in after.values():
            assert record["createdAt"] <= record["updatedAt"]
            assert datetime.fromisoformat(record["updatedAt"]) <= now
        before = after


def _within_one_second(world: World, record: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether the later state was reached within the second that both states name."""
    end = datetime.fromisoformat(record["updatedAt"]) + timedelta(milliseconds=999)
    number = world.number_of(record["id"])
    return world.records([number], end) == [later]


def test_nothing_changes_any_more_after_two_weeks():
    numbers = WORLD.numbers(START, START + timedelta(days=3))
    settled = at("2026-09-04") + timedelta(days=10 + 12)
    assert WORLD.records(numbers, settled) == WORLD.records(numbers, settled + timedelta(days=365))


def test_world_is_like_a_real_account():
    """Sizes, statuses and delays have the shares that the world promises."""
    numbers = WORLD.numbers(START, START + timedelta(days=28))
    columns = WORLD.columns(numbers, at("2026-11-15"))
    total = columns["total"]
    assert 0.83 < (total == 1).mean() < 0.87
    assert total.max() > 500
    assert set(columns["status"]) == {"COMPLETED", "CANCELED"}
    delivered = columns["delivered"].sum() / (total.sum() - columns["canceled"].sum())
    assert 0.94 < delivered < 0.99
    young = WORLD.columns(numbers, START + timedelta(days=14))
    assert set(young["status"]) <= set(STATUSES)
    assert {"SCHEDULED", "COMPLETED", "CANCELED"} <= set(young["status"])


def test_opens_go_on_for_days():
    numbers = WORLD.numbers(START, START + timedelta(days=1))
    opened = [
        int(WORLD.columns(numbers, START + timedelta(days=age))["opened"].sum())
        for age in (1, 2, 4, 7, 12)
    ]
    assert opened == sorted(set(opened))


def test_days_and_hours_have_a_rhythm():
    counted: Counter[int] = Counter()
    hours: Counter[int] = Counter()
    for day in days_between(START.date(), (START + timedelta(days=55)).date()):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        counted[day.weekday()] += len(WORLD.numbers(midnight, midnight + timedelta(days=1)))
        for hour in (3, 10):
            start = midnight + timedelta(hours=hour)
            hours[hour] += len(WORLD.numbers(start, start + timedelta(hours=1)))
    assert min(counted[d] for d in range(5)) > max(counted[d] for d in (5, 6))
    assert hours[10] > 5 * hours[3]
    assert sum(counted.values()) == pytest.approx(500 * 56, rel=0.05)


def test_outage_is_of_one_day_and_changes_nothing_else():
    """Ids, times and sizes stay; of what is sent on the day less is delivered, and less is opened."""
    day = date(2026, 9, 10)
    out = World(7, 500.0, START, outage=day)
    numbers = WORLD.numbers(START, START + timedelta(days=20))
    usual, unusual = (world.columns(numbers, at("2026-11-15")) for world in (WORLD, out))
    for name in ("operation_id", "created_at", "total", "failed", "canceled"):
        assert (usual[name] == unusual[name]).all()
    differs = (usual["undelivered"] != unusual["undelivered"]) | (
        usual["opened"] != unusual["opened"]
    )
    created = usual["created_at"].astype("datetime64[D]")
    on_day = created == np.datetime64(day)
    assert differs[on_day].any()
    assert not differs[created > np.datetime64(day)].any()
    assert differs[created < np.datetime64(day)].sum() < 10  # scheduled before, sent on the day
    sums = {name: unusual[name][on_day].sum() for name in ("total", "undelivered", "opened")}
    assert 0.15 < sums["undelivered"] / sums["total"] < 0.25
    assert sums["opened"] / sums["total"] < 0.08


def test_world_can_end():
    world = World(7, 500.0, START, end=START + timedelta(days=1))
    assert world.existing(START + timedelta(days=5)) == world.existing(START + timedelta(days=1))


def test_optional_counts_can_be_left_out_and_unknown_fields_added():
    plain = WORLD.records([0], at("2026-10-01"))[0]
    bare = World(7, 500.0, START, omit_recipients_and_attempts=True).records([0], at("2026-10-01"))[
        0
    ]
    odd = World(7, 500.0, START, unknown_fields=True).records([0], at("2026-10-01"))[0]
    assert set(plain["stats"]) - set(bare["stats"]) == {"recipients", "attempts"}
    assert set(odd) - set(plain) == {"region"}
    assert set(odd["stats"]) - set(plain["stats"]) == {"read"}


def test_columns_are_the_records():
    now = at("2026-09-20 12:00")
    columns = WORLD.columns(range(300), now)
    records = WORLD.records(range(300), now)
    assert columns["operation_id"].tolist() == [record["id"] for record in records]
    assert columns["status"].tolist() == [record["status"] for record in records]
    for name in COUNT_NAMES:
        assert columns[name].tolist() == [record["stats"][name] for record in records]
    for name, key in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
        shown = [f"{text}Z" for text in np.datetime_as_string(columns[name], unit="s")]
        assert shown == [record[key] for record in records]
