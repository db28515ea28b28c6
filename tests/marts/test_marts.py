"""derive(): a day's delivery tables."""

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.lake import parquet
from pipeline.lake.layout import DERIVE, Lake
from pipeline.marts.derive import derive
from pipeline.merge_runner import derive_pending
from pipeline.model.schema import (
    AGES,
    COUNT_NAMES,
    COUNTING_EVIDENCE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    MARTS,
    OPERATION_SIZES,
)
from tests.support.factories import (
    NOON,
    PARTITION,
    derived,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
)
from tests.support.states import as_known, distinct, newest

ABSENT = dict.fromkeys(COUNT_NAMES)


def hourly(folder: Path, *records: dict) -> list[dict]:
    lake = derived(new_lake(folder), scan(records))
    return snapshot(lake)[f"delivery_hourly {PARTITION}"]


def test_one_row_per_hour_and_status_with_each_counts_sum(tmp_path: Path):
    later = NOON + timedelta(minutes=59, seconds=59)
    rows = hourly(
        tmp_path,
        record(1, stats={"total": 3, "delivered": 3, "sent": 3}),
        record(2, created_at=later),
        record(3, status="CANCELED", stats={"sent": 0, "delivered": 0, "canceled": 1}),
        record(4, created_at=NOON + timedelta(hours=1)),
    )
    assert [
        (r["hour"], r["status"], r["operations"], r["total"], r["delivered"]) for r in rows
    ] == [
        (NOON, "CANCELED", 1, 1, 0),
        (NOON, "COMPLETED", 2, 4, 4),
        (NOON + timedelta(hours=1), "COMPLETED", 1, 1, 1),
    ]
    assert [r["rated_attempted"] for r in rows] == [0, 4, 1]


def test_absent_counts_make_a_null_sum_and_never_zero(tmp_path: Path):
    absent = record(1)
    del absent["stats"]["attempts"]
    (row,) = hourly(tmp_path, absent)
    assert (row["attempts"], row["total"]) == (None, 1)


def test_operation_missing_a_count_is_not_rated(tmp_path: Path):
    """A rate must not divide what one operation has by what another lacks."""
    lacking = record(1, stats={"total": 100})
    del lacking["stats"]["delivered"]
    (row,) = hourly(tmp_path, lacking, record(2))
    assert (row["operations"], row["rated_operations"]) == (2, 1)
    assert (row["total"], row["rated_attempted"], row["rated_delivered"]) == (101, 1, 1)


