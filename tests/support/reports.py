"""Archives of one account, published, and their report."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.lake.layout import Lake
from pipeline.model.records import Scan
from pipeline.model.windows import Window, midnight
from pipeline.outputs.warehouse import publish
from pipeline.report.data import Account, read_accounts
from pipeline.report.figures import figures
from pipeline.report.html import render
from pipeline.report.write import report
from tests.support import page
from tests.support.factories import derived, new_lake, scan


def published(folder: Path, *scans: Scan) -> Lake:
    lake = derived(new_lake(folder), *scans)
    publish(lake)
    return lake


def on(day: date, *records: dict, observed_at: datetime | None = None, **facts: Any) -> Scan:
    """A scan of a day, by default observed two days later."""
    observed = observed_at or midnight(day) + timedelta(days=2)
    return scan(records, observed_at=observed, window=Window.of_day(day), **facts)


def written(lake: Lake, **options: Any) -> str:
    return page.read(report(lake, **options).path)


def of_largest(lake: Lake, folder: Path) -> Path:
    """The report of the account with the most operations alone."""
    accounts, _ = read_accounts(lake)
    largest = next(one.account_id for one in accounts if one.account_id)
    return report(lake, folder / "largest.html", accounts=[largest]).path


def rendered(account: Account, *left_out: str) -> str:
    return render([(account, tuple(figures(account)))], left_out, "")
