"""How scans cover slots, and what that amounts to: never more than was listed (R4)."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.access.query import ask
from pipeline.lake.coverage import cover, read_slots
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.model.records import SlotCoverage
from pipeline.model.schema import COVERAGE, SLOT_COVERAGE
from pipeline.model.windows import Window, deadline
from pipeline.outputs.collected import slot_states
from pipeline.outputs.warehouse import publish
from pipeline.rebuild import rebuild
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    PARTITION,
    at,
    landed,
    new_lake,
    record,
    scan,
)

HOUR = timedelta(hours=1)
SLOT = NOON


def row(
    start: datetime,
    end: datetime,
    observed_at: datetime,
    *,
    took: timedelta = timedelta(0),
    complete: bool = True,
    operations: int = 0,
) -> dict[str, Any]:
    return {
        "scan_id": f"{observed_at}-{start}",
        "window_start": start,
        "window_end": end,
        "observed_at": observed_at,
        "completed_at": observed_at + took,
        "complete": complete,
        **dict.fromkeys(COVERAGE.names[6:], 0),
        "operations": operations,
    }


def slot_of(*rows: dict[str, Any], slot: datetime = SLOT) -> SlotCoverage:
    """What these scans make of one slot."""
    table = pa.Table.from_pylist(list(rows), schema=COVERAGE.arrow)
    (found,) = [one for one in cover(slot.date(), table) if one.slot == slot]
    return found


def test_day_has_24_slots_scanned_or_not():
    slots = cover(DAY, COVERAGE.arrow.empty_table())
    assert slots == [SlotCoverage(slot) for slot in Window.of_day(DAY).slots()]


def test_scan_covers_up_to_the_moment_when_it_began():
    """R4"""
    seen = SLOT + 2 * HOUR
    assert slot_of(row(SLOT, SLOT + HOUR, seen, took=HOUR)).covered_at == seen


def test_slot_is_covered_only_when_scans_together_cover_all_of_it():
    """R4: by the oldest of those that are needed for it."""
    half = SLOT + HOUR / 2
    first = row(SLOT, half, SLOT + 2 * HOUR)
    second = row(half, SLOT + HOUR, SLOT + 3 * HOUR)
    assert slot_of(first).covered_at is None
    assert slot_of(first, second).covered_at == SLOT + 2 * HOUR
    again = row(SLOT, half, SLOT + 4 * HOUR)
    assert slot_of(first, second, again).covered_at == SLOT + 3 * HOUR
    almost = row(SLOT, SLOT + HOUR - timedelta(microseconds=1), SLOT + 5 * HOUR)
    assert slot_of(almost).covered_at is None


def test_incomplete_scan_covers_nothing():
    """R4"""
    assert slot_of(row(SLOT, SLOT + HOUR, SLOT + HOUR, complete=False)) == SlotCoverage(SLOT)


def test_scan_ended_after_the_deadline_covers_nothing():
    """R4: welcome for what it finds, but the API may have left out what it had forgotten."""
    late = deadline(SLOT)
    in_time = row(SLOT, SLOT + HOUR, late - HOUR, took=HOUR - timedelta(seconds=1))
    too_late = row(SLOT, SLOT + HOUR, late - HOUR, took=HOUR)
    assert slot_of(in_time).covered_at == late - HOUR
    assert slot_of(too_late) == SlotCoverage(SLOT, late_at=late - HOUR)


def test_partly_expired_day_covers_only_the_rest():
    """R4: one scan of a whole day, taken 7 days after its noon."""
    whole = row(at(f"{DAY}"), at(f"{DAY}") + 24 * HOUR, NOON + timedelta(days=7, minutes=30))
    table = pa.Table.from_pylist([whole], schema=COVERAGE.arrow)
    covered = [one.slot for one in cover(DAY, table) if one.covered_at]
    assert covered == [NOON + n * HOUR for n in range(1, 12)]


def test_operations_are_estimated_from_the_last_scans():
    day = row(at(f"{DAY}"), at(f"{DAY}") + 24 * HOUR, SLOT + 2 * HOUR, operations=240)
    assert slot_of(day).operations == pytest.approx(10)
    half = row(SLOT, SLOT + HOUR / 2, SLOT + 3 * HOUR, operations=20)
    assert slot_of(day, half).operations == pytest.approx(25)
    assert slot_of(day, half).scans == 2


pieces = st.tuples(st.integers(0, 7), st.integers(1, 8), st.integers(0, 20), st.booleans()).map(
    lambda p: row(
        SLOT + p[0] * HOUR / 8,
        min(SLOT + (p[0] + p[1]) * HOUR / 8, SLOT + HOUR),
        SLOT + HOUR + timedelta(minutes=p[2]),
        complete=p[3],
    )
)


@settings(max_examples=200)
@given(st.lists(pieces, max_size=8), st.randoms(use_true_random=False))
def test_coverage_never_exceeds_the_union_of_the_scans(rows: list[dict[str, Any]], random: Any):
    """R4: against a reckoning eighth by eighth; and the order of the scans does not matter."""
    last = []
    for eighth in range(8):
        start = SLOT + eighth * HOUR / 8
        seen = [
            one["observed_at"]
            for one in rows
            if one["complete"] and one["window_start"] <= start < one["window_end"]
        ]
        last.append(max(seen, default=None))
    expected = None if None in last else min(moment for moment in last if moment)
    assert slot_of(*rows).covered_at == expected
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert slot_of(*shuffled) == slot_of(*rows)


# What it amounts to.


def lake_of(folder: Path, *seen: datetime) -> Lake:
    """A lake with scans of the whole day at these moments, merged."""
    lake = landed(new_lake(folder), *(scan([record(1)], observed_at=moment) for moment in seen))
    merge(lake, PARTITION)
    return lake


def state(lake: Lake, now: datetime, slot: datetime = SLOT) -> str:
    rows = slot_states(lake, now).to_pylist()
    (found,) = [one["state"] for one in rows if one["slot"] == slot]
    return str(found)


LAST = deadline(SLOT)


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        ([SLOT + HOUR / 2], SLOT + HOUR, "open"),
        ([SLOT + 2 * HOUR], SLOT + 3 * HOUR, "open"),
        ([SLOT + 2 * HOUR], LAST - 7 * HOUR, "open"),
        ([SLOT + 2 * HOUR], LAST - 5 * HOUR, "at_risk"),
        ([SLOT + HOUR / 2], LAST - 25 * HOUR, "open"),
        ([SLOT + HOUR / 2], LAST - 23 * HOUR, "at_risk"),
        ([LAST - 12 * HOUR], LAST - 11 * HOUR, "final"),
        ([LAST - 12 * HOUR], LAST + HOUR, "final"),
        ([SLOT + 2 * HOUR], LAST, "closed"),
        ([SLOT + HOUR / 2], LAST, "gap"),
        ([SLOT + HOUR / 2], LAST + 1000 * HOUR, "gap"),
        ([SLOT + HOUR / 2, LAST + HOUR], LAST + 2 * HOUR, "gap"),
        ([LAST + HOUR], LAST + 2 * HOUR, "before_archive"),
        ([LAST - HOUR], LAST + 2 * HOUR, "final"),
    ],
)
def test_state_of_a_slot(tmp_path: Path, seen: list[datetime], now: datetime, expected: str):
    """R4: and a scan after the deadline never mends a gap."""
    assert state(lake_of(tmp_path, *seen), now) == expected


def test_slot_states_are_as_of_the_latest_scan_at_least(tmp_path: Path):
    """R10: a machine whose clock is behind takes nothing back that the API's clock has shown."""
    lake = lake_of(tmp_path, LAST - HOUR)
    assert state(lake, SLOT) == "final"


