"""summarize(): a day's delivery tables."""

from datetime import timedelta
from pathlib import Path

from pipeline.marts.summarize import summarize
from pipeline.schema import COUNT_NAMES, DELIVERY_HOURLY, MARTS
from tests.support.factories import (
    NOON,
    PARTITION,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
    summarized,
)

ABSENT = dict.fromkeys(COUNT_NAMES)


def hourly(folder: Path, *records: dict) -> list[dict]:
    lake = summarized(new_lake(folder), scan(records))
    return snapshot(lake)[f"delivery_hourly {PARTITION}"]


def evidence(folder: Path, *records: dict) -> dict[str, tuple]:
    lake = summarized(new_lake(folder), scan(records))
    return {
        row["question"]: (
            row["cumulative_operations"],
            row["exclusive_operations"],
            row["cumulative_example"] or row["exclusive_example"],
        )
        for row in snapshot(lake)[f"counting_evidence {PARTITION}"]
    }


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


def test_operation_without_a_count_that_rates_need_is_not_rated(tmp_path: Path):
    """A rate must not divide what one operation has by what another lacks."""
    lacking = record(1, stats={"total": 100})
    del lacking["stats"]["delivered"]
    (row,) = hourly(tmp_path, lacking, record(2))
    assert (row["operations"], row["rated_operations"]) == (2, 1)
    assert (row["total"], row["rated_attempted"], row["rated_delivered"]) == (101, 1, 1)


def test_counts_that_fit_both_readings_are_no_evidence(tmp_path: Path):
    found = evidence(tmp_path, record(1, stats={"sent": 0, "delivered": 0}))
    assert found == {"opened_in_delivered": (0, 0, None), "delivered_in_sent": (0, 0, None)}


def test_more_opened_than_delivered_means_that_delivered_excludes_opened(tmp_path: Path):
    """Fact: "whether `delivered` still counts an opened one is undecided"; the data decide."""
    one = record(1, stats={"total": 5, "sent": 0, "delivered": 1, "opened": 3})
    assert evidence(tmp_path, one)["opened_in_delivered"] == (0, 1, operation_id(1))


def test_parts_beyond_total_mean_that_delivered_includes_opened(tmp_path: Path):
    """The reference's sample: total 5, sent 5, delivered 5, opened 3."""
    one = record(1, stats={"total": 5, "sent": 5, "delivered": 5, "opened": 3})
    assert evidence(tmp_path, one) == {
        "opened_in_delivered": (1, 0, operation_id(1)),
        "delivered_in_sent": (1, 0, operation_id(1)),
    }


def test_fewer_sent_than_delivered_means_that_sent_excludes_delivered(tmp_path: Path):
    """The guide's sample: total 2, sent 0, delivered 2."""
    one = record(1, stats={"total": 2, "sent": 0, "delivered": 2, "opened": 0})
    assert evidence(tmp_path, one)["delivered_in_sent"] == (0, 1, operation_id(1))


def test_summarizing_again_writes_nothing(tmp_path: Path):
    lake = summarized(new_lake(tmp_path), scan([record(1)]))
    written = [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS]
    rows = summarize(lake, PARTITION)
    assert (rows["delivery_hourly"], rows["counting_evidence"]) == (1, 2)
    assert [lake.part(mart, PARTITION).stat().st_ino for mart in MARTS] == written


def test_summarizing_clears_the_mark_that_folding_left(tmp_path: Path):
    """R5: the mark says that derived tables may be older than history."""
    lake = summarized(new_lake(tmp_path), scan([record(1)]))
    assert lake.stale() == set()
    lake.part(DELIVERY_HOURLY, PARTITION).unlink()
    lake.files.touch(lake.stale_marker(PARTITION))
    assert lake.stale() == {PARTITION}
    summarize(lake, PARTITION)
    assert lake.stale() == set()
    assert lake.part(DELIVERY_HOURLY, PARTITION).exists()
