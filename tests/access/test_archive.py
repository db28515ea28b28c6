"""The notebook's way in."""

import shutil
from datetime import UTC, date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from pipeline import Archive
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.model.schema import DELIVERY_HOURLY, HISTORY, OPERATIONS
from pipeline.model.windows import Window
from tests.support.factories import (
    ACCOUNT,
    NOON,
    OTHER_ACCOUNT,
    Partition,
    derived,
    new_lake,
    operation_id,
    record,
    scan,
)

TOMORROW = NOON + timedelta(days=1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    lake = derived(
        new_lake(tmp_path_factory.mktemp("archive")),
        scan([record(1), record(2, created_at=NOON + timedelta(hours=1))]),
        scan([record(3, created_at=TOMORROW)], window=Window.of_day(TOMORROW.date())),
        scan([record(4)], account_id=OTHER_ACCOUNT),
    )
    return Archive(lake.root)


def numbers(frame: pd.DataFrame) -> list[int]:
    return [int(text[-3:]) for text in frame["operation_id"]]


def test_operations_come_with_arrow_types_and_the_hive_keys(archive: Archive):
    frame = archive.operations()
    assert list(frame.columns) == [column.name for column in OPERATIONS.published]
    types = frame.dtypes
    assert types["total"] == pd.ArrowDtype(pa.int64())
    assert types["created_date"] == pd.ArrowDtype(pa.date32())
    assert types["created_at"] == pd.ArrowDtype(pa.timestamp("us", "UTC"))
    assert numbers(frame) == [1, 2, 3, 4]
    assert set(frame["account_id"]) == {ACCOUNT, OTHER_ACCOUNT}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, [1, 2, 3]),
        ("2026-11-21", None, [3]),
        (date(2026, 11, 20), date(2026, 11, 21), [1, 2]),
        (NOON, NOON + timedelta(hours=1), [1]),
        ("2026-11-20T14:00:00+01:00", "2026-11-21T12:00:00Z", [2]),
        ("2027-01-01", None, []),
        (None, "2026-11-20", []),
    ],
)
def test_range_is_half_open_and_in_utc(archive: Archive, start, end, expected):
    assert numbers(archive.operations(start=start, end=end, account_id=ACCOUNT)) == expected


def test_only_requested_days_are_opened(archive: Archive, tmp_path: Path):
    lake = Lake(Path(shutil.copytree(archive.root, tmp_path / "copy")))
    lake.part(OPERATIONS, Partition(ACCOUNT, TOMORROW.date())).write_bytes(b"can't be read")
    assert len(Archive(lake.root).operations(end="2026-11-21")) == 3


def test_columns_come_in_the_requested_order(archive: Archive):
    frame = archive.operations(columns=["opened", "account_id", "operation_id"], end="2026-11-21")
    assert list(frame.columns) == ["opened", "account_id", "operation_id"]
    assert frame["operation_id"].iloc[0] == operation_id(1)


def test_unknown_column_error_names_the_known_ones(archive: Archive):
    with pytest.raises(UsageError, match=r"expected columns of operations: .*; got nonsense"):
        archive.operations(columns=["nonsense"])


@pytest.mark.parametrize("bound", ["yesterday", "2026-11-20T10:00:00"])
def test_bound_without_utc_is_refused(archive: Archive, bound: str):
    with pytest.raises(UsageError, match="expected a date or a time with a zone in start"):
        archive.operations(start=bound)


def test_folder_without_archive_is_an_error_and_never_an_empty_frame(tmp_path: Path):
    """R9."""
    with pytest.raises(UsageError, match="no archive in"):
        Archive(tmp_path / "nowhere").operations()


def test_other_tables_read_alike(archive: Archive):
    assert list(archive.history().columns) == [column.name for column in HISTORY.published]
    hourly = archive.delivery_hourly(start=NOON, end=NOON + timedelta(hours=1), account_id=ACCOUNT)
    assert list(hourly.columns) == [column.name for column in DELIVERY_HOURLY.published]
    assert hourly["operations"].to_list() == [1]
    assert len(archive.coverage()) == 3
    assert len(archive.rejects()) == 0


def test_plain_pandas_reads_the_folder(archive: Archive):
    """The README's one line for plain pandas: hive keys come back as category, times as UTC."""
    frame = pd.read_parquet(Path(archive.root) / "operations")
    assert len(frame) == 4
    assert str(frame["created_at"].dt.tz) == str(UTC)
