"""export(): published tables for other programs."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.access.export import export
from pipeline.access.sink import opened as opened_sink
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.schema import (
    COUNTING,
    COVERAGE,
    DELIVERY_BY_WEEKDAY_HOUR,
    DELIVERY_DAILY,
    HISTORY,
    OPERATIONS,
    PUBLISHED,
    REJECTS,
    TIMESTAMP,
    Table,
)
from pipeline.model.windows import Window
from pipeline.outputs.warehouse import publish
from tests.support.command import on_terminal
from tests.support.factories import NOON, derived, new_lake, record, scan

DAYS = [NOON + timedelta(days=n) for n in range(3)]
ODD = 'a "quoted", \n broken text; ünïcödé'


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three days, with absent counts, fractions of a second and odd texts."""
    lake = new_lake(tmp_path_factory.mktemp("export"))
    for n, noon in enumerate(DAYS):
        odd = record(3 * n, created_at=noon + timedelta(microseconds=5), remark=ODD)
        del odd["stats"]["attempts"]
        records = [odd, record(3 * n + 1, created_at=noon), {"id": ODD}]
        moment = noon + timedelta(hours=2)
        derived(lake, scan(records, observed_at=moment, window=Window.of_day(noon.date())))
    publish(lake)
    return lake


def exported(lake: Lake, table: Table, form: Any, **bounds: datetime) -> bytes:
    sink = io.BytesIO()
    export(lake, table.name, form, sink, **bounds)
    return sink.getvalue()


def opened(content: bytes) -> pa.Table:
    return pa.ipc.open_file(content).read_all()


def rows(lake: Lake, table: Table, where: str = "true") -> list[dict[str, Any]]:
    with engine.connect(str(lake.warehouse), read_only=True) as connection:
        query = f"SELECT * FROM {table.name} WHERE {where}"
        return connection.sql(query).to_arrow_table().to_pylist()


