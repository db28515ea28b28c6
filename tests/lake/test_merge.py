"""merge(): what a day holds after its scans, in whatever order and however often."""

import itertools
import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lake.layout import DERIVE, Lake
from pipeline.lake.merge import merge
from pipeline.merge_runner import derive_pending, merge_pending
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, HISTORY, MARTS, OPERATIONS, REJECTS
from tests.support.factories import (
    DAY,
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    derived,
    landed,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
)

HOUR = timedelta(hours=1)
AFTER_DEADLINE = NOON + timedelta(days=7)


def rows(lake: Lake, table: str) -> list[dict]:
    return snapshot(lake)[f"{table} {PARTITION}"]


def test_late_state_makes_the_delivery_tables_stale(
    tmp_path: Path,
):
    """R5: what was known at an age depends on every state, and not on the order in which they land."""
    late, early = (
        scan(
            [record(1, stats={"opened": n}, updated_at=NOON + n * HOUR)],
            observed_at=NOON + m * HOUR,
        )
        for n, m in ((2, 5), (1, 2))
    )
    lake = derived(new_lake(tmp_path), late)
    assert lake.with_work(DERIVE) == set()
    landed(lake, early)
    merge(lake, PARTITION)
    assert lake.with_work(DERIVE) == {PARTITION}


def test_merging_keeps_every_state_and_shows_the_newest(tmp_path: Path):
    """R1, R2."""
    lake = landed(
        new_lake(tmp_path),
        scan([record(1, stats={"delivered": 0})], observed_at=NOON + HOUR),
        scan([record(1, updated_at=NOON + HOUR)], observed_at=NOON + 2 * HOUR),
    )
    report = merge(lake, PARTITION)
    assert [(r["delivered"], r["observed_at"]) for r in rows(lake, "history")] == [
        (0, NOON + HOUR),
        (1, NOON + 2 * HOUR),
    ]
    assert [(r["operation_id"], r["delivered"]) for r in rows(lake, "operations")] == [
        (operation_id(1), 1)
    ]
    assert (report.scans, report.new, report.changed, report.unchanged) == (2, 1, 0, 0)


def test_report_counts_new_changed_and_unchanged(tmp_path: Path):
    lake = landed(new_lake(tmp_path), scan([record(n) for n in (1, 2, 3)], observed_at=NOON + HOUR))
    merge(lake, PARTITION)
    changed = record(2, stats={"opened": 1}, updated_at=NOON + HOUR)
    landed(lake, scan([record(1), changed, record(4)], observed_at=NOON + 2 * HOUR))
    report = merge(lake, PARTITION)
    assert (report.new, report.changed, report.unchanged) == (1, 1, 1)
    assert (report.operations, report.states) == (4, 5)


def test_same_state_seen_again_is_one_state_first_seen_then(tmp_path: Path):
    scans = [scan([record(1)], observed_at=NOON + n * HOUR) for n in (3, 1, 2)]
    lake = landed(new_lake(tmp_path), *scans)
    merge(lake, PARTITION)
    assert [row["observed_at"] for row in rows(lake, "history")] == [NOON + HOUR]


def test_absence_from_a_later_response_removes_nothing(tmp_path: Path):
    """R1."""
    lake = landed(new_lake(tmp_path), scan([record(1), record(2)]))
    merge(lake, PARTITION)
    landed(lake, scan([], observed_at=AFTER_DEADLINE + HOUR))
    merge(lake, PARTITION)
    assert len(rows(lake, "operations")) == 2


def test_older_state_served_later_replaces_nothing(tmp_path: Path):
    """R3: the highest updated_at is the newest, whenever it was seen."""
    newer = record(1, stats={"opened": 1}, updated_at=NOON + HOUR)
    lake = landed(
        new_lake(tmp_path),
        scan([newer], observed_at=NOON + 2 * HOUR),
        scan([record(1)], observed_at=NOON + 3 * HOUR),
    )
    merge(lake, PARTITION)
    assert [row["opened"] for row in rows(lake, "operations")] == [1]
    assert len(rows(lake, "history")) == 2


def test_among_equal_updated_at_the_latest_seen_wins(tmp_path: Path):
    """R3."""
    lake = landed(
        new_lake(tmp_path),
        scan([record(1, stats={"opened": 1})], observed_at=NOON + HOUR),
        scan([record(1, stats={"opened": 0})], observed_at=NOON + 2 * HOUR),
    )
    merge(lake, PARTITION)
    assert [row["opened"] for row in rows(lake, "operations")] == [0]


