"""When a slot is due, and that the windows tile exactly what is."""

import itertools
import math
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.extract.planner import RefreshPolicy, Tier, cut, due_slots, plan_due
from pipeline.model.records import SlotCoverage
from pipeline.model.windows import SLOT, Window, deadline, retained_days
from pipeline.settings import Settings
from tests.support.factories import ACCOUNT, at

NOW = at("2026-11-20 14:05")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICY = RefreshPolicy()


def slots_of(now: datetime) -> list[datetime]:
    """Every slot that the API may still know something of, future ones of today included."""
    return [slot for day in retained_days(now) for slot in Window.of_day(day).slots()]


def covered(slot: datetime, covered_at: datetime | None, operations: float = 1) -> SlotCoverage:
    scans = 0 if covered_at is None else 1
    return SlotCoverage(slot, covered_at, covered_at, scans, operations)


def is_due(slot: datetime, covered_at: datetime | None, now: datetime = NOW) -> bool:
    return bool(due_slots([covered(slot, covered_at)], POLICY, now))


@pytest.mark.parametrize(
    ("age", "every"),
    [
        (30 * MINUTE, 10 * MINUTE),
        (2 * HOUR, 30 * MINUTE),
        (5 * HOUR, 30 * MINUTE),
        (7 * HOUR, 2 * HOUR),
        (23 * HOUR, 2 * HOUR),
        (25 * HOUR, 8 * HOUR),
        (2 * DAY, 8 * HOUR),
        (73 * HOUR, DAY),
        (6 * DAY, DAY),
    ],
)
def test_slot_is_due_at_multiples_of_its_tiers_interval(age: timedelta, every: timedelta):
    midnight = at("2026-11-20")
    slot = midnight - age if age >= HOUR else midnight
    multiple = midnight if age >= HOUR else midnight + 30 * MINUTE
    for covered_at in (multiple - MINUTE, multiple - every / 2, multiple - every):
        assert not is_due(slot, covered_at, multiple - MINUTE)
        assert is_due(slot, covered_at, multiple)
    assert not is_due(slot, multiple, multiple + 9 * MINUTE)


@pytest.mark.parametrize(("tier", "count"), [(6 * HOUR, 4), (DAY, 17), (3 * DAY, 47)])
def test_slots_of_a_tier_become_due_together(tier: timedelta, count: int):
    """Whenever each of them was scanned since the multiple before."""
    midnight = at("2026-11-20")
    every = POLICY.every(tier - SLOT)
    members = [
        slot
        for slot in slots_of(midnight)
        if {POLICY.every(now - slot) for now in (midnight - MINUTE, midnight)} == {every}
    ]
    assert len(members) == count
    known = [covered(slot, midnight - every + n * MINUTE) for n, slot in enumerate(members)]
    assert due_slots(known, POLICY, midnight - MINUTE) == []
    assert {one.slot for one in due_slots(known, POLICY, midnight)} == set(members)


def test_interval_not_dividing_a_day_recurs():
    policy = RefreshPolicy(tiers=(Tier(7 * DAY, 7 * HOUR),))
    slot, scans = NOW.replace(minute=0) - DAY, [NOW]
    for tick in (NOW + n * 10 * MINUTE for n in range(6 * 24)):
        if due_slots([covered(slot, scans[-1])], policy, tick):
            scans.append(tick)
    gaps = [b - a for a, b in itertools.pairwise(scans[1:])]
    assert gaps == [7 * HOUR] * 2


def test_sync_seconds_before_a_multiple_is_not_wasted():
    """Clocks differ a little: the next sync would come an interval later."""
    slot, second = NOW.replace(minute=0), timedelta(seconds=1)
    multiple = slot + 10 * MINUTE
    assert is_due(slot, slot + second, multiple - second)
    assert not is_due(slot, multiple - second, multiple + 5 * second)
    assert is_due(slot, multiple - second, multiple + 10 * MINUTE - second)


def test_slot_is_scanned_when_it_ends():
    """As if it were as young as when it was last scanned; what came after that scan waits no longer."""
    end = NOW.replace(minute=0) + 10 * MINUTE
    slot = end - HOUR - 10 * MINUTE
    assert is_due(slot, slot + 50 * MINUTE, slot + HOUR)
    assert is_due(slot, slot + 59 * MINUTE, end)
    assert not is_due(slot, slot + HOUR, end)
    assert not is_due(slot, slot + HOUR, slot + HOUR + 29 * MINUTE)
    assert is_due(slot, slot + HOUR, slot + HOUR + 30 * MINUTE)


def test_uncovered_slot_is_due():
    assert is_due(NOW.replace(minute=0), None)
    assert is_due(NOW.replace(minute=0) - 3 * DAY, None)


def test_future_slot_is_never_due():
    assert not is_due(NOW.replace(minute=0) + HOUR, None)


