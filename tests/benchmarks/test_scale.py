"""What several accounts cost: what they hold, each as much as the first."""

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipeline.access.query import ask
from pipeline.lake.layout import Lake
from pipeline.outputs.warehouse import publish
from pipeline.report.data import read_accounts
from tests.benchmarks.speed.many_days import account_id, make

VIEWS = ("coverage_slots", "coverage_days", "delivery_curve")
LOOPS = ("asof", "nested loop", "blockwise", "cross product")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Lake]:
    """Archives of one and of four accounts, 60 days each."""
    folder = tmp_path_factory.mktemp("scale")
    lakes = {number: make(folder / f"{number}", number, 60) for number in (1, 4)}
    for lake in lakes.values():
        publish(lake)
    return lakes


def processor_time(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_several_accounts_run_without_nested_loops(tmp_path: Path, view: str):
    """Whatever the reader's settings are: DuckDB's ASOF join turns into one for few rows."""
    lake = make(tmp_path / "archive", 2, 3)
    publish(lake)
    question = f"FROM {view} WHERE account_id = '{account_id(1)}'"
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        (_, plan), *_ = connection.execute(f"EXPLAIN {question}").fetchall()
    assert "hash join" in plan.lower()
    assert [loop for loop in LOOPS if loop in plan.lower()] == []


@pytest.mark.slow
def test_curve_of_a_later_account_costs_as_much_as_the_first(archives: dict[int, Lake]):
    """8 x at most; with an ASOF join it was 20 x for these 60 days, and grew with their square."""
    lake = archives[4]
    sums = "sum(scan_before_minutes), sum(scan_after_minutes)"
    costs, answers = [], []
    for number in range(4):
        query = f"SELECT {sums} FROM delivery_curve WHERE account_id = '{account_id(number)}'"
        costs.append(
            processor_time(lambda query=query: answers.append(ask(lake, query).to_pylist()))
        )
    assert answers == [answers[0]] * 4
    assert max(costs) < 8 * costs[0]


@pytest.mark.slow
def test_report_of_four_accounts_costs_what_four_cost(archives: dict[int, Lake]):
    one, four = (
        processor_time(lambda lake=lake: read_accounts(lake)) for lake in archives.values()
    )
    assert four < 8 * one