@pytest.mark.parametrize(("later_by", "opened"), [(timedelta(0), 1), (timedelta(seconds=1), 0)])
def test_state_seen_after_the_deadline_replaces_only_if_strictly_newer(
    tmp_path: Path, later_by: timedelta, opened: int
):
    """R3: old windows may be answered incompletely, so what they say must never lower anything."""
    updated_at = NOON + HOUR
    lake = landed(
        new_lake(tmp_path),
        scan([record(1, stats={"opened": 1}, updated_at=updated_at)], observed_at=NOON + 2 * HOUR),
        scan(
            [record(1, stats={"opened": 0}, updated_at=updated_at + later_by)],
            observed_at=AFTER_DEADLINE,
        ),
    )
    merge(lake, PARTITION)
    assert [row["opened"] for row in rows(lake, "operations")] == [opened]


def test_deadline_is_of_the_slot_not_the_operation(tmp_path: Path):
    """R3: an operation of 12:59 is past its deadline at 12:00 seven days later."""
    created_at = NOON + timedelta(minutes=59)
    states = [
        record(1, created_at=created_at, updated_at=created_at, stats={"opened": opened})
        for opened in (1, 0)
    ]
    lake = landed(
        new_lake(tmp_path),
        scan([states[0]], observed_at=created_at),
        scan([states[1]], observed_at=AFTER_DEADLINE + timedelta(minutes=30)),
    )
    merge(lake, PARTITION)
    assert [row["opened"] for row in rows(lake, "operations")] == [1]


def test_unreadable_records_are_kept_verbatim_and_once(tmp_path: Path):
    """R1, R9."""
    bad = record(2, stats={"sent": -1})
    lake = landed(
        new_lake(tmp_path),
        scan([record(1), bad], observed_at=NOON + 2 * HOUR),
        scan([record(1), bad], observed_at=NOON + HOUR),
    )
    report = merge(lake, PARTITION)
    (reject,) = rows(lake, "rejects")
    assert json.loads(reject["raw"]) == bad
    assert reject["observed_at"] == NOON + HOUR
    assert reject["scan_id"].startswith("20261120T130000Z")
    assert (report.rejects, report.new_rejects) == (1, 1)


def test_merging_again_changes_nothing_and_writes_nothing(tmp_path: Path):
    """R5."""
    lake = landed(new_lake(tmp_path), scan([record(1), record(2, id="")]))
    merge(lake, PARTITION)
    parts = [lake.part(table, PARTITION) for table in (OPERATIONS, HISTORY, COVERAGE, REJECTS)]
    before, written = snapshot(lake), [path.stat().st_mtime_ns for path in parts]
    report = merge(lake, PARTITION)
    assert snapshot(lake) == before
    assert [path.stat().st_mtime_ns for path in parts] == written
    assert report.scans == 0


def test_rescan_with_nothing_changed_rewrites_only_coverage(tmp_path: Path):
    lake = landed(new_lake(tmp_path), scan([record(1)], observed_at=NOON + HOUR))
    merge(lake, PARTITION)
    parts = [lake.part(table, PARTITION) for table in (OPERATIONS, HISTORY)]
    written = [path.stat().st_ino for path in parts]
    landed(lake, scan([record(1)], observed_at=NOON + 2 * HOUR))
    assert merge(lake, PARTITION).unchanged == 1
    assert [path.stat().st_ino for path in parts] == written
    assert len(rows(lake, "coverage")) == 2


def test_any_order_of_landing_gives_the_same_tables(tmp_path: Path):
    """R5: merging is a union of sets."""
    scans = [
        scan(
            [record(1, stats={"opened": n % 2}, updated_at=NOON + u * HOUR), record(9, id="")],
            observed_at=NOON + timedelta(hours=n),
        )
        for n, u in ((1, 1), (2, 1), (3, 0))
    ]
    results = []
    for number, order in enumerate(itertools.permutations(scans)):
        lake = new_lake(tmp_path / str(number))
        for one in order:
            landed(lake, one)
            merge(lake, PARTITION)
        results.append(snapshot(lake))
    assert all(result == results[0] for result in results)