def test_expired_slot_is_due_while_the_api_knows_its_rest():
    """Once, unless it had its final scan."""
    slot = NOW.replace(minute=0) - 7 * DAY
    end = deadline(slot)
    assert is_due(slot, None, end)
    assert is_due(slot, end - 13 * HOUR, end)
    assert not is_due(slot, end - 12 * HOUR, end)
    assert is_due(slot, None, end + HOUR - timedelta(seconds=1))
    assert not is_due(slot, None, end + HOUR)
    scanned = SlotCoverage(slot, late_at=end + MINUTE)
    assert due_slots([scanned], POLICY, end + 30 * MINUTE) == []


@pytest.mark.parametrize("final", POLICY.final_scans)
def test_slot_is_due_once_more_before_its_deadline(final: timedelta):
    """The final scans: however lately it was covered before, and only once each."""
    slot = NOW.replace(minute=0)
    mark = deadline(slot) - final
    just_before = mark - MINUTE
    assert not is_due(slot, just_before, just_before + MINUTE - timedelta(seconds=1))
    assert is_due(slot, just_before, mark)
    assert not is_due(slot, mark, mark + 5 * MINUTE)


def test_deadlines_go_first_then_what_is_stalest_for_its_age():
    hour = NOW.replace(minute=0)
    pressing = covered(hour + HOUR - 7 * DAY, None)
    later = covered(hour + 6 * HOUR - 7 * DAY, NOW - DAY)
    never = covered(hour - 4 * DAY, None)
    stale = covered(hour - 3 * HOUR, NOW - 3 * HOUR)
    old = covered(hour - 5 * DAY, NOW - 2 * DAY)
    order = due_slots([old, never, later, stale, pressing], POLICY, NOW)
    assert [one.slot for one in order] == [one.slot for one in (pressing, later, never, stale, old)]


def test_small_neighbours_become_one_window_per_day():
    windows = plan_due([covered(slot, None) for slot in slots_of(NOW)], POLICY, NOW)
    hour = NOW.replace(minute=0)
    assert len(windows) == 8
    assert sum(((w.end - w.start) for w in windows), timedelta()) == hour + HOUR - (hour - 7 * DAY)


def test_big_slot_is_cut_and_its_neighbours_stay_whole():
    hour = NOW.replace(minute=0)
    slots = [
        covered(hour - 2 * HOUR, None),
        covered(hour - HOUR, None, 35_000),
        covered(hour, None),
    ]
    windows = sorted(plan_due(slots, POLICY, NOW))
    lengths = [window.end - window.start for window in windows]
    assert lengths == [HOUR, *[15 * MINUTE] * 4, HOUR]


def test_budget_is_spent_on_what_is_most_urgent():
    policy = RefreshPolicy(requests=12)
    slots = [covered(slot, None, 5_000) for slot in slots_of(NOW)]
    windows = plan_due(slots, policy, NOW)
    urgent = due_slots(slots, policy, NOW)
    assert sum(math.ceil(5 * ((w.end - w.start) / HOUR)) for w in windows) <= 12
    assert {slot for w in windows for slot in w.slots()} == {urgent[0].slot, urgent[1].slot}


def test_budget_allows_one_window_at_least():
    policy = RefreshPolicy(requests=1)
    windows = plan_due([covered(slot, None, 5_000) for slot in slots_of(NOW)], policy, NOW)
    assert len(windows) == 1


def test_life_of_a_slot_has_about_forty_scans():
    """Ticks every 10 minutes, as the design reckons, against 672 of a rescan every 15 minutes."""
    slot = at("2026-11-20 12:00")
    one, scans = SlotCoverage(slot), 0
    for tick in itertools.takewhile(
        lambda moment: moment < deadline(slot), (slot + n * 10 * MINUTE for n in itertools.count())
    ):
        if plan_due([one], POLICY, tick):
            one, scans = covered(slot, tick), scans + 1
    assert 35 <= scans <= 42
    assert deadline(slot) - (one.covered_at or slot) <= 2 * HOUR


def test_policy_comes_out_of_the_settings():
    chosen = Settings(
        account_sid=ACCOUNT,
        auth_token="t",
        refresh_intervals="2h:5m,7d:1h",
        final_scans="9h",
        page_size=100,
        max_requests=7,
    )
    policy = RefreshPolicy.of(chosen)
    assert policy.every(HOUR) == 5 * MINUTE
    assert policy.every(3 * DAY) == HOUR
    assert policy.final_scans == (9 * HOUR,)
    assert (policy.page_rows, policy.window_rows, policy.requests) == (100, 1000, 7)
    assert RefreshPolicy.of(Settings(account_sid=ACCOUNT, auth_token="t")) == RefreshPolicy(
        requests=5000
    )


@pytest.mark.parametrize(
    "days", ["2026-03-29 05:00", "2026-11-01 05:00", "2028-02-29 05:00", "2027-01-01 05:00"]
)
def test_daylight_saving_leap_days_and_year_ends_change_nothing(days: str):
    now = at(days)
    windows = plan_due([covered(slot, None) for slot in slots_of(now)], POLICY, now)
    assert sum(((w.end - w.start) for w in windows), timedelta()) == 169 * HOUR


# Properties.

