"""Rates of operations and the delivery curve in the notebook, as the warehouse has them."""

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline import Archive
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.model.schema import AGES
from tests.support.delivery import DAY, FINAL, ask, day_scan, elsewhere, published
from tests.support.factories import ACCOUNT, NOON, OTHER_ACCOUNT, derived, new_lake, record, scan

HOUR = timedelta(hours=1)
EXCLUSIVE = {"total": 10, "sent": 0, "delivered": 6, "opened": 3, "undelivered": 1}
SUMS = ["rated_attempted", "rated_delivered", "rated_opened", "rated_undelivered", "rated_failed"]
RATES = ["delivery_rate", "open_rate", "undelivered_rate", "failure_rate"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """An account whose counts are exclusive, and another one whose counts decide nothing."""
    records = [record(n, stats=EXCLUSIVE) for n in range(6)]
    odd = [
        record(6, stats={"opened": None}),
        record(7, stats={"total": 2_000_000_000}),
        record(8, stats={"total": 1, "canceled": 1, "sent": 0, "delivered": 0}),
    ]
    other = [record(9, stats={"opened": 1}), record(10, created_at=NOON + HOUR)]
    lake = published(
        tmp_path_factory.mktemp("rates"),
        *(day_scan(DAY, moment, *records, *odd) for moment in (NOON + 2 * HOUR, *FINAL)),
        *(
            scan(other, observed_at=moment, account_id=OTHER_ACCOUNT)
            for moment in (NOON + 2 * HOUR, *FINAL)
        ),
        elsewhere(NOON + timedelta(days=9)),
        scan(
            [],
            account_id=OTHER_ACCOUNT,
            observed_at=NOON + timedelta(days=9),
            window=elsewhere(NOON + timedelta(days=9)).facts.window,
        ),
    )
    return Archive(lake.root)


def test_operations_have_their_rates_under_their_accounts_reading(archive: Archive):
    frame = archive.operations(columns=["operation_id"], rates=True).set_index("operation_id")
    ids = sorted(frame.index)
    exclusive, assumed = frame.loc[ids[0]], frame.loc[ids[9]]
    assert [exclusive[name] for name in RATES] == [0.9, 3 / 9, 0.1, 0.0]
    assert (exclusive["reading"], exclusive["reading_decided"]) == ("exclusive", True)
    assert (assumed["delivery_rate"], assumed["open_rate"]) == (1.0, 1.0)
    assert (assumed["reading"], assumed["reading_decided"]) == ("cumulative", False)


def test_operation_without_plausible_counts_or_attempts_has_no_rate(archive: Archive):
    frame = archive.operations(rates=True, account_id=ACCOUNT).sort_values("operation_id")
    without_counts, canceled = frame.iloc[6:8], frame.iloc[8]
    assert without_counts[[*SUMS, *RATES]].isna().all(axis=None)
    assert canceled["rated_attempted"] == 0
    assert canceled[RATES].isna().all()


def test_sums_over_sums_are_the_warehouse_rates(archive: Archive):
    operations = archive.operations(columns=["account_id", "created_date"], rates=True)
    sums = operations.groupby(["account_id", "created_date"])[SUMS].sum()
    rates = sums["rated_delivered"] / sums["rated_attempted"]
    expected = ask(
        Lake(Path(archive.root)),
        f"SELECT {', '.join(SUMS)}, delivery_rate FROM delivery_daily WHERE operations > 0 "
        "ORDER BY account_id, created_date",
    )
    assert [(*row, rate) for row, rate in zip(sums.to_numpy(), rates, strict=True)] == expected


def test_rates_leave_the_rows_as_they_are(archive: Archive):
    plain = archive.operations(start=NOON, end=NOON + HOUR)
    rated = archive.operations(start=NOON, end=NOON + HOUR, rates=True)
    assert rated[list(plain.columns)].equals(plain)
    assert list(rated.columns[-2:]) == ["reading", "reading_decided"]
    before = archive.operations(as_of=NOON, columns=["status"], rates=True)
    assert (len(before), before.columns[0]) == (0, "status")


def test_delivery_by_age_has_bounds_of_each_account(archive: Archive):
    curve = archive.delivery_by_age()
    assert list(curve["account_id"].unique()) == [ACCOUNT, OTHER_ACCOUNT]
    ages = curve[curve["account_id"] == ACCOUNT].set_index("age")
    assert ages.loc["1 h", ["delivered_at_least", "seen_hours"]].to_list() == [0.0, 0]
    assert ages.loc["1 h", "delivered_at_most"] == pytest.approx(54 / 60)
    assert ages.loc["3 h", "delivered_at_least"] == pytest.approx(54 / 60)
    assert ages.loc["3 h", "opened_at_least"] == pytest.approx(18 / 60)
    assert pd.isna(ages.loc["168 h", "delivered_at_most"])
    assert set(ages["reading"]) == {"exclusive"}


def test_delivery_by_age_takes_a_range_of_hours_and_an_account(archive: Archive):
    def operations(**chosen) -> int:
        return archive.delivery_by_age(account_id=OTHER_ACCOUNT, **chosen)["operations"].max()

    assert operations() == 2
    assert operations(start=NOON + HOUR) == 1
    assert operations(start="2026-11-20", end=NOON + HOUR) == 1
    assert len(archive.delivery_by_age(start="2026-11-21")) == 0


def test_unknown_account_is_an_error_and_never_an_empty_frame(archive: Archive):
    """R9."""
    for read in (archive.operations, archive.history, archive.delivery_by_age):
        with pytest.raises(UsageError, match="has no account 'elsewhere'"):
            read(account_id="elsewhere")


def test_rates_and_curve_without_a_warehouse_say_how_to_make_it(tmp_path: Path):
    archive = Archive(derived(new_lake(tmp_path), scan([record(1)])).root)
    for read in (lambda: archive.operations(rates=True), archive.delivery_by_age):
        with pytest.raises(UsageError, match="email-archive publish"):
            read()


def test_notebook_may_have_the_warehouse_open_itself(archive: Archive):
    """In the same process, before and after; DuckDB refuses a second connection with other options."""
    warehouse = str(Lake(Path(archive.root)).warehouse)
    with duckdb.connect(warehouse, read_only=True):
        assert len(archive.delivery_by_age()) == 2 * len(AGES)
        with duckdb.connect(warehouse, read_only=True) as another:
            assert another.sql("SELECT count(*) FROM operations").fetchall() == [(11,)]


def test_polars_and_duckdb_take_the_frames_as_they_are(archive: Archive):
    """The types are those of the Parquet files: integers despite NULL, and times in UTC."""
    operations = archive.operations(account_id=ACCOUNT)
    in_polars = pl.from_pandas(operations)
    assert in_polars.schema["opened"] == pl.Int64
    assert in_polars.schema["created_at"] == pl.Datetime("us", "UTC")
    assert in_polars["opened"].null_count() == 1
    in_duckdb = duckdb.sql("SELECT created_date, opened, created_at FROM operations")
    assert [str(type_) for type_ in in_duckdb.types] == [
        "DATE",
        "BIGINT",
        "TIMESTAMP WITH TIME ZONE",
    ]


def test_local_days_begin_at_local_midnight(archive: Archive):
    """Noon in UTC is the next day in Auckland."""
    zone = ZoneInfo("Pacific/Auckland")
    start = datetime(2026, 11, 21, tzinfo=zone)
    operations = archive.operations(start=start, end=start + timedelta(days=1), rates=True)
    local_day = operations["created_at"].dt.tz_convert("Pacific/Auckland").dt.date
    assert set(local_day) == {date(2026, 11, 21)}
    assert len(operations) == 11