def test_unscanned_day_is_a_gap_after_its_deadline(tmp_path: Path):
    lake = lake_of(tmp_path, NOON)
    forgotten = NOON + timedelta(days=2)
    assert state(lake, forgotten + HOUR, forgotten) == "open"
    assert state(lake, deadline(forgotten), forgotten) == "gap"


def test_views_show_slots_and_days_in_sql(tmp_path: Path):
    lake = lake_of(tmp_path, deadline(NOON) - HOUR)
    publish(lake)
    slots = ask(
        lake, "SELECT slot, state, hours_left FROM coverage_slots ORDER BY slot"
    ).to_pylist()
    # The scan came 6 days and 23 hours after noon: the morning's deadlines had passed by then.
    states = [one["state"] for one in slots[:24]]
    assert states == ["before_archive"] * 12 + ["final"] * 12
    assert slots[12] == {"slot": NOON, "state": "final", "hours_left": 1.0}
    (day,) = ask(lake, f"FROM coverage_days WHERE created_date = '{DAY}'").to_pylist()
    assert day["final_slots"] + day["before_archive_slots"] == 24
    assert day["compacted"]


def test_first_run_expects_every_retained_slot(
    tmp_path: Path,
):
    """R4: a first run that reached only one of eight days must not look as if nothing else had been."""
    lake = lake_of(tmp_path, SLOT + 2 * HOUR)
    publish(lake)
    (slots,) = ask(lake, "SELECT count(*) AS n, min(slot) AS first FROM coverage_slots").to_pylist()
    assert slots["first"] == at("2026-11-13")
    moment = SLOT + timedelta(days=3)
    states = Counter(row["state"] for row in slot_states(lake, moment).to_pylist())
    # All that was created in the 3 days before is lost but for the day that was scanned.
    assert states["gap"] == 3 * 24 - 2
    assert states["at_risk"] > 0


def test_slots_can_be_derived_anew_from_the_scans(tmp_path: Path):
    lake = lake_of(tmp_path, SLOT + 2 * HOUR)
    part = lake.part(SLOT_COVERAGE, PARTITION)
    before = part.read_bytes()
    part.unlink()
    rebuild(lake)
    assert part.read_bytes() == before


def test_slots_read_back_are_those_of_the_scans(tmp_path: Path):
    lake = lake_of(tmp_path, SLOT + 2 * HOUR)
    slots = read_slots(lake, ACCOUNT, [DAY, DAY + timedelta(days=1)])
    assert len(slots) == 48
    assert {one.covered_at for one in slots[:24]} == {SLOT + 2 * HOUR}
    assert {replace(one, slot=SLOT) for one in slots[24:]} == {SlotCoverage(SLOT)}


def test_day_whose_coverage_can_not_be_read_counts_as_never_scanned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """R4, R9: it is scanned again, and keeps no other day from being scanned."""
    lake = lake_of(tmp_path, SLOT + 2 * HOUR)
    lake.part(COVERAGE, PARTITION).write_bytes(b"PAR1")
    slots = read_slots(lake, ACCOUNT, [DAY])
    assert {replace(one, slot=SLOT) for one in slots} == {SlotCoverage(SLOT)}
    assert "created_date=2026-11-20/part-0.parquet is damaged" in caplog.text
