"""The demo: it compares itself with the truth."""

from pathlib import Path

import pytest

from pipeline.cli.demo import OUTAGE, play
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.outputs.counting import readings
from pipeline.quality.anomalies import latest_anomalies
from tests.end_to_end.conftest import Demo


def test_demo_shows_30_days_of_two_accounts_and_proves_none_missing(demo: Demo):
    said = demo.said
    days = [line for line in said.splitlines() if line.count("%") == 4]
    assert len(days) == 30 + 21
    assert all(len(line) <= 80 for line in days)
    for account, known, archived in [("shop", "3,136", "12,111"), ("receipts", "154", "417")]:
        assert f"{account}: the API still knows {known} operations" in said
        assert f"{archived} of {archived}, none missing" in said
    assert "Open its report: data/demo/report.html" in said
    assert (demo.data / "report.html").exists()


def test_planted_outage_is_the_only_anomaly(demo: Demo):
    found = latest_anomalies(Lake(demo.data))
    assert {(one.created_date, one.rate) for one in found} == {
        (OUTAGE, rate) for rate in ("delivery_rate", "open_rate", "undelivered_rate")
    }


def test_demo_has_an_account_of_each_counting(demo: Demo):
    found = {one.reading for one in readings(Lake(demo.data)) if not one.warning}
    assert found == {"cumulative", "exclusive"}


def test_demo_never_empties_a_foreign_folder(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="choose another folder"):
        play(tmp_path, per_day=1, with_dagster=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
