"""The archive's own path: it works whatever it is called, or is refused before anything is done."""

import io
import os
from pathlib import Path
from typing import Any, Final

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline.access import query
from pipeline.access.archive import Archive
from pipeline.access.export import export
from pipeline.emulator import World
from pipeline.errors import SettingsError
from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.schema import COVERAGE, LAKE_TABLES, MARTS, PUBLISHED
from pipeline.outputs import views
from pipeline.quality.status import status
from pipeline.rebuild import rebuild
from pipeline.report.write import draw
from pipeline.settings import ArchiveSettings
from tests.support.archives import account, sync_all
from tests.support.cases import some
from tests.support.factories import PARTITION, at, derived, new_lake, record, scan

NOW: Final = at("2026-11-14 15:00")
WORLD: Final = World(5, 20.0, at("2026-11-12"))
COLUMNS: Final = {c.name for table in (*LAKE_TABLES, *MARTS, *PUBLISHED) for c in table.published}
NAMES: Final = {
    "columns": [f"{name}=x" for name in sorted(COLUMNS)],
    "keys": ["created_date=2020-01-01", "STATUS=raw", "env=prod", "a=b=c", "=", "trailing="],
    "signs": [
        'it\'s mine; a "quote"--',
        "[2026]* ** {a,b} a]b[!c]",
        "**",
        "$sums ${x} 100% %41",
        "ümläut 数 e\u0301",
        "~",
        "new\nline\ttab\x1b[31m",
        "s3:",
        ":memory:#&|<>",
    ],
    "long": ["x" * 200] * 15,
}
"""Names of folders, one in the other."""


def content(data: Path) -> dict[str, Any]:
    """What every reader finds in an archive, but for the random names of scans."""
    lake = Lake(data)
    found: dict[str, Any] = {}
    for table in PUBLISHED:
        rows = query.ask(lake, f"FROM {table.name}").to_pylist()
        found[table.name] = sorted(
            str({k: v for k, v in r.items() if k != "scan_id"}) for r in rows
        )
        sink = io.BytesIO()
        export(lake, table.name, "parquet", sink)
        found[f"export of {table.name}"] = pd.read_parquet(io.BytesIO(sink.getvalue())).shape
    found["status"] = [(one.operations, one.slots) for one in status(lake, NOW).accounts]
    found["report"] = [str(account) for account, _ in draw(lake).accounts]
    found["archive"] = Archive(data).operations().to_csv()
    found["pandas"] = pd.read_parquet(data / "operations").to_csv()
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with account(WORLD, NOW, tmp_path_factory.mktemp("plain")) as (_, settings):
        assert sync_all(settings, publishing=True).ok
        return content(settings.data)


@pytest.mark.parametrize("names", some(NAMES.values(), 2), ids=NAMES.keys())
def test_folder_may_have_any_name(names: list[str], tmp_path: Path, expected: dict[str, Any]):
    """Its path is in SQL and in patterns of files: it means itself there, and gives no table a column."""
    folder = tmp_path.joinpath(*names)
    folder.mkdir(parents=True)
    data = ArchiveSettings.load(data=folder / "data").data
    with account(WORLD, NOW, data) as (_, settings):
        assert sync_all(settings, publishing=True).ok
    found = content(data)
    assert {name for name in found if found[name] != expected[name]} == set()
    assert rebuild(Lake(data)) == (3, ())


def test_days_of_one_archive_are_not_read_from_another_beside_it(tmp_path: Path):
    """A name is no pattern, also where a query lists files."""
    lakes = [derived(new_lake(tmp_path / name), scan([record(1)])) for name in ("a1", "a*")]
    question = views.select(lakes[1], COVERAGE, [PARTITION])
    with engine.connect() as connection:
        assert len(connection.sql(question).fetchall()) == 1


def test_day_is_found_by_its_file_below_a_keyed_folder(tmp_path: Path):
    data = tmp_path / "status=raw"
    with account(WORLD, NOW, data) as (_, settings):
        assert sync_all(settings, publishing=True).ok
    with duckdb.connect(str(data / "warehouse.duckdb"), read_only=True) as connection:
        question = "EXPLAIN ANALYZE SELECT count(*) FROM history WHERE created_date = '2026-11-13'"
        plan = str(connection.execute(question).fetchall())
    assert "Total Files Read: 1 " in plan


def test_polars_reads_the_tables_below_a_folder_with_a_key(tmp_path: Path):
    data = tmp_path / "status=raw"
    with account(WORLD, NOW, data) as (_, settings):
        assert sync_all(settings, publishing=True).ok
    found = pl.read_parquet(data / "operations", hive_partitioning=True)
    assert "raw" not in found["status"].to_list()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/srv/what?/archive", r"expected a path without \?: DuckDB can't open a database in it"),
        ("/srv/a\\b", r"expected a path without \\: DuckDB can't open a database in it"),
        (os.fsdecode(b"/srv/caf\xe9"), "expected a path in UTF-8: Arrow and DuckDB can't open"),
        ("/srv" + "/x" * 2000, "expected a path of at most [0-9]+ bytes; got one of 4004"),
        ("~nobody-of-that-name/a", "expected a folder; there is no home folder for ~nobody-of"),
    ],
)
def test_unusable_folder_is_refused_at_once(path: str, message: str):
    with pytest.raises(SettingsError, match=f"^EMAIL_ARCHIVE_DATA is malformed: {message}"):
        ArchiveSettings.load(data=Path(path))


def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMAIL_ARCHIVE_DATA", "~/archive")
    monkeypatch.setenv("DAGSTER_HOME", "~/dagster")
    settings = ArchiveSettings.load()
    assert (settings.data, settings.dagster_home) == (tmp_path / "archive", tmp_path / "dagster")
