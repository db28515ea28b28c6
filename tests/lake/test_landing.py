"""land(): scans as immutable files, until their day is merged."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc

from pipeline.lake import landing
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.model.records import LookupBatch
from pipeline.model.schema import LOOKUPS, OPERATION_ERRORS, OPERATIONS, REJECTS
from tests.support.factories import (
    NOON,
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

AFTER_DEADLINE = NOON + timedelta(days=7)
SCAN = scan([record(n) for n in range(20)] + [record(20, note="x"), record(21, id="")])


def rows(lake: Lake, table: str) -> list[dict]:
    return snapshot(lake)[f"{table} {PARTITION}"]


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
