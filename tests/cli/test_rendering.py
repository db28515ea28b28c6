"""Results of `email-archive sql`: valid and typed JSON, CSV that comes back, tables that hide nothing."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.access.query import query_result
from pipeline.cli.tables import write_table
from pipeline.emulator import World
from pipeline.lake.layout import Lake
from pipeline.outputs.warehouse import publish
from tests.support.archives import account
from tests.support.command import run
from tests.support.factories import at, derived, new_lake, record, scan

HUGE = 170141183460469231731687303715884105727


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = derived(new_lake(tmp_path_factory.mktemp("rendering")), scan([record(1), record(2)]))
    publish(lake)
    return lake


def strict(text: str) -> Any:
    """JSON as RFC 8259 has it: no NaN, no Infinity, no name twice; other numbers than integers as text."""

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, parse_float=str, object_pairs_hook=once)


def asked(lake: Lake, query: str, form: str, folder: Path) -> str:
    done = run("sql", query, "--format", form, "--data", str(lake.root), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


TYPES: list[tuple[str, Any]] = [
    ("count(*)", 2),
    ("sum(total)", 2),
    ("sum(9223372036854775807::HUGEINT)", 2 * (2**63 - 1)),
    (f"max({HUGE}::HUGEINT)", HUGE),
    ("max(340282366920938463463374607431768211455::UHUGEINT)", 2**128 - 1),
    (
        "max('123456789012345678901234567890123456789012345'::BIGNUM)",
        int("1234567890" * 4 + "12345"),
    ),
    ("max(18446744073709551615::UBIGINT)", 2**64 - 1),
    ("max(5::DECIMAL(38, 0))", 5),
    ("max(12345678901234567890.123456789::DECIMAL(38, 9))", "12345678901234567890.123456789"),
    ("avg(total)", "1.0"),
    ("sum(total) / 0", None),
    ("max('nan'::DOUBLE)", None),
    ("max('-inf'::FLOAT)", None),
    ("max(4e-7)", "4e-7"),
    ("max(NULL)", None),
    ("bool_and(true)", True),
    ("max(created_at)", "2026-11-20T12:00:00Z"),
    ("max(created_at + INTERVAL 5 MICROSECOND)", "2026-11-20T12:00:00.000005Z"),
    ("max(created_at::TIMESTAMP)", "2026-11-20T12:00:00"),
    ("max(created_date)", "2026-11-20"),
    ("max('infinity'::DATE)", "9999-12-31"),
    ("max(DATE '10000-01-01')", "10000-01-01"),
    ("max(TIME '12:30:00')", "12:30:00"),
    ("max('00000000-0000-0000-0000-00000000000a'::UUID)", "00000000-0000-0000-0000-00000000000a"),
    ("max(status)", "COMPLETED"),
    ("max(chr(34) || chr(27) || chr(0) || chr(10) || 'ü')", '"\x1b\0\nü'),
    ("max('a'::ENUM('a', 'b'))", "a"),
    ("list(total)", [1, 1]),
    ("list('nan'::DOUBLE)", [None, None]),
    ("max([1, 2]::INTEGER[2])", [1, 2]),
    (
        "max({'at': created_at, 'n': total::HUGEINT, 'x': 'nan'::DOUBLE, 'in': {'a': [1.50]}})",
        {"at": "2026-11-20T12:00:00Z", "n": 1, "x": None, "in": {"a": ["1.50"]}},
    ),
    ("max(MAP {'a': created_at})", {"a": "2026-11-20T12:00:00Z"}),
    ("max(MAP {1: 'nan'::DOUBLE})", {"1": None}),
    ("max(MAP {1.5: created_date})", {"1.5": "2026-11-20"}),
    ("max(MAP {created_at: 1})", {"2026-11-20T12:00:00Z": 1}),
    ("""max('{"a": [1, 2.50, NaN], "b": null}'::JSON)""", {"a": [1, "2.50", None], "b": None}),
    ("max(union_value(number := total))", 1),
    ("max('\\x00\\xFF'::BLOB)", "AP8="),
]


def test_json_is_valid_and_typed_whatever_the_type(lake: Lake, tmp_path: Path):
    columns = ", ".join(f"{expression} AS c{n}" for n, (expression, _) in enumerate(TYPES))
    (row,) = strict(asked(lake, f"SELECT {columns} FROM operations", "json", tmp_path))
    found = {expression: row[f"c{n}"] for n, (expression, _) in enumerate(TYPES)}
    assert found == dict(TYPES)
    assert [type(one) for one in found.values()] == [type(value) for _, value in TYPES]


def test_json_of_every_row_and_of_none(lake: Lake, tmp_path: Path):
    many = strict(asked(lake, "SELECT range AS n, NULL AS m FROM range(5000)", "json", tmp_path))
    assert many == [{"n": n, "m": None} for n in range(5000)]
    assert strict(asked(lake, "FROM operations WHERE false", "json", tmp_path)) == []
    twice = strict(asked(lake, "SELECT 1 AS a, 2 AS a", "json", tmp_path))
    assert list(twice[0].values()) == [1, 2]


def test_csv_has_iso_times_plain_numbers_and_nested_json(lake: Lake, tmp_path: Path):
    columns = ["max(created_at)", "sum(total)", "max(1e-10::DECIMAL(20, 10))", "max(NULL)"]
    columns += ["max(created_date)", "list({'at': created_at})", "max(4e-7)", "max('a,\"b\n')"]
    text = asked(lake, f"SELECT {', '.join(columns)} FROM operations", "csv", tmp_path)
    _, values = csv.reader(io.StringIO(text, newline=""))
    at_ = '{"at":"2026-11-20T12:00:00Z"}'
    assert values == [
        *("2026-11-20T12:00:00Z", "2", "0.0000000001", "", "2026-11-20", f"[{at_},{at_}]"),
        *("4e-07", 'a,"b\n'),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.0004::DOUBLE", "0.0004"),
        ("0.00041234::DOUBLE", "0.000412"),
        ("-0.0000004::DOUBLE", "-4e-07"),
        ("0.97664::DOUBLE", "0.9766"),
        ("12.5::DOUBLE", "12.5000"),
        ("0::DOUBLE", "0.0000"),
        ("1e300::DOUBLE", "1e+300"),
        ("0.0000000001::DECIMAL(20, 10)", "0.0000000001"),
        ("'nan'::DOUBLE", "nan"),
    ],
)
def test_table_shows_small_numbers_by_their_digits(
    lake: Lake, capsys: pytest.CaptureFixture[str], value: str, shown: str
):
    with query_result(lake, f"SELECT {value} AS v") as result:
        write_table(result, 10)
    assert capsys.readouterr().out.splitlines()[3].split() == ["│", shown, "│"]


ROWS = (
    "FROM (VALUES (0.97152, 12.5::DOUBLE, NULL, INTERVAL '26 hours', 'a|b'), "
    "(NULL, 0.5, '', INTERVAL '-1 second', NULL)) v(delivery_rate, error_rate, text, took, note)"
)


def test_table_shows_null_rates_and_intervals_as_people_read_them(lake: Lake, tmp_path: Path):
    lines = asked(lake, ROWS, "table", tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["97.15%", "12.5000", "NULL", "26:00:00", "a|b"],
        ["NULL", "0.5000", "", "-00:00:01", "NULL"],
    ]
    csv_ = asked(lake, ROWS, "csv", tmp_path).splitlines()
    assert csv_[1:] == ["0.97152,12.5,,26:00:00,a|b", ",0.5,,-00:00:01,"]


def test_markdown_is_a_table_of_all_rows_and_columns(lake: Lake, tmp_path: Path):
    lines = asked(lake, ROWS, "markdown", tmp_path).splitlines()
    assert lines == [
        "| delivery_rate | error_rate | text | took | note |",
        "| ---: | ---: | --- | --- | --- |",
        "| 97.15% | 12.5000 | NULL | 26:00:00 | a\\|b |",
        "| NULL | 0.5000 |  | -00:00:01 | NULL |",
    ]


def test_json_lines_are_one_object_a_line(lake: Lake, tmp_path: Path):
    query = "SELECT range AS n, NULL AS m FROM range(3)"
    lines = asked(lake, query, "jsonl", tmp_path).splitlines()
    assert [strict(line) for line in lines] == [{"n": n, "m": None} for n in range(3)]
    assert asked(lake, f"{query} WHERE false", "jsonl", tmp_path) == ""


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "ndjson", "md", "parquet", "txt"])
def test_output_file_has_the_format_of_its_suffix(lake: Lake, tmp_path: Path, suffix: str):
    out = tmp_path / f"out.{suffix}"
    query = "SELECT operation_id, created_at FROM operations ORDER BY 1"
    done = run("sql", query, "-o", out.name, "--data", str(lake.root), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"wrote {out.name}: 2 rows\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    if suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
        assert [row["created_at"] for row in rows] == [at("2026-11-20 12:00")] * 2
    else:
        form = {"ndjson": "jsonl", "md": "markdown", "txt": "table"}.get(suffix, suffix)
        assert out.read_text() == asked(lake, query, form, tmp_path)


def test_output_file_stays_if_the_query_fails_or_its_suffix_is_unknown(lake: Lake, tmp_path: Path):
    (tmp_path / "kept.csv").write_text("old")
    for arguments in (["SELECT x", "-o", "kept.csv"], ["SELECT 1", "-o", "out.xlsx"]):
        done = run("sql", *arguments, "--data", str(lake.root), cwd=tmp_path)
        assert done.returncode != 0
    assert "expected --format, or an --output that ends in .txt, .csv" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept.csv", "old")]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("commands")
    now = at("2026-11-14 15:00")
    with account(World(5, 20.0, at("2026-11-10")), now, folder) as (_, settings):
        yield folder, settings.environment()


def test_figures_of_every_command_are_valid_json(commands: tuple[Path, dict[str, str]]):
    folder, environment = commands
    for command in (["sync", "--json"], ["status", "--json"], ["verify", "--json"]):
        done = run(*command, cwd=folder, **environment)
        assert isinstance(strict(done.stdout), dict), done.stderr