def test_state_seen_by_an_older_scan_was_first_seen_then(tmp_path: Path):
    """R5: a scan that lands late, after a newer one was merged, still tells when a state was there."""
    lake = landed(new_lake(tmp_path), scan([record(1)], observed_at=NOON + 2 * HOUR))
    merge(lake, PARTITION)
    landed(lake, scan([record(1)], observed_at=NOON + HOUR))
    merge(lake, PARTITION)
    other = landed(
        new_lake(tmp_path / "other"),
        scan([record(1)], observed_at=NOON + HOUR),
        scan([record(1)], observed_at=NOON + 2 * HOUR),
    )
    merge(other, PARTITION)
    assert snapshot(lake) == snapshot(other)


def test_two_states_of_one_moment_stay_and_one_wins(tmp_path: Path):
    """R1, R2: the choice is the same every time."""
    states = [record(1, stats={"opened": opened}) for opened in (0, 1)]
    results = []
    for number, order in enumerate(itertools.permutations(states)):
        lake = landed(new_lake(tmp_path / str(number)), scan(order))
        merge(lake, PARTITION)
        results.append(snapshot(lake))
    assert results[0] == results[1]
    assert len(results[0][f"history {PARTITION}"]) == 2
    assert len(results[0][f"operations {PARTITION}"]) == 1


states = st.builds(
    lambda number, opened, updated, seen: (number, opened, updated, seen),
    st.integers(1, 3),
    st.none() | st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from([1, 2, 5, 24 * 7 - 1, 24 * 7, 24 * 7 + 5]),
)


@settings(max_examples=15)
@given(found=st.lists(states, min_size=1, max_size=8), cut=st.integers(0, 8))
def test_tables_are_a_function_of_what_landed(tmp_path_factory, found, cut):
    """R1, R2, R3, R5: however the scans are batched, history is all states and operations its newest."""
    scans = [
        scan(
            [record(number, stats={"opened": opened}, updated_at=NOON + updated * HOUR)],
            observed_at=NOON + seen * HOUR,
        )
        for number, opened, updated, seen in found
    ]
    at_once = landed(new_lake(tmp_path_factory.mktemp("a")), *scans)
    merge(at_once, PARTITION)
    in_two = landed(new_lake(tmp_path_factory.mktemp("b")), *scans[:cut])
    merge(in_two, PARTITION)
    landed(in_two, *reversed(scans[cut:]))
    merge(in_two, PARTITION)
    assert snapshot(at_once) == snapshot(in_two)

    distinct = {(n, o, u): min(s for *key, s in found if key == [n, o, u]) for n, o, u, _ in found}
    history = rows(at_once, "history")
    assert {
        (r["operation_id"], r["opened"], r["updated_at"]): r["observed_at"] for r in history
    } == {
        (operation_id(n), o, NOON + u * HOUR): NOON + s * HOUR for (n, o, u), s in distinct.items()
    }

    for row in rows(at_once, "operations"):
        candidates = [r for r in history if r["operation_id"] == row["operation_id"]]
        assert row in candidates
        newest = max(r["updated_at"] for r in candidates)
        in_time = [
            r for r in candidates if r["updated_at"] == newest and r["observed_at"] < AFTER_DEADLINE
        ]
        assert row["updated_at"] == newest
        if in_time:
            assert row["observed_at"] == max(r["observed_at"] for r in in_time)


def test_days_and_accounts_never_share_a_file(tmp_path: Path):
    lake = landed(
        new_lake(tmp_path), scan([record(1)]), scan([record(1)], account_id=OTHER_ACCOUNT)
    )
    merge(lake, PARTITION)
    assert list(lake.partitions("operations")) == [PARTITION]
    merge(lake, Partition(OTHER_ACCOUNT, DAY))
    assert len(list(lake.partitions("operations"))) == 2


def test_merge_derives_the_same_as_derive(tmp_path: Path):
    later = NOON + HOUR
    scans = [
        scan([record(1), record(2)]),
        scan([record(2, stats={"opened": 2}, updated_at=later), record(3)], observed_at=later),
    ]
    at_once, apart = new_lake(tmp_path / "at once"), new_lake(tmp_path / "apart")
    for one in scans:
        landed(at_once, one)
        assert not merge_pending(at_once, deriving=True).errors
        assert at_once.with_work(DERIVE) == set()
        landed(apart, one)
        merge_pending(apart)
        derive_pending(apart)
    marts = {mart.name for mart in MARTS}
    found, expected = (
        {key: value for key, value in snapshot(lake).items() if key.split()[0] in marts}
        for lake in (at_once, apart)
    )
    assert found == expected
    assert found
