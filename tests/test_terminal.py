"""What data does to a terminal and a log: nothing. It is shown as it is, control characters as escapes."""

import ast
import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.lake.layout import Lake
from pipeline.outputs.warehouse import publish
from pipeline.terminal import message, printable
from tests.support.command import ROOT, on_terminal, run
from tests.support.factories import ACCOUNT, body, derived, new_lake, record, scan
from tests.support.scripted_api import Answer, Received, scripted

STATUS = "[red]x[/red] \x1b[31mred\x1b]0;title\x07 \x9b1m \u202eright-to-left :skull:"
FIELD = "[/x]\x1b[2J\nWARNING everything is lost\r\x7f\u2028"
WHY = "\x1b[2Jno [/x] such :skull:\n\u2066operation"
NAME = "foreign\x1b[31m\n[red]x["
SHOWN = r"[red]x[/red] \x1b[31mred\x1b]0;title\x07 \x9b1m \u202eright-to-left :skull:"


@contextmanager
def hostile_api() -> Iterator[dict[str, str]]:
    """An API whose every text is an attack; gives the settings that lead to it."""
    operation = record(1, status=STATUS, stats={"failed": 1}, **{FIELD: STATUS})

    def answer(request: Received) -> Answer:
        if request.path.endswith("/Operations"):
            mine = request.query.get("startDate", "").startswith("2026-11-19T23:59:59")
            return Answer(body([operation] if mine else []))
        refusal = {"errors": [{"code": 20009, "message": WHY}]}
        return Answer(json.dumps(refusal).encode(), 400)

    with scripted(answer) as server:
        yield {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": "token",
            "EMAIL_ARCHIVE_API_URL": server.url,
            "EMAIL_ARCHIVE_TRUST_CLOCK": "true",
        }


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = derived(new_lake(tmp_path_factory.mktemp("hostile")), scan([record(1, status=STATUS)]))
    publish(lake)
    return lake


def assert_harmless(text: str) -> None:
    for attack in (
        "\x1b[31mred",
        "\x1b]0;title",
        "\x9b",
        "\u202e",
        "\u2066",
        "\u2028",
        "\x1b[2Jno",
        "\x7f",
    ):
        assert attack not in text
    assert "\nWARNING everything is lost" not in text
    assert "\N{SKULL}" not in text
    assert "Traceback" not in text


def test_printable_escapes_what_repr_escapes():
    assert printable("a\x1b[1m\x00\x7f\x9b\u202e\u2028\ud800 ü 数") == (
        r"a\x1b[1m\x00\x7f\x9b\u202e\u2028\ud800 ü 数"
    )
    assert printable("a\nb\r", keep="\n") == "a\nb\\r"
    assert message("Error: x\nLINE 1: y\r") == "Error: x\n  LINE 1: y\\r"


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_sync_shows_data_as_text_in_messages_and_log(tmp_path: Path, options: list[str]):
    with hostile_api() as settings:
        done = run(*options, "sync", cwd=tmp_path, **settings)
        assert_harmless(on_terminal(*options, "sync", "--all", cwd=tmp_path, **settings)[1])
    assert done.returncode == 1
    assert_harmless(done.stdout + done.stderr)
    assert f"unknown status {SHOWN}" in done.stderr
    assert r"[/x]\x1b[2J" in done.stderr
    assert "such :skull:" in done.stderr


def test_json_log_and_summary_hold_data_as_it_is(tmp_path: Path):
    """JSON escapes by itself: whoever reads it gets the data, whoever looks at it is safe."""
    with hostile_api() as settings:
        done = run("--log-format", "json", "sync", "--json", cwd=tmp_path, **settings)
    assert_harmless(done.stdout + done.stderr)
    drift = json.loads(done.stdout)["drift"]
    assert any(STATUS in one for one in drift)
    assert any(FIELD in one for one in drift)
    messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert any(STATUS in one for one in messages)


def test_verify_and_status_show_data_as_text(tmp_path: Path):
    with hostile_api() as settings:
        data = new_lake(tmp_path).root
        (data / "operations").mkdir()
        (data / "operations" / NAME).write_text("x")
        for arguments in (["verify"], ["status"], ["sync"], ["status"]):
            command = (*arguments, "--data", str(data))
            done = run(*command, cwd=tmp_path, **settings)
            assert_harmless(done.stdout + done.stderr)
            assert_harmless(on_terminal(*command, cwd=tmp_path, **settings)[1])
    assert r"foreign\x1b[31m\n[red]x[" in done.stdout


@pytest.mark.parametrize("shown", ["piped", "on a terminal"])
def test_sql_table_shows_data_as_text(lake: Lake, tmp_path: Path, shown: str):
    query = "SELECT status AS \"[red]s[/red]\", '[/x]' AS x, ':skull:' AS y FROM operations"
    command = ("sql", query, "--data", str(lake.root))
    text = (
        run(*command, cwd=tmp_path, COLUMNS="200").stdout
        if shown == "piped"
        else on_terminal(*command, cwd=tmp_path)[1]
    )
    assert_harmless(text)
    for cell in (SHOWN, "[red]s[/red]", "[/x]", ":skull:"):
        assert cell in text


def test_csv_and_json_hold_data_as_it_is(lake: Lake, tmp_path: Path):
    query = ("sql", "SELECT status FROM operations", "--data", str(lake.root), "--format")
    as_csv, as_json = (run(*query, form, cwd=tmp_path).stdout for form in ("csv", "json"))
    assert list(csv.reader(io.StringIO(as_csv))) == [["status"], [STATUS]]
    assert json.loads(as_json) == [{"status": STATUS}]
    for form in ("csv", "json"):
        assert_harmless(on_terminal(*query, form, cwd=tmp_path)[1])


def test_error_quoting_data_shows_it_as_text(lake: Lake, tmp_path: Path):
    for options in ([], ["--debug"]):
        query = "SELECT status::INTEGER FROM operations"
        done = run(*options, "sql", query, "--data", str(lake.root), cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert SHOWN in done.stderr
        assert "\x1b" not in done.stderr


def test_all_text_is_printed_by_one_module():
    printers = {
        path.relative_to(ROOT).as_posix()
        for package in ("pipeline", "assets")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("print", "Console", "typer.echo", "sys.stderr.write")
    }
    commands = {f"pipeline/cli/{name}.py" for name in ("sync", "archive", "accounts", "config")}
    assert printers == {"pipeline/terminal.py", "pipeline/cli/rendering.py"} | commands
