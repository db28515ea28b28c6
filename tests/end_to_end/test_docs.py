"""The pages of docs/: what they name is there, what they tell to type works, the site needs no network."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import typer

from pipeline.cli import app
from pipeline.emulator import World
from pipeline.schema import COVERAGE, HISTORY, OPERATIONS
from pipeline.settings import Settings, settings_table
from tests.support.archives import account, rows, states, sync_all

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"(?<![-\"\w])(?<!-[ou] )(?<!srv/)email-archive((?: [^\s|>&#;]+)+)")
"""What is typed; not the user or the folder of that name, and not the subject of a mail."""
LOADED = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?(https?:)?//", re.IGNORECASE)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_commands_and_options_that_exist(page: Path):
    told = [
        match[1].split('"')[0].split()
        for block, inline in CODE.findall(page.read_text())
        for match in COMMAND.finditer(block or inline)
    ]
    assert [words for words in told if not exists(words)] == []


def exists(words: list[str]) -> bool:
    """Whether there are the command and the options that follow `email-archive`."""
    group: Any = typer.main.get_command(app)
    left = [word for word in words if word not in ("-h", "--help")]
    while left and left[0].startswith("-"):
        option = options(group).get(left.pop(0))
        if option is None:
            return False
        if not option.is_flag:
            left.pop(0)
    if not left:
        return True
    command = group.commands.get(left[0])
    named = [word.partition("=")[0] for word in left[1:] if word.startswith("-") and word != "-"]
    return command is not None and set(named) <= options(command).keys()


def options(command: Any) -> dict[str, Any]:
    return {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize(
    ("words", "is_right"),
    [
        ("sync --all", True),
        ("--log-format json sync", True),
        ("export --table x -o -", True),
        ("sync --everything", False),
        ("synchronize", False),
        ("--loud sync", False),
    ],
)
def test_commands_are_told_from_others(words: str, is_right: bool):
    assert exists(words.split()) == is_right


def test_pages_name_only_settings_that_exist():
    known = {variable for variable, _, _ in settings_table()}
    named = {
        name: page.name
        for page in PAGES
        for name in re.findall(r"\b(?:EMAIL_ARCHIVE|TWILIO)_[A-Z_]+", page.read_text())
    }
    assert {name: page for name, page in named.items() if name not in known} == {}


def test_units_of_systemd_run_commands_that_are_installed():
    page = (ROOT / "docs" / "production.md").read_text()
    units = [block for kind, block in BLOCK.findall(page) if kind == "ini"]
    assert len(units) == 4
    started = []
    for unit in units:
        parsed = ConfigParser(interpolation=None, strict=True)
        parsed.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation does
        parsed.read_string(unit)
        started += [parsed["Service"]["ExecStart"]] if "Service" in parsed else []
    programs = [Path(shlex.split(line)[0]).name for line in started]
    assert programs == ["email-archive", "dagster-daemon", "dagster-webserver"]
    assert all(Path(sys.executable).with_name(program).exists() for program in programs)


def test_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, check=True)
    pages = sorted(tmp_path.glob("*.html"))
    assert {page.stem for page in PAGES if page.name != "README.md"} <= {
        page.stem for page in pages
    }
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []
    assert "Emails successfully delivered" in (tmp_path / "tables.html").read_text()


@pytest.mark.slow
def test_backup_made_while_syncs_go_on_restores_an_archive_that_goes_on(tmp_path: Path):
    """R1, R2, R4, by the very commands of the page, with a sync after each folder that is copied."""
    data, restored, backup = tmp_path / "data", tmp_path / "restored", tmp_path / "backup.tar"
    late = NOW.replace(hour=17)  # so that a new day begins in the midst of it
    with account(World(5, 300, NOW - timedelta(days=6)), late, data) as (_, settings):
        sync_all(settings, publishing=True)
        before = states(rows(data, HISTORY))
        tar = TAR.format(python=sys.executable, tar=shutil.which("tar"), began=late.isoformat())
        (tmp_path / "tar").write_text(tar)
        (tmp_path / "tar").chmod(0o700)
        told("backup", settings, data, backup, first=tmp_path)
        told("restore", settings, restored, backup)
        history, operations = rows(restored, HISTORY), rows(restored, OPERATIONS)
        assert before <= states(history)
        assert set(operations["operation_id"].to_pylist()) == set(
            history["operation_id"].to_pylist()
        )
        live, claimed = (
            rows(data, HISTORY),
            rows(restored, COVERAGE)["observed_at"].combine_chunks(),
        )
        found_then = live.filter(pc.is_in(live["observed_at"], value_set=claimed))
        assert found_then.num_rows > len(before)
        assert states(found_then) <= states(history)


TAR = """#!{python}
import json, os, subprocess, sys
from datetime import datetime, timedelta
from urllib.request import Request, urlopen
_, how, backup, *names = sys.argv
if how != "-cf":
    sys.exit(subprocess.call(["{tar}", *sys.argv[1:]]))
clock = os.environ["EMAIL_ARCHIVE_API_URL"].removesuffix("/v1") + "/emulator/clock"
now = datetime.fromisoformat("{began}")
for name in names:
    # Where what was copied is another moment's than what comes next.
    subprocess.run(["{tar}", "-rf", backup, name], check=True)
    now += timedelta(hours=2)
    urlopen(Request(clock, data=json.dumps({{"now": now.isoformat()}}).encode()), timeout=30).close()
    subprocess.run(["email-archive", "sync", "--no-publish"], check=True)
"""


def told(
    name: str, settings: Settings, data: Path, backup: Path, first: Path | None = None
) -> None:
    """Run what the page has under this name."""
    page = (ROOT / "docs" / "production.md").read_text()
    (script,) = re.findall(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", page, re.DOTALL)
    user, secret = settings.basic_auth()
    programs = str(Path(sys.executable).parent)
    environment = {
        "PATH": ":".join(filter(None, [first and str(first), programs, os.environ["PATH"]])),
        "EMAIL_ARCHIVE_DATA": str(data),
        "EMAIL_ARCHIVE_API_URL": settings.api_url,
        "EMAIL_ARCHIVE_TRUST_CLOCK": "true",
        "TWILIO_ACCOUNT_SID": user,
        "TWILIO_AUTH_TOKEN": secret,
        "BACKUP": str(backup),
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - the one that a user has
        env=environment, cwd=backup.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
