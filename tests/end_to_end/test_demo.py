"""The demo: it compares itself with the truth."""

from datetime import date
from pathlib import Path

import pytest

from pipeline.cli.demo import OUTAGE, accounts, play, show_rates
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.model.windows import Window
from pipeline.outputs.counting import readings
from pipeline.outputs.warehouse import publish
from pipeline.quality.anomalies import latest_anomalies
from tests.end_to_end.conftest import Demo
from tests.support.factories import at, derived, new_lake, record, scan


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


def test_demo_shows_a_day_without_operations(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shop, _ = accounts(20)
    days = [date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 22)]
    records = [[record(1)], [], [record(2, created_at=at("2026-11-22 10:00"))]]
    scans = [
        scan(
            found,
            window=Window.of_day(day),
            observed_at=at("2026-11-23 10:00"),
            account_id=shop.sid,
        )
        for day, found in zip(days, records, strict=True)
    ]
    lake = derived(new_lake(tmp_path), *scans)
    publish(lake)
    show_rates(lake, shop)
    nothing = " ".join(["\N{EN DASH}"] * 6)
    assert f"Sat 11-21 0 {nothing} Sun" in " ".join(capsys.readouterr().out.split())
