"""The parts of the README and of docs/sql.md that are made, and not written: tables, settings, answers.

``python -m tests.support.readme`` writes them anew; a test compares them with what is there.
"""

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.emulator import World
from pipeline.lake.layout import Lake
from pipeline.query import answered
from pipeline.rendering import write_table
from pipeline.report.facts import read_accounts
from pipeline.report.figures import figures
from pipeline.report.pictures import png
from pipeline.schema import MARTS, PUBLISHED, Table
from pipeline.settings import settings_table
from pipeline.sync import sync
from tests.support import notebook
from tests.support.archives import account

README = Path(__file__).parents[2] / "README.md"
SQL_EXAMPLES = README.parent / "docs" / "sql.md"
_CONSOLE = re.compile(r"(```console\n\$ (email-archive .*\n(?:> .*\n)*))((?s:.*?))(```\n)")
_PYTHON = re.compile(r"(```python\n(.+?)```\n\n```text\n)(.*?)(```\n)", re.DOTALL)

_SQL = re.compile(r"(```sql\n(.+?)```\n\n```text\n)(.*?)(```\n)", re.DOTALL)


def made_anew(text: str, folder: Path, demo_output: str) -> str:
    """The README with every made part made anew but those of `outage_anew`.

    Args:
        text: the README.
        folder: where the demo's archive lies as ``data/demo``.
        demo_output: what the demo said.
    """
    text = _section(text, "demo", f"```text\n{shortened(demo_output)}```")
    text = _section(text, "tables", tables())
    text = _section(text, "settings", settings())
    text = _CONSOLE.sub(_with_output(lambda lines: run_command(_joined(lines), folder)), text)
    return _PYTHON.sub(_with_output(lambda code: run_python(code, folder)), text)


def outage_anew(text: str, folder: Path) -> str:
    """The README with what is said of an outage made anew, in `folder`."""
    verified, status = outage(folder)
    text = _section(text, "verify", f"```text\n$ email-archive verify\n{verified}```")
    return _section(text, "status", f"```text\n$ email-archive status\n{status}```")


def answered_anew(text: str, folder: Path) -> str:
    """docs/sql.md with every answer made anew; `folder` has the demo's archive as ``data/demo``."""
    return _SQL.sub(_with_output(lambda query: answer(query, folder)), text)


def questions(text: str) -> list[tuple[str, str]]:
    """The queries of docs/sql.md with their answers."""
    return [(match[2], match[3]) for match in _SQL.finditer(text)]


def answer(query: str, folder: Path) -> str:
    """What `email-archive sql` shows of a query."""
    out = io.StringIO()
    with redirect_stdout(out), answered(Lake(folder / "data" / "demo"), query) as result:
        write_table(result, max_rows=200)
    return _tidy(out.getvalue())


