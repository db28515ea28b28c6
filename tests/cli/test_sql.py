"""`email-archive sql`, as a user meets it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.access.query import ask
from pipeline.cli.tables import fitting
from pipeline.emulator import Emulator
from pipeline.lake.layout import Lake
from pipeline.model.schema import COUNT_NAMES
from pipeline.outputs.warehouse import publish
from pipeline.settings import Settings
from tests.support.command import on_terminal, run
from tests.support.factories import ACCOUNT, at, derived, new_lake, record, scan

NOW = at("2026-11-14 15:00")


def test_sql_as_table_csv_and_json(archive: tuple[Emulator, Settings], tmp_path: Path):
    emulator, settings = archive
    number = len(emulator.world.existing(NOW))
    query = "SELECT account_id, count(*) AS n, max(created_at) AS last, NULL AS none"
    query += " FROM operations GROUP BY 1"
    table, as_csv, as_json = (
        run("sql", query, "--format", form, "--data", str(settings.data), cwd=tmp_path)
        for form in ("table", "csv", "json")
    )
    assert [done.returncode for done in (table, as_csv, as_json)] == [0, 0, 0]
    (row,) = csv.DictReader(io.StringIO(as_csv.stdout))
    (item,) = json.loads(as_json.stdout)
    assert row == {
        "account_id": settings.account_sid,
        "n": str(number),
        "last": item["last"],
        "none": "",
    }
    assert item["n"] == number
    assert item["none"] is None
    assert item["last"].startswith("2026-11-14T")
    assert item["last"].endswith("Z")
    for shown in ("account_id", settings.account_sid, str(number)):
        assert shown in table.stdout


def test_sql_shows_so_many_rows_and_says_how_many_more(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    _, settings = archive
    done = run(
        "sql", "FROM range(500)", "--max-rows", "10", "--data", str(settings.data), cwd=tmp_path
    )
    assert "490 more rows" in done.stdout
    whole = run(
        "sql", "FROM range(500)", "--format", "csv", "--data", str(settings.data), cwd=tmp_path
    )
    assert len(whole.stdout.splitlines()) == 501


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE delivery_daily",
        "DELETE FROM delivery_daily",
        "COPY operations TO 'out.csv'",
        "ATTACH 'other.duckdb'",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'written.parquet'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO 'written.parquet'",
        "/* EXPLAIN */ EXPLAIN ANALYZE COPY (SELECT 1) TO 'written.parquet'",
        "PRAGMA profiling_output = 'written.json'",
        "",
    ],
)
def test_sql_changes_nothing(archive: tuple[Emulator, Settings], tmp_path: Path, statement: str):
    _, settings = archive
    before = Lake(settings.data).warehouse.read_bytes()
    done = run("sql", statement, "--data", str(settings.data), cwd=tmp_path)
    assert done.returncode == 2
    assert re.search("is refused|expected one query|is empty", done.stderr)
    assert Lake(settings.data).warehouse.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_sql_explains_questions(archive: tuple[Emulator, Settings], tmp_path: Path):
    _, settings = archive
    for question in (
        "EXPLAIN FROM operations",
        "explain (analyze) SELECT count(*) FROM operations",
    ):
        done = run("sql", question, "--data", str(settings.data), cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_sql_on_a_moved_archive_says_how_to_repair_it(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    _, settings = archive
    shutil.copytree(settings.data, tmp_path / "moved")
    warehouse = duckdb.connect(str(tmp_path / "moved" / "warehouse.duckdb"))
    elsewhere = tmp_path / "elsewhere"
    with warehouse as connection:
        view = "CREATE OR REPLACE VIEW operations AS FROM read_parquet('{}/*.parquet')"
        connection.execute(view.format(tmp_path / "moved" / "operations" / "*" / "*"))
    (tmp_path / "moved" / "operations").rename(elsewhere)
    done = run("sql", "FROM operations", "--data", str(tmp_path / "moved"), cwd=tmp_path)
    assert done.returncode == 1
    assert "`email-archive publish` updates the views" in done.stderr


def test_sql_refused_by_duckdb_shows_its_message(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    _, settings = archive
    done = run(
        "sql", "SELECT delivrd FROM delivery_daily", "--data", str(settings.data), cwd=tmp_path
    )
    assert done.returncode == 1
    assert "delivrd" in done.stderr
    assert "delivered" in done.stderr  # DuckDB proposes what there is
    assert "Traceback" not in done.stderr


def test_column_of_both_readings_is_said_to_have_moved(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    data = ("--data", str(archive[1].data))
    for column in ("delivery_rate_cumulative", "open_rate_exclusive"):
        done = run("sql", f"SELECT {column} FROM delivery_weekly", *data, cwd=tmp_path)
        assert done.returncode == 1
        assert "The rates under both readings are in delivery_readings" in done.stderr
        assert (
            run("sql", f"SELECT {column} FROM delivery_readings", *data, cwd=tmp_path).stderr == ""
        )


@pytest.mark.parametrize("command", [["sql", "FROM operations"], ["status"], ["publish"]])
def test_folder_without_archive_is_wrong_use(tmp_path: Path, command: list[str]):
    done = run(*command, "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "email-archive sync" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_reader_of_the_output_may_stop_early(archive: tuple[Emulator, Settings]):
    _, settings = archive
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "sql",
        "FROM range(1000000)",
        "--format",
        "csv",
    ]
    command += ["--data", str(settings.data)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "range\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def shown(query: str, lake: Lake, cwd: Path, columns: int) -> list[str]:
    """What a terminal of a width shows of a query."""
    arguments = ("sql", query, "--data", str(lake.root))
    code, text = on_terminal(*arguments, cwd=cwd, COLUMNS=str(columns), NO_COLOR="1")
    assert code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("columns", [80, 110, 200])
def test_wide_result_leaves_out_columns_and_names_them(tmp_path: Path, columns: int):
    """No word is broken, no line is longer than the terminal, and every column is there or named."""
    stats = {
        "total": 70,
        "sent": 60,
        "delivered": 50,
        "opened": 40,
        "undelivered": 10,
        "failed": 10,
    }
    records = [record(1), record(2, created_at=at("2026-11-20 13:00"), stats=stats)]
    lake = derived(new_lake(tmp_path), scan(records))
    publish(lake)
    lines = shown("FROM delivery_hourly", lake, tmp_path, columns)
    names = ask(lake, "FROM delivery_hourly").schema.names
    below = " ".join(lines)
    assert max(map(len, lines)) <= columns
    assert f"the same in every row: account_id {ACCOUNT}" in below
    assert all(name in below for name in names)
    assert (" not fit: " in below) == any("┃ … ┃" in line for line in lines)


def test_narrow_terminal_shows_the_figures_of_several_accounts(tmp_path: Path):
    other = ACCOUNT[:-1] + "f"
    counts = {name: number for number, name in enumerate(COUNT_NAMES, start=2)}
    lake = derived(new_lake(tmp_path), scan([record(1), record(2, stats=counts)]))
    publish(derived(lake, scan([record(3)], account_id=other)))
    lines = shown("FROM delivery_daily", lake, tmp_path, 80)
    assert {"operations", "delivery_rate"} <= {*lines[1].split()}
    assert all(f" {sid[:6]}…{sid[-4:]} " in "".join(lines) for sid in (ACCOUNT, other))
    assert max(map(len, lines)) <= 80


def test_same_value_is_said_of_the_shown_rows_only(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    publish(lake)
    query = (
        "SELECT repeat('x', 60) AS a, i, if(i < 3, repeat('S', 60), 'T') AS b FROM range(5) t(i)"
    )
    data = ("--data", str(lake.root))
    some, every = (
        run("sql", query, "--max-rows", rows, *data, cwd=tmp_path).stdout for rows in ("3", "5")
    )
    assert "the same in every row shown: " in some
    assert "the same in every row: " in every


def test_one_wide_row_is_shown_with_a_column_a_line(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    publish(lake)
    lines = shown("FROM delivery_hourly", lake, tmp_path, 80)
    names = ask(lake, "FROM delivery_hourly").schema.names
    assert [line.split()[1] for line in lines if line.startswith("│")] == names


def test_piped_table_is_as_wide_as_a_terminal_unless_asked(tmp_path: Path):
    records = [record(1), record(2, created_at=at("2026-11-20 13:00"))]
    lake = derived(new_lake(tmp_path), scan(records))
    publish(lake)
    command = ("sql", "FROM delivery_hourly", "--data", str(lake.root))
    narrow, wide = (run(*command, *more, cwd=tmp_path).stdout for more in ([], ["--wide"]))
    assert max(map(len, narrow.splitlines())) <= 80
    header = wide.splitlines()[1]
    assert header.replace("┃", " ").split() == ask(lake, "FROM delivery_hourly").schema.names


def test_query_comes_from_a_file_or_a_pipe(archive: tuple[Emulator, Settings], tmp_path: Path):
    data = ("--data", str(archive[1].data), "--format", "csv")
    (tmp_path / "q.sql").write_text("-- how many\nSELECT 40 + 2 AS n;\n")
    assert run("sql", "-f", "q.sql", *data, cwd=tmp_path).stdout == "n\n42\n"
    for arguments in ([], ["-"], ["--file", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "sql", *arguments, *data],
            input="SELECT 40 + 2 AS n",
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "n\n42\n"
    for arguments, message in (
        (["-f", "none.sql"], "there is no file none.sql"),
        (["-f", "."], ". is a folder: give a file with a query"),
        (["SELECT 1", "-f", "q.sql"], "expected a query or --file"),
    ):
        done_ = run("sql", *arguments, *data, cwd=tmp_path)
        assert done_.returncode == 2
        assert message in done_.stderr


def test_format_after_the_old_option_is_accepted_with_a_warning(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    done = run("sql", "SELECT 1 AS n", "-f", "csv", "--data", str(archive[1].data), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "n\n1\n")
    assert "use --format csv" in done.stderr


def test_prompt_completes_names_and_runs_queries(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    """An error ends a query and not the prompt; a query that is not whole goes on in the next line."""
    typed = [
        ("sql>", "SELECT max(delivery_ra\t"),
        ("te", ") AS best_rate FROM delivery_da\t"),
        ("ily", "\r"),
        ("%", ""),
        ("sql>", "SELECT delivrd FROM delivery_daily\r"),
        ("Binder Error", ""),
        ("sql>", "SELECT [INTERVAL '10000000 years']\r"),
        ("error: Python int too large", ""),
        ("sql>", "SELECT 40 + 2 AS\rn FROM\rrange(1)\r"),
        ("42", ""),
        ("sql>", "exit\r"),
    ]
    data = ("--data", str(archive[1].data))
    code, text = on_terminal("sql", *data, cwd=tmp_path, typed=typed, NO_COLOR="1")
    assert code == 0
    assert text.count("sql> exit") == 1, text


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(20, 250))
def test_kept_columns_fit(widths: list[int], screen: int):
    fit = fitting(widths, screen)
    dots = 4 if fit < len(widths) else 0
    assert sum(width + 3 for width in widths[:fit]) + 1 + dots <= screen or fit == 1
