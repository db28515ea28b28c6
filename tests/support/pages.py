"""What cog writes into the README and the pages of docs/, between ``[[[cog ...]]]`` and ``[[[end]]]``.

``make pages`` generates the reference, ``make readme`` also what the demo's archive shows. What these
functions print is the generated text.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.cli.demo import RECEIPTS, SHOP
from pipeline.emulator import World
from pipeline.model.schema import MARTS, PUBLISHED, Table
from pipeline.settings import settings_table
from pipeline.sync import sync
from tests.support.archives import account

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(os.environ.get("EXAMPLES", ROOT / "build" / "examples"))
"""The folder of the demo: its archive in ``data/demo``, its output in ``demo.txt``."""
_SMALLER = re.compile(rf"^Delivery[^\n]* {RECEIPTS}.*?(?=^{SHOP}: )", re.DOTALL | re.MULTILINE)
_DAYS = re.compile(r"((?:.*%.*\n){2})(?:.*%.*\n)+((?:.*%.*\n){2})")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def settings() -> None:
    """Every setting."""
    print("| variable | default | meaning |", "| --- | --- | --- |", sep="\n")
    for variable, default, meaning in settings_table():
        print(f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |")


def tables() -> None:
    """Every table, with its columns."""
    published = {table.name for table in PUBLISHED}
    listed = [*PUBLISHED, *(mart for mart in MARTS if mart.name not in published)]
    print("| table | where | one row per |", "| --- | --- | --- |", sep="\n")
    for table in listed:
        grain = table.grain.removeprefix("One row per ")
        print(f"| [`{table.name}`](#{table.name}) | {_where(table)} | {grain} |")
    for table in listed:
        print(f"\n## {table.name}\n\n{table.comment}\n")
        print("| column | type | meaning |", "| --- | --- | --- |", sep="\n")
        for column in table.published:
            type_ = column.sql_type + ("" if column.nullable else " NOT NULL")
            print(f"| `{column.name}` | {type_} | {column.comment} |")


def _where(table: Table) -> str:
    match table.kind:
        case "lake":
            return f"`{table.name}/`, and a view in `warehouse.duckdb`"
        case "mart":
            return f"`{table.name}/`"
        case _ if table.name in {mart.name for mart in MARTS}:
            return f"`{table.name}/` (without rates), and `warehouse.duckdb`"
        case _:
            return "`warehouse.duckdb`"


def commands() -> None:
    """The help of every command."""
    for name in ("", *_names(typer.main.get_command(app))):
        print(f"\n## email-archive {name}".rstrip(), "\n\n```text", sep="")
        print(_invoked([*name.split(), "--help"], columns=88), "```", sep="")


def _names(group: Any) -> Iterator[str]:
    """The names of a group's commands, each followed by those of the commands below it."""
    for name, command in group.commands.items():
        yield name
        yield from (
            (f"{name} {below}" for below in _names(command)) if hasattr(command, "commands") else ()
        )


def demo() -> None:
    """The demo's last lines, with the first and the last two days of the larger account alone."""
    text = (EXAMPLES / "demo.txt").read_text().strip("\n")
    text = _SMALLER.sub("...\n\n", text)
    kept = _DAYS.sub(lambda days: f"{days[1]}  ...\n{days[2]}", text).splitlines()
    print("```text", *map(str.rstrip, kept), "```", sep="\n")


def show(account: str = SHOP) -> None:
    """What the block above this mark gives: a query in SQL, a command, or a piece of Python.

    A query is one of this account of the demo; of all accounts if it is empty.
    """
    import cog  # noqa: PLC0415  # type: ignore[import-not-found]  # exists while cog runs

    lines = Path(cog.inFile).read_text().splitlines(keepends=True)
    kind, code = _BLOCK.findall("".join(lines[: cog.firstLineNum - 1]))[-1]
    shown = _sql(code, account) if kind == "sql" else _RUN[kind](code)
    print(f"```text\n{shown}```")


def _sql(query: str, account: str) -> str:
    chosen = ["--account", account] if account else []
    return _invoked(["sql", query, "--data", str(EXAMPLES / "data" / "demo"), *chosen], columns=110)


def _python(code: str) -> str:
    return _output([sys.executable, "-c", code], EXAMPLES)


def _command(line: str) -> str:
    return run(line, EXAMPLES)


_RUN: dict[str, Callable[[str], str]] = {"python": _python, "sh": _command}


def verify_after_40_minutes() -> None:
    """What `verify` says 40 minutes after a sync."""
    print(f"```text\n{_outage()[0]}```")


def status_after_outage() -> None:
    """What `status` says of an archive that was not synced for a week."""
    print(f"```text\n{_outage()[1]}```")


@cache
def _outage() -> tuple[str, str]:
    """An archive that was synced every 4 hours from 9 to 13 November, and again on the 21st.

    Returns:
        What `verify` says 40 minutes after the last sync of the 13th, and `status` on the 21st.
    """
    world = World(3, 400.0, datetime(2026, 11, 1, tzinfo=UTC))
    start = datetime(2026, 11, 9, 9, tzinfo=UTC)
    with TemporaryDirectory() as data, account(world, start, Path(data)) as (emulator, settings):
        while emulator.clock.now() < datetime(2026, 11, 13, 21, tzinfo=UTC):
            sync(settings, publishing=False)
            emulator.clock.step(timedelta(hours=4))
        emulator.clock.step(timedelta(minutes=40 - 4 * 60))
        verified = run(
            f"email-archive verify --data {data}",
            Path(data),
            TWILIO_ACCOUNT_SID=settings.account_sid,
            TWILIO_AUTH_TOKEN=emulator.options.auth_token,
            EMAIL_ARCHIVE_API_URL=emulator.url,
            EMAIL_ARCHIVE_TRUST_CLOCK="true",
        )
        emulator.clock.set(datetime(2026, 11, 21, 7, 10, tzinfo=UTC))
        sync(settings)
        shown = run(
            f"email-archive status --data {data} --at 2026-11-21T14:40:00",
            Path(data),
            may_fail=True,
        )
    return verified, shown.replace(data, "/srv/email-archive")


def run(command: str, folder: Path, *, may_fail: bool = False, **environment: str) -> str:
    """What a command prints in a folder, trailing blanks aside."""
    words = [sys.executable, "-m", "pipeline.cli", *shlex.split(command)[1:]]
    return _output(words, folder, may_fail=may_fail, **environment)


def _output(words: list[str], folder: Path, *, may_fail: bool = False, **environment: str) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        check=not may_fail,
    )
    return _tidy(done.stdout)


def _invoked(arguments: list[str], columns: int) -> str:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(
        app, arguments, prog_name="email-archive", catch_exceptions=False
    )
    return _tidy(result.stdout)


def _tidy(output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in output.strip("\n").splitlines())