def _section(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{content}\n{end}{after}"


def _with_output(run: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}{run(match[2])}{match[4]}"

    return replace


def _joined(lines: str) -> str:
    """A command that goes on over lines which begin as a shell shows them."""
    return lines.replace("\n> ", "\n")


def run_demo(folder: Path) -> str:
    """Play the demo in a folder; what it said."""
    return run_command("email-archive demo --no-dagster", folder)


def run_command(command: str, folder: Path, *, may_fail: bool = False, **environment: str) -> str:
    """What a command prints, trailing blanks aside."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *shlex.split(command)[1:]],
        cwd=folder,
        env=dict(os.environ) | {"PYTHONPATH": str(README.parent), "COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
        check=not may_fail,
    )
    return _tidy(done.stdout)


def run_python(code: str, folder: Path) -> str:
    """What a piece of Python prints."""
    out = io.StringIO()
    with redirect_stdout(out), chdir(folder):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    return _tidy(out.getvalue())


def outage(data: Path) -> tuple[str, str]:
    """An archive that was synced every 4 hours from 9 to 13 November, and again on the 21st.

    Returns:
        What `verify` says 40 minutes after the last sync of the 13th, and `status` on the 21st.
    """
    world = World(3, 400.0, datetime(2026, 11, 1, tzinfo=UTC))
    with account(world, datetime(2026, 11, 9, 9, tzinfo=UTC), data) as (emulator, settings):
        while emulator.clock.now() < datetime(2026, 11, 13, 21, tzinfo=UTC):
            sync(settings, publishing=False)
            emulator.clock.step(timedelta(hours=4))
        emulator.clock.step(timedelta(minutes=40 - 4 * 60))
        verified = run_command(
            f"email-archive verify --data {data}",
            data,
            TWILIO_ACCOUNT_SID=settings.account_sid,
            TWILIO_AUTH_TOKEN=emulator.options.auth_token,
            EMAIL_ARCHIVE_API_URL=emulator.url,
            EMAIL_ARCHIVE_TRUST_CLOCK="true",
        )
        emulator.clock.set(datetime(2026, 11, 21, 7, 10, tzinfo=UTC))
        sync(settings)
    command = f"email-archive status --data {data} --at 2026-11-21T14:40:00"
    status = run_command(command, data, may_fail=True)
    return verified, status.replace(str(data), "/srv/email-archive")


def _tidy(output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def shortened(output: str) -> str:
    """The demo's output with the days in the middle left out."""
    lines = output.splitlines()
    days = [number for number, line in enumerate(lines) if "%" in line]
    middle = range(days[2], days[-2])
    kept = [
        "  ..." if n == middle.start else line
        for n, line in enumerate(lines)
        if n not in middle[1:]
    ]
    return "".join(f"{line}\n" for line in kept)


def tables() -> str:
    """Every table and column, out of schema.py."""
    published = {table.name for table in PUBLISHED}
    listed = [*PUBLISHED, *(mart for mart in MARTS if mart.name not in published)]
    overview = [
        "| table | where | one row per |",
        "| --- | --- | --- |",
        *(f"| [`{t.name}`](#{t.name}) | {_where(t)} | {_grain(t)} |" for t in listed),
    ]
    return "\n".join(overview) + "\n\n" + "\n\n".join(_table(table) for table in listed)


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


def _grain(table: Table) -> str:
    return table.grain.removeprefix("One row per ")


def _table(table: Table) -> str:
    rows = [
        f"| `{c.name}` | {c.sql_type}{'' if c.nullable else ' NOT NULL'} "
        f"| {c.meaning}{f' Unit: {c.unit}.' if c.unit else ''} |"
        for c in table.published
    ]
    head = ["| column | type | meaning |", "| --- | --- | --- |"]
    title = (
        f"### {table.name}\n\n{table.comment}\n\n<details><summary>{len(rows)} columns</summary>\n"
    )
    return "\n".join([title, *head, *rows, "", "</details>"])


def settings() -> str:
    """Every setting, out of settings.py."""
    rows = [
        f"| `{variable}` | {f'`{default}`' if default else ''} | {meaning} |"
        for variable, default, meaning in settings_table()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def pictures(folder: Path) -> dict[Path, bytes]:
    """The report's charts for the README: of the demo's archive in `folder`, by their files."""
    (account,), _ = read_accounts(Lake(folder / "data" / "demo"))
    drawn = {figure.key: figure for figure in figures(account)}
    return {
        README.parent / "docs" / f"report-{key.replace('_', '-')}.png": png(
            drawn[key], width=640, scale=1.5
        )
        for key in drawn
    }


def main() -> None:
    """Write the made parts of the README and of docs/sql.md, the pictures and the notebook anew."""
    with tempfile.TemporaryDirectory() as folder:
        output = run_demo(Path(folder))
        text = outage_anew(README.read_text(), Path(folder) / "outage")
        README.write_text(made_anew(text, Path(folder), output))
        SQL_EXAMPLES.write_text(answered_anew(SQL_EXAMPLES.read_text(), Path(folder)))
        for path, picture in pictures(Path(folder)).items():
            path.write_bytes(picture)
        notebook.store(Path(folder))


if __name__ == "__main__":
    main()