def from_text(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """A row of texts with the types of the schema."""

    def typed(column: Any, value: Any) -> Any:
        if value is None:
            return None
        if column.type == TIMESTAMP:
            return datetime.fromisoformat(value)
        if column.type == pa.date32():
            return date.fromisoformat(value)
        if column.type == pa.bool_():
            return value in (True, "true")
        return {pa.int64(): int, pa.float64(): float, pa.string(): str}[column.type](value)

    return {column.name: typed(column, row[column.name]) for column in table.published}


def from_csv(content: bytes) -> Iterator[dict[str, Any]]:
    """As PostgreSQL's COPY reads it: an empty field without quotes is NULL."""
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    names = next(reader)
    for values in reader:
        yield dict(zip(names, (value or None for value in values), strict=True))


def in_order(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by their first columns: a view has no order of its own."""
    return sorted(found, key=lambda row: [str(value) for value in list(row.values())[:6]])


@pytest.mark.parametrize("table", PUBLISHED, ids=lambda table: table.name)
def test_every_table_comes_back_from_every_format(lake: Lake, table: Table):
    expected = in_order(rows(lake, table))
    for form in ("parquet", "arrow"):
        content = exported(lake, table, form)
        is_parquet = form == "parquet"
        found = pq.read_table(io.BytesIO(content)) if is_parquet else opened(content)
        assert in_order(found.to_pylist()) == expected
        assert found.schema.names == [column.name for column in table.published]
        assert found.schema.types == [column.type for column in table.published]
        assert [f.nullable for f in found.schema] == [c.nullable for c in table.published]
    lines = exported(lake, table, "json").decode().splitlines()
    assert in_order(from_text(table, json.loads(line)) for line in lines) == expected
    records = from_csv(exported(lake, table, "csv"))
    assert in_order(from_text(table, record) for record in records) == expected


def test_text_formats_have_iso_8601_times_and_plain_headers(lake: Lake):
    head, first, *_ = exported(lake, OPERATIONS, "csv").decode().splitlines()
    assert head == ",".join(column.name for column in OPERATIONS.published)
    assert ",2026-11-20," in first
    (line,) = {
        json.loads(one)["created_at"]
        for one in exported(lake, OPERATIONS, "json").decode().splitlines()
        if json.loads(one)["operation_id"].endswith("000")
    }
    assert line == "2026-11-20T12:00:00.000005Z"


@pytest.mark.parametrize("table", [OPERATIONS, HISTORY, COVERAGE, REJECTS])
def test_time_range_is_half_open_by_the_tables_own_time(lake: Lake, table: Table):
    since, until = DAYS[1].replace(hour=0), DAYS[2].replace(hour=0)
    assert table.time_column
    expected = rows(lake, table, f"created_date = '{since.date()}'")
    assert expected
    content = exported(lake, table, "arrow", since=since, until=until)
    assert opened(content).to_pylist() == expected


def test_range_may_cut_a_day(lake: Lake):
    """The operation of 12:00:00.000005 is out, the one of 12:00 in: until is not included."""
    bounds = {"since": DAYS[1], "until": DAYS[1] + timedelta(microseconds=5)}
    content = exported(lake, OPERATIONS, "arrow", **bounds)
    assert opened(content)["created_at"].to_pylist() == [DAYS[1]]


def test_time_columns_are_those_of_the_creation():
    assert {table.name: table.time_column and table.time_column.name for table in PUBLISHED} == {
        "operations": "created_at",
        "history": "created_at",
        "coverage": "window_start",
        "rejects": "created_date",
        "lookups": "created_date",
        "operation_errors": "created_date",
        "slot_coverage": "slot",
        "coverage_slots": "slot",
        "coverage_days": "created_date",
        "delivery_curve": "hour",
        "delivery_hourly": "hour",
        "delivery_daily": "created_date",
        "delivery_weekly": "week",
        "delivery_monthly": "month",
        "delivery_by_weekday_hour": None,
        "operation_sizes": "created_date",
        "delivery_readings": "created_date",
        "delivery_anomalies": "created_date",
        "counting": None,
    }


@pytest.mark.parametrize("table", [COUNTING, DELIVERY_BY_WEEKDAY_HOUR])
def test_table_of_no_time_refuses_a_range(lake: Lake, table: Table):
    with pytest.raises(UsageError, match="has no time column"):
        exported(lake, table, "csv", since=NOON)


def test_unknown_table_error_names_all_tables(lake: Lake):
    with pytest.raises(UsageError) as caught:
        export(lake, "deliveries; DROP", "csv", io.BytesIO())
    assert all(table.name in str(caught.value) for table in PUBLISHED)


def test_file_is_replaced_whole_and_the_folder_has_to_exist(lake: Lake, tmp_path: Path):
    target = tmp_path / "daily.csv"
    target.write_text("old")
    assert export(lake, "delivery_daily", "csv", target) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["daily.csv"]
    assert len(target.read_text().splitlines()) == 4
    for wrong in (tmp_path / "nowhere" / "daily.csv", tmp_path):
        with pytest.raises(UsageError, match="folder that exists"):
            export(lake, "delivery_daily", "csv", wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["daily.csv"]


def test_broken_export_leaves_the_old_file_and_nothing_else(lake: Lake, tmp_path: Path):
    """A day's file is damaged: half of the rows were written when it is read."""
    copy = Lake(tmp_path / "lake")
    day = "created_date=2026-11-22"
    for path in lake.root.rglob("*"):
        if path.is_file():
            target = copy.root / path.relative_to(lake.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    publish(copy)
    next((copy.root / "operations").rglob(f"{day}/part-0.parquet")).write_bytes(b"PAR1 torn PAR1")
    out = tmp_path / "out"
    out.mkdir()
    target = out / "operations.csv"
    target.write_text("old")
    with pytest.raises(ArchiveError):
        export(copy, "operations", "csv", target)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"operations.csv": "old"}


@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_export_leaves_the_old_file(lake: Lake, tmp_path: Path, told: signal.Signals):
    """R5: killed, it leaves a hidden temporary file at most; told to stop, nothing."""
    target = tmp_path / "operations.csv"
    target.write_text("old")
    program = (
        "import sys, time, pathlib\n"
        "from pipeline.access import export\nfrom pipeline.cli import app as cli\n"
        "from pipeline.access.sink import opened\n"
        "def hanging(*_, **__):\n"
        "    with opened(pathlib.Path(sys.argv[-1])) as file:\n"
        "        file.write(b'half'); file.flush(); print('writing', flush=True); time.sleep(60)\n"
        "export.export = hanging\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", program, "export", "--table", "operations", "-o", str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        process.send_signal(told)
    assert target.read_text() == "old"
    left = [path.name for path in tmp_path.iterdir() if path != target]
    assert len(left) == (1 if told == signal.SIGKILL else 0)
    assert all(name.startswith(".") for name in left)
    assert export(lake, "operations", "csv", target) == 6


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
@pytest.mark.parametrize(("suffix", "codec"), [(".gz", "gzip"), (".zst", "zstd")])
def test_file_is_compressed_as_it_is_named(
    lake: Lake, tmp_path: Path, form: Any, suffix: str, codec: str
):
    target = tmp_path / f"daily.{form}{suffix}"
    assert export(lake, "delivery_daily", form, target) == 3
    with pa.input_stream(str(target), compression=codec) as file:
        assert file.read() == exported(lake, DELIVERY_DAILY, form)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_binary_format_is_refused_on_a_terminal(lake: Lake, tmp_path: Path, form: str):
    here = ("--table", "delivery_daily", "--data", str(lake.root), "-f", form)
    code, shown = on_terminal("export", *here, cwd=tmp_path)
    assert code == 2
    assert f"{form} is binary, and the output is a terminal" in shown


@pytest.mark.parametrize("form", ["csv", "json"])
def test_text_on_a_terminal_has_no_control_characters(tmp_path: Path, form: str):
    hostile = derived(new_lake(tmp_path), scan([record(1, status="\x1b[31mred\x9b1m\u202e ü")]))
    publish(hostile)
    here = ("--table", "operations", "--data", str(hostile.root), "-f", form)
    code, shown = on_terminal("export", *here, cwd=tmp_path)
    assert code == 0
    assert "31mred" in shown
    assert "ü" in shown
    assert not [one for one in ("\x1b", "\x9b", "\u202e") if one in shown]


def test_json_has_no_nan(lake: Lake, tmp_path: Path):
    """Nothing of ours is one; whoever changed the warehouse may have made one."""
    copy = Lake(shutil.copytree(lake.root, tmp_path / "lake"))
    publish(copy)
    copy.warehouse.chmod(0o600)
    with duckdb.connect(str(copy.warehouse)) as connection:
        connection.execute("UPDATE delivery_daily SET delivery_rate = 'nan', open_rate = '-inf'")
    lines = exported(copy, DELIVERY_DAILY, "json").decode().splitlines()
    assert len(lines) == 3
    for line in lines:
        row = json.loads(line, parse_constant=pytest.fail)
        assert (row["delivery_rate"], row["open_rate"]) == (None, None)


def test_two_exports_to_one_file_leave_a_whole_one(lake: Lake, tmp_path: Path):
    """The second begins and ends while the first one writes."""
    target = tmp_path / "operations.csv"
    expected = exported(lake, OPERATIONS, "csv")
    with opened_sink(target) as first:
        first.write(b"half")
        first.flush()
        export(lake, "operations", "csv", target)
        assert target.read_bytes() == expected
        first.write(b" and half")
    assert target.read_bytes() == b"half and half"
    assert [path.name for path in tmp_path.iterdir()] == ["operations.csv"]


def test_link_stays_a_link_and_what_it_leads_to_is_replaced(lake: Lake, tmp_path: Path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "daily.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    for old in (None, "old"):
        if old:
            real.write_text(old)
        assert export(lake, "delivery_daily", "csv", link) == 3
        assert link.is_symlink()
        assert len(real.read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "real"]


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_pipe_is_written_to_and_stays_a_pipe(lake: Lake, tmp_path: Path, form: Any):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["/bin/cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        export(lake, "delivery_daily", form, pipe)
        content = reader.communicate()[0]
    assert content == exported(lake, DELIVERY_DAILY, form)
    assert pipe.is_fifo()


def test_device_is_written_to_and_stays_a_device(lake: Lake, tmp_path: Path):
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    assert export(lake, "delivery_daily", "parquet", null) == 3
    assert null.is_char_device()
    assert null.is_symlink()


def command(
    *arguments: str, cwd: Path, stdout: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "export", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )


def test_command_writes_to_stdout_or_to_a_file(lake: Lake, tmp_path: Path):
    here = ("--table", "delivery_daily", "--data", str(lake.root))
    bounds = ("--since", "2026-11-21", "--until", "2026-11-22")
    done = command(*here, *bounds, "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line)["created_date"] for line in done.stdout.splitlines()] == ["2026-11-21"]
    done = command(*here, "-f", "parquet", "-o", "daily.parquet", cwd=tmp_path)
    assert done.stdout == b"exported delivery_daily to daily.parquet: 3 rows\n"
    assert pq.read_table(tmp_path / "daily.parquet").num_rows == 3
    out = tmp_path / "out.csv"
    with out.open("w") as file:
        file.write("before\n")
        file.flush()
        done = command(*here, "-o", "/dev/stdout", cwd=tmp_path, stdout=file.fileno())
        assert done.returncode == 0
        file.seek(0, os.SEEK_END)
        file.write("after\n")
    lines = out.read_text().splitlines()
    assert (len(lines), lines[0], lines[-1]) == (6, "before", "after")


def test_command_refuses_what_it_can_not_mean(lake: Lake, tmp_path: Path):
    here = ("--data", str(lake.root))
    unknown = command("--table", "daily", *here, cwd=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (2, b"")
    assert b"delivery_daily" in unknown.stderr
    range_ = ("--since", "2026-11-12", "--until", "2026-11-11")
    backwards = command("--table", "operations", *range_, *here, cwd=tmp_path)
    assert backwards.returncode == 2
    assert b"expected --since before --until" in backwards.stderr
