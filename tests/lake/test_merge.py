"""land() and merge(): what a day holds after its scans, in whatever order and however often."""

import itertools
import json
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from pipeline.lake import landing
from pipeline.lake.files import Disk, Files
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.merge_runner import derive_pending, merge_pending
from pipeline.model.records import LookupBatch, Partition
from pipeline.model.schema import (
    COVERAGE,
    HISTORY,
    LOOKUPS,
    MARTS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    Table,
)
from pipeline.rebuild import rebuild
from tests.support.disks import Crash
from tests.support.factories import (
    DAY,
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    at,
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


SCAN = scan([record(n) for n in range(20)] + [record(20, note="x"), record(21, id="")])


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


@pytest.mark.parametrize("older", [HISTORY, OPERATIONS], ids=lambda table: table.name)
def test_publish_reconciles_history_and_operations_of_different_moments(
    tmp_path: Path, older: Table
):
    """R1, R2: a copy that was made during a merge may have one of them from before it."""
    first, then = (
        scan([record(n, stats={"opened": n})], observed_at=NOON + n * HOUR) for n in (1, 2)
    )
    changed = scan(
        [record(1, stats={"opened": 5}, updated_at=NOON + 3 * HOUR)], observed_at=NOON + 4 * HOUR
    )
    lake = derived(new_lake(tmp_path / "lake"), first)
    kept = shutil.copy(lake.part(older, PARTITION), tmp_path / "older.parquet")
    landed(lake, then, changed)
    merge(lake, PARTITION)
    whole = {table.name: rows(lake, table.name) for table in (HISTORY, OPERATIONS)}
    shutil.copy(kept, lake.part(older, PARTITION))
    rebuild(lake)
    assert rows(lake, "operations") == whole["operations"]
    found = rows(lake, "history")
    assert [row for row in found if row not in whole["history"]] == []
    assert [row for row in whole["operations"] if row not in found] == []
    assert len(found) == len(whole["history"])


@pytest.mark.parametrize("opened", [0, 5], ids=["as it was", "changed"])
def test_day_with_missing_history_is_an_error_and_unmerged(tmp_path: Path, opened: int):
    """R1: what is left of the day must not pass for all of it, nor what is new of it."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    shutil.rmtree(lake.part(HISTORY, PARTITION).parent)
    before = lake.part(OPERATIONS, PARTITION).read_bytes()
    again = record(1, stats={"opened": opened}, updated_at=NOON + opened * HOUR)
    landed(lake, scan([again], observed_at=NOON + 6 * HOUR))
    with pytest.raises(LakeError, match="is missing, though operations of its day are there"):
        merge(lake, PARTITION)
    _, errors = rebuild(lake)
    assert len(errors) == 1
    assert lake.pending() == {PARTITION}
    assert lake.part(OPERATIONS, PARTITION).read_bytes() == before
    assert not lake.part(HISTORY, PARTITION).exists()


def test_scan_lands_as_one_file_naming_moment_and_window(tmp_path: Path):
    lake = new_lake(tmp_path)
    path = land(lake, scan([record(1)]))
    folder = f"landing/account_id={PARTITION.account_id}/created_date=2026-11-20"
    assert str(path.parent.relative_to(lake.root)) == folder
    assert path.name.startswith("20261120T140000Z-20261120T000000Z_20261121T000000Z-")
    assert lake.landed(PARTITION) == [path]


def test_landed_file_gives_back_the_whole_scan(tmp_path: Path):
    """R4: the data and the proof of coverage are one file."""
    lake = new_lake(tmp_path)
    one = scan([record(1), record(2, note="x"), record(3, id="")])
    back = landing.read(land(lake, one))
    assert back.operations.equals(one.operations)
    assert back.rejects["raw"].to_pylist() == one.rejects["raw"].to_pylist()
    (coverage,) = back.coverage.to_pylist()
    assert coverage["window_start"] == at("2026-11-20 00:00")
    assert coverage["window_end"] == at("2026-11-21 00:00")
    assert (coverage["operations"], coverage["rejects"], coverage["complete"]) == (2, 1, True)


def test_landed_parquet_of_an_older_version_is_merged(tmp_path: Path):
    """R1"""
    lake = new_lake(tmp_path)
    path = land(lake, scan([record(1), record(2, id="")]))
    table = ipc.open_file(path).read_all()
    pq.write_table(table, path.with_suffix(".parquet"))
    path.unlink()
    assert merge(lake, PARTITION).new == 1
    assert [row["operation_id"] for row in rows(lake, "operations")] == [operation_id(1)]
    assert len(rows(lake, "rejects")) == len(rows(lake, "coverage")) == 1
    assert lake.landed(PARTITION) == []


def test_fetched_states_landed_by_an_earlier_version_count_as_fetched(tmp_path: Path):
    """R1, R3: its landed files do not say of each state that it was fetched by id."""
    first = scan([record(1, status="SCHEDULED")])
    lake = derived(new_lake(tmp_path), first)
    canceled = scan([record(1, status="CANCELED")], observed_at=AFTER_DEADLINE).operations
    rejects = REJECTS.arrow.empty_table().drop_columns(["scan_id"])
    none = LOOKUPS.arrow.empty_table(), OPERATION_ERRORS.arrow.empty_table()
    answers = LookupBatch(PARTITION, AFTER_DEADLINE, canceled, rejects, *none, requests=1)
    path = land_lookups(lake, answers)
    old = ipc.open_file(path).read_all().drop_columns(["looked_up_at"])
    with ipc.new_file(path, old.schema) as file:
        file.write_table(old)
    merge(lake, PARTITION)
    (row,) = rows(lake, "operations")
    assert (row["status"], row["looked_up_at"]) == ("CANCELED", AFTER_DEADLINE)


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), length=st.floats(0, 1))
def test_damaged_landed_file_is_an_error_or_a_table(
    tmp_path_factory, place: float, byte: int, length: float
):
    """R9: no damage crashes the process, whatever Arrow makes of it."""
    path = land(new_lake(tmp_path_factory.mktemp("damaged")), SCAN)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[int(place * len(whole))] ^= byte
    for damaged in (bytes(changed), whole[: int(length * len(whole))]):
        path.write_bytes(damaged)
        with suppress(LakeError):
            found = landing.read(path).operations
            assert found.schema == OPERATIONS.arrow
            found.validate(full=True)


def test_empty_scan_lands_too(tmp_path: Path):
    """R4: "we looked, and it was empty" is a fact."""
    lake = landed(new_lake(tmp_path), scan([]))
    merge(lake, PARTITION)
    assert [row["operations"] for row in rows(lake, "coverage")] == [0]
    assert lake.landed(PARTITION) == []


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


def test_damaged_landed_file_stops_its_day_and_loses_nothing(tmp_path: Path):
    """R9: a foreign or damaged file is named, with what to do; nothing is removed."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    foreign = lake.landing_folder(PARTITION) / "notes.parquet"
    foreign.write_bytes(b"no parquet")
    with pytest.raises(LakeError, match=r"notes\.parquet is damaged .* moved away"):
        merge(lake, PARTITION)
    assert len(lake.landed(PARTITION)) == 2
    foreign.unlink()
    assert merge(lake, PARTITION).new == 1


def test_damaged_table_is_an_error_never_empty(tmp_path: Path):
    """R9."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    lake.part(HISTORY, PARTITION).write_bytes(b"PAR1 torn")
    landed(lake, scan([record(2)]))
    with pytest.raises(LakeError, match="move it away"):
        merge(lake, PARTITION)
    assert len(lake.landed(PARTITION)) == 1


def test_history_written_but_operations_not_is_healed_by_the_next_merge(tmp_path: Path):
    """R5: a kill between the two renames leaves the landed file, and the next merge does the rest."""
    lake = landed(new_lake(tmp_path), scan([record(1)], observed_at=NOON + HOUR))
    merge(lake, PARTITION)
    operations = lake.part(OPERATIONS, PARTITION)
    old = operations.read_bytes()
    path = land(lake, scan([record(1, stats={"opened": 1}, updated_at=NOON + HOUR)]))
    content = path.read_bytes()
    merge(lake, PARTITION)
    healed = snapshot(lake)
    operations.write_bytes(old)
    path.write_bytes(content)
    merge(lake, PARTITION)
    assert snapshot(lake) == healed


def test_lake_of_a_newer_version_is_refused(tmp_path: Path):
    lake = new_lake(tmp_path)
    (lake.root / "lake.json").write_text('{"format": 99}')
    for use in (lake.open, lake.must_exist):
        with pytest.raises(LakeError, match="format 99, written by a newer version"):
            use()


def test_folder_of_no_day_is_no_partition(tmp_path: Path):
    lake = new_lake(tmp_path)
    (
        lake.root / "operations" / f"account_id={PARTITION.account_id}" / "created_date=2026-99-99"
    ).mkdir(parents=True)
    assert list(lake.partitions("operations")) == []


def test_foreign_files_among_the_tables_are_found(tmp_path: Path):
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    assert lake.foreign_files() == []
    foreign = lake.part(OPERATIONS, PARTITION).with_name("part-1.parquet")
    foreign.write_bytes(b"x")
    assert lake.foreign_files() == [foreign]


def test_files_are_private_and_temporaries_out_of_readers_sight(tmp_path: Path):
    """R6: temporary files never end in .parquet and never lie where a reader's glob finds them."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    for path in lake.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    temporary = lake.temporary_file("operations", PARTITION)
    assert temporary.relative_to(lake.root).parts[0] == ".tmp"
    assert temporary.suffix != ".parquet"


class DiesAtOperations(Disk):
    """Power goes before operations are replaced, when history is already."""

    def rename(self, source: Path, target: Path) -> None:
        if target.parts[-4] == OPERATIONS.name:
            raise Crash
        super().rename(source, target)


def test_operations_behind_history_catch_up_with_the_next_merge(
    tmp_path: Path,
):
    """R2, R5: also where the landed file of the merge that was killed was moved away since."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    later = NOON + HOUR
    landed(lake, scan([record(1, stats={"opened": 1}, updated_at=later)], observed_at=later))
    with pytest.raises(Crash):
        merge(Lake(lake.root, Files(DiesAtOperations())), PARTITION)
    (file,) = lake.landed(PARTITION)
    file.unlink()
    derive_pending(lake)
    landed(lake, scan([record(2, stats={"opened": 2}, updated_at=later)], observed_at=later))
    merge(lake, PARTITION)
    assert {row["operation_id"]: row["opened"] for row in rows(lake, "operations")} == {
        operation_id(1): 1,
        operation_id(2): 2,
    }


def test_missing_operations_come_back_from_history(tmp_path: Path):
    """R2: a scan that finds some of a day's operations is enough."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    lake.part(OPERATIONS, PARTITION).unlink()
    later = NOON + HOUR
    landed(lake, scan([record(2, stats={"opened": 2}, updated_at=later)], observed_at=later))
    merge(lake, PARTITION)
    assert [row["operation_id"] for row in rows(lake, "operations")] == [
        operation_id(1),
        operation_id(2),
    ]


def test_underivable_day_prevents_no_other_days_tables(tmp_path: Path):
    lake = new_lake(tmp_path)
    landed(lake, scan([record(1)]))
    landed(lake, scan([record(3)], account_id=OTHER_ACCOUNT))
    assert len(merge_pending(lake).merges) == 2
    operations = lake.part(OPERATIONS, PARTITION)
    operations.write_bytes(b"no Parquet")
    (error,) = derive_pending(lake)
    assert str(operations) in str(error)
    assert lake.with_work(DERIVE) == {PARTITION}


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