ages = st.none() | st.timedeltas(timedelta(0), timedelta(days=8))
sizes = st.sampled_from([0.0, 1.0, 400.0, 3_000.0, 25_000.0])
coverages = st.lists(st.tuples(ages, sizes), min_size=192, max_size=192)
nows = st.timedeltas(timedelta(0), timedelta(days=400)).map(lambda after: at("2026-01-10") + after)


def known(found: list[tuple[timedelta | None, float]], now: datetime) -> list[SlotCoverage]:
    pairs = zip(slots_of(now), found, strict=True)
    return [covered(s, None if age is None else now - age, size) for s, (age, size) in pairs]


@settings(max_examples=60)
@given(coverages, nows)
def test_windows_tile_the_due_slots_without_hole_or_overlap(found, now):
    """R7: and other slots are in them only where that saves a request."""
    slots = known(found, now)
    windows = sorted(plan_due(slots, POLICY, now))
    assert all(a.end <= b.start for a, b in itertools.pairwise(windows))
    due = {one.slot for one in due_slots(slots, POLICY, now)}
    held = {slot for window in windows for slot in window.slots()}
    assert due <= held
    assert sum(((w.end - w.start) for w in windows), timedelta()) == len(held) * SLOT
    sizes = {one.slot: one.operations for one in slots}
    for window in windows:
        inside = list(window.slots())
        if not set(inside) <= due:
            runs = [
                list(run) for is_due, run in itertools.groupby(inside, due.__contains__) if is_due
            ]
            alone = sum(requests(sum(sizes[slot] for slot in run)) for run in runs)
            assert requests(sum(sizes[slot] for slot in inside)) < alone


def requests(operations: float) -> int:
    return max(math.ceil(operations / POLICY.page_rows), 1)


def test_due_slots_are_joined_over_others_to_save_a_request():
    hour = NOW.replace(minute=0)
    fresh = NOW - MINUTE
    slots = [
        covered(hour - 9 * HOUR, None, 300),
        covered(hour - 8 * HOUR, fresh, 300),
        covered(hour - 7 * HOUR, None, 300),
    ]
    (joined,) = plan_due(slots, POLICY, NOW)
    assert joined == Window(hour - 9 * HOUR, hour - 6 * HOUR)
    slots[1] = covered(hour - 8 * HOUR, fresh, 500)
    assert len(plan_due(slots, POLICY, NOW)) == 2


@settings(max_examples=30)
@given(
    st.integers(1, 40).flatmap(lambda step: st.tuples(st.just(step), st.integers(0, 60 * step))),
    st.integers(0, 1_000_000),
)
def test_scans_of_a_life_keep_their_intervals_and_deadlines(ticks: tuple[int, int], first: int):
    """Syncs at any interval and offset: no gap over an interval and a tick, each final scan in time."""
    step, offset = ticks[0] * MINUTE, timedelta(seconds=ticks[1])
    slot = at("2026-01-10") + first * HOUR
    end, scans = deadline(slot), list[datetime]()
    one = SlotCoverage(slot)
    now = slot + offset
    while now < end:
        if plan_due([one], POLICY, now):
            one = covered(slot, now)
            scans.append(now)
        now += step
    assert scans[0] - slot <= step
    for before, after in itertools.pairwise(scans):
        assert after - before <= POLICY.every(after - slot) + step + MINUTE
    for final in POLICY.final_scans:
        if final > step:
            assert any(timedelta() < end - scan <= final for scan in scans)
            assert end - max(scans) <= final


@settings(max_examples=60)
@given(coverages, nows)
def test_nothing_is_due_once_the_plan_is_done(found, now):
    slots = known(found, now)
    done = {slot for window in plan_due(slots, POLICY, now) for slot in window.slots()}
    after = [covered(s.slot, now, s.operations) if s.slot in done else s for s in slots]
    assert plan_due(after, POLICY, now) == []


@settings(max_examples=60)
@given(coverages, nows, st.integers(0, 10))
def test_plan_is_stable_when_part_of_it_is_done(found, now, finished):
    """What is left is planned again, nothing else: a run that dies costs only what it had not done."""
    slots = known(found, now)
    windows = plan_due(slots, POLICY, now)
    assert plan_due(slots, POLICY, now) == windows
    done = {slot for window in windows[:finished] for slot in window.slots()}
    left = {slot for window in windows for slot in window.slots()} - done
    after = [covered(s.slot, now, s.operations) if s.slot in done else s for s in slots]
    again = {one.slot for one in due_slots(after, POLICY, now)}
    assert again <= left
    assert again == {one.slot for one in due_slots(slots, POLICY, now)} - done


@given(st.integers(1, 86_400), st.integers(1, 5_000))
def test_cutting_a_window_tiles_it(seconds: int, pieces: int):
    window = Window(at("2026-11-20"), at("2026-11-20") + timedelta(seconds=seconds))
    parts = cut(window, pieces)
    assert parts[0].start == window.start
    assert parts[-1].end == window.end
    assert all(a.end == b.start for a, b in itertools.pairwise(parts))
    assert len(parts) == min(pieces, seconds)
