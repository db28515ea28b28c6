"""The speed benchmark works, at sizes of seconds: its results are checked against the truth on the way."""

import sys
from pathlib import Path

import pytest

from tests.benchmarks.speed.__main__ import MEASURES, measure
from tests.benchmarks.speed.load import columns, truth
from tests.benchmarks.speed.over_http import check_archive, check_floor, floor, ours
from tests.benchmarks.speed.process import run, serving
from tests.benchmarks.speed.report import Figure, Plan, at_most, write

ELSEWHERE = {"idle", "load", "accounts", "archive", "pace", "rescan", "query"}
"""Measures that take long, or that another test here takes."""


def test_load_and_floor_hold_the_truth_and_another_truth_is_noticed(tmp_path: Path):
    data, file = tmp_path / "archive", tmp_path / "floor.parquet"
    expected = truth(columns(3_000))
    with serving(3_000) as server:
        cost = ours(server, data)
        floor(server, file, 1)
        assert server.asked()["requests"] >= 3
    check_archive(data, expected)
    check_floor(file, expected)
    assert cost.cpu > 0
    assert cost.memory > 10_000_000
    wrong = truth(columns(2_999))
    with pytest.raises(AssertionError):
        check_archive(data, wrong)
    with pytest.raises(AssertionError):
        check_floor(file, wrong)


def test_subjects_run_from_compiled_modules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told = run([sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"])
    assert told.output.strip() == "False"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ELSEWHERE else [])
        for name in MEASURES
    ],
)
def test_every_measure_gives_figures(tmp_path: Path, name: str):
    figures = measure([name], Plan(0.0005, 1, tmp_path))
    assert figures
    assert not [figure for figure in figures if figure.found.startswith("failed")]


def test_failed_measure_is_reported_and_loses_no_other(tmp_path: Path):
    told: list[str] = []
    (tmp_path / "rescan").write_text("no folder")
    figures = measure(["rescan", "query"], Plan(0.0005, 1, tmp_path), told.append)
    assert figures[0].holds is False
    assert figures[0].found.startswith("failed: ")
    assert len(figures) == 2
    assert any("Traceback" in text for text in told)


@pytest.mark.slow
def test_measures_of_the_disk_give_figures_with_targets(tmp_path: Path):
    figures = measure(["rescan", "query"], Plan(0.002, 1, tmp_path))
    assert len(figures) == 7
    assert all(figure.target for figure in figures)
    assert figures[1].holds  # a rescan that changes nothing writes nothing, at any size
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "query"])


def test_document_gets_new_figures_between_its_marks(tmp_path: Path):
    file = tmp_path / "performance.md"
    file.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    figures = [at_most("time", 2.0, 1.75, "x", "3 s against 1.5 s"), Figure("size", "20 bytes")]
    write(file, figures, "make bench")
    text = file.read_text()
    assert "old" not in text
    assert "| time | 2 x (3 s against 1.5 s) | at most 1.75 x | **missed** |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
