"""The demo as the README has it: it proves itself, and the README's examples are its true output."""

import re
from pathlib import Path

import pytest

from pipeline.anomalies import latest_anomalies
from pipeline.demo import OUTAGE, play
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from tests.end_to_end.conftest import Demo
from tests.support import readme

COMMANDS_OF_MAKE = re.compile(r"^([a-z-]+):", flags=re.MULTILINE)


def test_demo_shows_30_days_and_proves_that_none_is_missing(demo: Demo):
    said = demo.said
    days = [line for line in said.splitlines() if line.count("%") == 4]
    assert len(days) == 30
    assert all(len(line) <= 80 for line in days)
    assert "The API still knows 3,136 operations" in said
    assert "12,111 of 12,111, none missing" in said
    assert "Open its report: data/demo/report.html" in said
    assert (demo.data / "report.html").exists()


def test_readme_is_true(demo: Demo):
    """Tables, settings and the output of every example; `make readme` writes them anew."""
    text = readme.README.read_text()
    assert readme.made_anew(text, demo.folder, demo.said) == text


@pytest.mark.slow
def test_outage_of_the_readme_is_true(tmp_path: Path):
    """What `verify` and `status` say then; `make readme` writes it anew."""
    text = readme.README.read_text()
    assert readme.outage_anew(text, tmp_path / "outage") == text


def test_sql_examples_are_true(demo: Demo):
    """The answer of every question in docs/sql.md; `make readme` writes them anew."""
    text = readme.SQL_EXAMPLES.read_text()
    assert readme.answered_anew(text, demo.folder) == text


def test_sql_examples_are_twenty_and_have_answers_that_fit_a_page():
    found = readme.questions(readme.SQL_EXAMPLES.read_text())
    assert len(found) == 20
    for query, answer in found:
        assert len(answer.splitlines()) >= 4, query  # nothing is an answer too
        assert max(len(line) for line in (*query.splitlines(), *answer.splitlines())) <= 100, query


def test_planted_outage_is_the_only_anomaly(demo: Demo):
    found = latest_anomalies(Lake(demo.data))
    assert {(one.created_date, one.rate) for one in found} == {
        (OUTAGE, rate) for rate in ("delivery_rate", "open_rate", "undelivered_rate")
    }


def test_demo_never_empties_a_folder_that_no_demo_made(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="choose another folder"):
        play(tmp_path, per_day=1, with_dagster=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_readme_names_only_targets_that_make_has():
    text = readme.README.read_text()
    targets = set(COMMANDS_OF_MAKE.findall((readme.README.parent / "Makefile").read_text()))
    named = re.findall(r"^make ([a-z-]+)", text, flags=re.MULTILINE)
    assert {"demo", "test", "check", "ui"} <= set(named) <= targets


def test_readme_links_to_files_that_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", readme.README.read_text())
    assert links
    assert [link for link in links if not (readme.README.parent / link).exists()] == []
