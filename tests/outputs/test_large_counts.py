"""Counts that can't be: one record of them must not keep its day, week or month from being published."""

import logging
from pathlib import Path
from typing import Any

import pytest

from pipeline.access.query import ask
from pipeline.lake.layout import Lake
from pipeline.model.schema import COUNT_NAMES, MAX_PLAUSIBLE_COUNT
from pipeline.outputs.warehouse import publish
from pipeline.quality.checks import CHECKS, failing_rows
from pipeline.report.data import read_accounts
from pipeline.settings import Settings
from tests.support.archives import sync_all
from tests.support.cases import some
from tests.support.factories import (
    ACCOUNT,
    PARTITION,
    body,
    derived,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
)
from tests.support.scripted_api import Answer, Received, scripted

LARGEST = 2**63 - 1
NEEDED_BY_RATES = set(COUNT_NAMES) - {"recipients", "attempts", "sent"}
SOME_FIRST = sorted(COUNT_NAMES, key=lambda name: name not in ("total", "sent", "opened"))
PERIODS = ("delivery_hourly", "delivery_daily", "delivery_weekly", "delivery_monthly")


def published(folder: Path, *records: dict[str, Any]) -> Lake:
    lake = derived(new_lake(folder), scan(records))
    publish(lake)
    return lake


def rows(lake: Lake, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in ask(lake, query).to_pylist()]


@pytest.mark.parametrize("name", some(SOME_FIRST, 3))
def test_largest_count_is_left_out_of_sums_and_rates(tmp_path: Path, name: str):
    odd = [record(n, stats={name: LARGEST}) for n in (1, 2, 3)]
    lake = published(tmp_path, *odd, record(4))
    (alone,) = snapshot(derived(new_lake(tmp_path / "alone"), scan([record(4)])))[
        f"delivery_hourly {PARTITION}"
    ].copy()
    rated = 1 if name in NEEDED_BY_RATES else 4
    for table in PERIODS:
        query = (
            f"SELECT operations, rated_operations, {name}, rated_attempted, rated_delivered, "
            f"delivery_rate FROM {table} WHERE operations > 0"
        )
        assert rows(lake, query) == [(4, rated, alone[name], rated, rated, 1.0)], table
    query = "SELECT sum(rated_operations), sum(delivered) FROM delivery_curve WHERE age = '3 h'"
    assert rows(lake, query) == [(None, None)]  # not that old yet
    assert rows(lake, f"SELECT max({name}), sum({name}) > {LARGEST} FROM operations") == [
        (LARGEST, True)
    ]
    assert {row[name] for row in snapshot(lake)[f"history {PARTITION}"]} >= {LARGEST}


@pytest.mark.parametrize("name", sorted(NEEDED_BY_RATES))
def test_largest_count_is_left_out_of_the_curve(tmp_path: Path, name: str):
    lake = derived(new_lake(tmp_path), scan([record(1, stats={name: LARGEST}), record(2)]))
    curve = {row["age_minutes"]: row for row in snapshot(lake)[f"delivery_curve {PARTITION}"]}
    last = curve[10080]
    assert (last["operations"], last["rated_operations"]) == (2, 1)
    assert (last["emails"], last["attempted"], last["delivered"]) == (1, 1, 1)


def test_largest_plausible_count_is_summed(tmp_path: Path):
    one = {"total": MAX_PLAUSIBLE_COUNT, "sent": MAX_PLAUSIBLE_COUNT}
    lake = published(tmp_path, record(1, stats=one), record(2, stats=one))
    assert rows(lake, "SELECT total, rated_attempted FROM delivery_monthly") == [
        (2 * MAX_PLAUSIBLE_COUNT, 2 * MAX_PLAUSIBLE_COUNT)
    ]
    beyond = record(1, stats={"total": MAX_PLAUSIBLE_COUNT + 1})
    lake = published(tmp_path / "beyond", beyond)
    assert rows(lake, "SELECT operations, total FROM delivery_monthly") == [(1, None)]
    assert rows(lake, "SELECT size_class FROM operation_sizes") == [("unknown",)]


def test_sync_of_impossible_counts_publishes_and_warns_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Each count in turn, all at once, and negative ones, which are rejects."""
    odd = [record(n, stats={name: LARGEST}) for n, name in enumerate(COUNT_NAMES)]
    odd.append(record(20, stats=dict.fromkeys(COUNT_NAMES, LARGEST)))
    odd.append(record(21, stats={"total": -1}))

    def answer(request: Received) -> Answer:
        is_day = request.query.get("startDate", "").startswith("2026-11-19T23:59")
        return Answer(body([*odd, record(30)] if is_day else []))

    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", api_url=server.url, data=tmp_path, trust_clock=True
        )
        with caplog.at_level(logging.WARNING, "pipeline.marts.derive"):
            report = sync_all(settings, publishing=True)
    assert report.ok
    assert report.published
    lake = Lake(tmp_path)
    query = "SELECT operations, total, rated_attempted, delivery_rate FROM delivery_monthly"
    # Recipients, attempts and sent are no part of the rates: these three operations are rated.
    assert rows(lake, query) == [(13, 11, 4, 1.0)]
    (account,), _ = read_accounts(lake)
    assert account.operations == 13
    told = [line for line in caplog.messages if "implausible" in line]
    assert len(told) == 2 * len(COUNT_NAMES)
    assert f"total of {operation_id(0)} is {LARGEST}" in told[0]


def test_check_names_the_record_and_its_count(tmp_path: Path):
    lake = derived(
        new_lake(tmp_path),
        scan([record(1, stats={"total": LARGEST, "opened": LARGEST}), record(2)]),
    )
    found = failing_rows(lake, CHECKS, lake.partitions("operations"))[
        "plausible_counts"
    ].to_pylist()
    assert [(row["operation_id"], row["count_name"], row["value"]) for row in found] == [
        (operation_id(1), "opened", LARGEST),
        (operation_id(1), "total", LARGEST),
    ]
    assert found[1]["problem"] == (
        "total is 9,223,372,036,854,775,807: more than 1,000,000,000 in one operation is taken for "
        "absent"
    )


def test_check_of_the_parts_has_room_for_any_counts(tmp_path: Path):
    stats = dict.fromkeys(COUNT_NAMES, LARGEST) | {"total": 1}
    lake = derived(new_lake(tmp_path), scan([record(1, stats=stats)]))
    (row,) = failing_rows(lake, CHECKS, lake.partitions("operations"))[
        "parts_within_total"
    ].to_pylist()
    assert (row["operation_id"], row["parts"]) == (operation_id(1), 6 * LARGEST)