def test_summarizing_again_writes_nothing(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    written = [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS]
    rows = derive(lake, PARTITION)
    assert (rows["delivery_hourly"], rows["counting_evidence"]) == (1, 1)
    assert [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS] == written


def test_deriving_clears_the_mark_left_by_merging(tmp_path: Path):
    """R5: the mark says that derived tables may be older than history."""
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    assert lake.with_work(DERIVE) == set()
    lake.part(DELIVERY_HOURLY, PARTITION).unlink()
    lake.note_work(PARTITION, DERIVE)
    assert lake.with_work(DERIVE) == {PARTITION}
    derive(lake, PARTITION)
    assert lake.with_work(DERIVE) == set()
    assert lake.part(DELIVERY_HOURLY, PARTITION).exists()


def test_days_derived_by_an_older_version_get_new_marts(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    for mart in (OPERATION_SIZES, DELIVERY_CURVE):
        shutil.rmtree(lake.root / mart.name)
    lake = Lake(lake.root).open()
    assert lake.with_work(DERIVE) == set()
    assert derive_pending(lake) == ()
    assert all(lake.part(mart, PARTITION).exists() for mart in MARTS)
    assert lake.with_work(DERIVE) == set()


def test_changed_mart_sql_derives_days_again(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    derive_pending(lake)
    lake.derived("marts.json").write_text(json.dumps("made by other SQL"))
    lake.part(DELIVERY_CURVE, PARTITION).unlink()
    derive_pending(lake)
    assert lake.part(DELIVERY_CURVE, PARTITION).exists()


def test_mart_of_another_version_or_damaged_is_derived_anew(tmp_path: Path):
    """Marts are made of operations and history, and of no mart: nothing of the old file is needed."""
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    before = snapshot(lake)
    older = pa.table({"question": ["opened_in_delivered"], "cumulative_operations": [1]})
    pq.write_table(older, lake.part(COUNTING_EVIDENCE, PARTITION))
    lake.part(DELIVERY_HOURLY, PARTITION).write_bytes(b"PAR1")
    derive_pending(lake)
    lake.derived("marts.json").write_text(json.dumps("made by other SQL"))
    assert derive_pending(lake) == ()
    assert snapshot(lake) == before


def test_nothing_is_marked_once_the_marts_are_those_of_this_version(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    derive_pending(lake)
    written = [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS]
    lake.part(DELIVERY_CURVE, PARTITION).unlink()  # what a look at the files would find
    derive_pending(lake)
    assert not lake.part(DELIVERY_CURVE, PARTITION).exists()
    assert [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS[:-1]] == written[:-1]


# The registry.

NEW_MART = """-- Grain: one row per status, of one account's day.
SELECT status, count(*) AS operations FROM operations GROUP BY status ORDER BY status
"""
NEW_ENTRY = """MART_INPUTS = {
    Table(
        "statuses",
        "mart",
        "One row per account, day and status",
        "How many operations have it.",
        (
            Column("status", pa.string(), "The status.", nullable=False),
            Column("operations", pa.int64(), "Operations.", nullable=False),
        ),
    ): (OPERATIONS,),
"""
USING_IT = """
from pathlib import Path
import sys
from pipeline.access.query import ask
from pipeline.outputs.warehouse import publish
from tests.support.factories import new_lake, record, scan, derived
from assets.definitions import defs

lake = derived(new_lake(Path(sys.argv[1])), scan([record(1), record(2)]))
publish(lake)
print(ask(lake, "SELECT status, operations FROM statuses").to_pylist())
print([one.key.to_user_string() for one in defs.resolve_all_asset_specs()])
"""


def test_new_mart_is_one_sql_file_and_one_entry(tmp_path: Path):
    """It is derived, published as a view, and an asset."""
    root = Path(__file__).parents[2]
    for package in ("pipeline", "assets", "tests/support"):
        shutil.copytree(root / package, tmp_path / package)
    for file in (root / "tests").glob("*.py"):
        if file.name in ("__init__.py", "conftest.py"):
            shutil.copy(file, tmp_path / "tests")
    (tmp_path / "pipeline/marts/sql/statuses.sql").write_text(NEW_MART)
    registry = tmp_path / "pipeline/model/schema/__init__.py"
    text = registry.read_text().replace("MART_INPUTS = {\n", NEW_ENTRY)
    registry.write_text(
        text.replace("\nfrom pipeline", "\nimport pyarrow as pa\n\nfrom pipeline", 1)
    )
    done = subprocess.run(
        [sys.executable, "-c", USING_IT, str(tmp_path / "data")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[{'status': 'COMPLETED', 'operations': 2}]")
    assert "'email_archive/statuses'" in done.stdout


# operation_sizes


def test_operations_fall_into_classes_by_their_total(tmp_path: Path):
    totals = [0, 1, 2, 10, 11, 100, 101, 1_000, 1_001, 10_000, 10_001]
    unknown = record(99)
    del unknown["stats"]["total"]
    records = [record(n, stats={"total": total}) for n, total in enumerate(totals)]
    lake = derived(new_lake(tmp_path), scan([*records, unknown]))
    rows = snapshot(lake)[f"operation_sizes {PARTITION}"]
    assert [(r["size_class"], r["smallest"], r["operations"], r["total"]) for r in rows] == [
        ("0", 0, 1, 0),
        ("1", 1, 1, 1),
        ("2-10", 2, 2, 12),
        ("11-100", 11, 2, 111),
        ("101-1,000", 101, 2, 1_101),
        ("1,001-10,000", 1_001, 2, 11_001),
        ("over 10,000", 10_001, 1, 10_001),
        ("unknown", None, 1, None),
    ]


# delivery_curve


def curve(lake) -> dict[int, dict[str, Any]]:
    rows = snapshot(lake)[f"delivery_curve {PARTITION}"]
    return {row["age_minutes"]: row for row in rows}


def test_curve_has_what_was_known_at_each_age(tmp_path: Path):
    """An operation first seen after 10 minutes, delivered by 2 hours, opened by 2 days."""
    seen = [
        (timedelta(minutes=10), {"delivered": 0}),
        (timedelta(hours=2), {"delivered": 1}),
        (timedelta(hours=47), {"delivered": 1, "opened": 1}),
    ]
    scans = [
        scan(
            [record(1, stats=stats, updated_at=NOON + age)],
            observed_at=NOON + age,
        )
        for age, stats in seen
    ]
    found = curve(derived(new_lake(tmp_path), *scans))
    assert list(found) == [minutes for _, minutes in AGES]
    assert [
        (row["operations"], row["emails"], row["delivered"], row["opened"])
        for row in found.values()
    ] == [
        (None, None, None, None),
        (None, None, None, None),
        (1, 1, 0, 0),
        (1, 1, 0, 0),
        *[(1, 1, 1, 0)] * 4,
        *[(1, 1, 1, 1)] * 3,
    ]
    assert {row["hour_operations"] for row in found.values()} == {1}


def test_curve_omits_operations_missing_a_count(tmp_path: Path):
    lacking = record(1, stats={"total": 100})
    del lacking["stats"]["opened"]
    seen = NOON + timedelta(minutes=1)
    row = curve(derived(new_lake(tmp_path), scan([lacking, record(2)], observed_at=seen)))[1]
    assert (row["operations"], row["rated_operations"], row["emails"]) == (2, 1, 1)
    alone = curve(derived(new_lake(tmp_path / "alone"), scan([lacking], observed_at=seen)))[1]
    assert (alone["operations"], alone["rated_operations"], alone["emails"]) == (1, None, None)


def test_scan_without_changes_leaves_the_marts_untouched(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    written = [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS]
    derived(lake, scan([record(1)], observed_at=NOON + timedelta(hours=5)))
    derive(lake, PARTITION)
    assert [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS] == written


AGE_MINUTES = [minutes for _, minutes in AGES]
SEEN = st.tuples(
    st.integers(1, 3),  # the operation
    st.sampled_from([0, 30, 59]),  # created so many minutes after noon
    st.integers(0, 4),  # updated so many hours after
    st.sampled_from([0, 1, 10, 100, 3000, 10_050, 10_079, 10_080, 10_081, 11_000]),  # seen, minutes
    st.integers(0, 3),
    st.integers(0, 3),
    st.none() | st.sampled_from([0, 1, 20, 500]),  # fetched by id so many minutes later
)


@settings(max_examples=80)
@given(st.lists(SEEN, max_size=12))
def test_curve_sums_the_newest_states_seen_by_each_age(seen: list[tuple]):
    """R3: among the states seen by an age, whatever came late, twice, at once or from a stale replica."""
    created = {number: minutes for number, minutes, *_ in seen}
    rows = [
        {
            "operation_id": operation_id(number),
            "status": "COMPLETED",
            **dict.fromkeys(COUNT_NAMES, 0),
            "total": 3,
            "delivered": delivered,
            "opened": opened,
            "created_at": (born := NOON + timedelta(minutes=created[number])),
            "updated_at": born + timedelta(hours=updated),
            "observed_at": born + timedelta(minutes=after),
            "extra": None,
            "looked_up_at": None
            if looked_up is None
            else born + timedelta(minutes=after + looked_up),
        }
        for number, _, updated, after, delivered, opened, looked_up in seen
    ]
    history = distinct(rows)
    table = pa.Table.from_pylist(history, schema=HISTORY.arrow)
    with TemporaryDirectory() as folder:
        lake = new_lake(Path(folder))
        parquet.replace(lake, HISTORY, PARTITION, table)
        derive(lake, PARTITION)
        found = curve(lake)
    for minutes in AGE_MINUTES:
        age = timedelta(minutes=minutes)
        by_age = [r for r in history if r["observed_at"] - r["created_at"] <= age]
        known = newest(as_known(row, row["created_at"] + age) for row in by_age)
        for name, column in (
            ("operations", None),
            ("emails", "total"),
            ("delivered", "delivered"),
            ("opened", "opened"),
        ):
            expected = sum(row[column] if column else 1 for row in known)
            row = found.get(minutes, {})
            assert (row.get(name) or 0) == expected, (minutes, name)
        assert sum(row["hour_operations"] for row in [found.get(minutes)] if row) == len(created)
