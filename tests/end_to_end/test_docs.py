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

import pyarrow.compute as pc
import pytest
import typer

from pipeline.cli import app
from pipeline.emulator import World
from pipeline.schema import COVERAGE, HISTORY, OPERATIONS
from pipeline.settings import Settings
from tests.support.archives import account, rows, states, sync_all

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
LOADED = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?(https?:)?//", re.IGNORECASE)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_commands_and_options_that_exist(page: Path):
    command = typer.main.get_command(app)
    known = {
        name: {
            option
            for parameter in one.params
            for option in parameter.opts + parameter.secondary_opts
        }
        for name, one in command.commands.items()  # type: ignore[attr-defined] - a group's
    }
    unknown = [
        f"{name} {option}"
        for _, block in BLOCK.findall(page.read_text())
        for name, rest in re.findall(r"email-archive (?!failed)([a-z]+)([^\n|>]*)", block)
        for option in [None, *re.findall(r"(?<= )--?[a-z][a-z-]*", rest.split('"')[0])]
        if name not in known or (option and option not in {*known[name], "-h", "--help"})
    ]
    assert unknown == []


def test_units_of_systemd_run_commands_that_are_installed():
    page = (ROOT / "docs" / "production.md").read_text()
    units = [block for kind, block in BLOCK.findall(page) if kind == "ini"]
    assert len(units) == 4
    started = []
    for unit in units:
        parsed = ConfigParser(interpolation=None, strict=True)
        parsed.optionxform = str  # type: ignore[assignment,method-assign] - as its documentation does
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


def test_backup_made_while_syncs_go_on_restores_an_archive_that_goes_on(tmp_path: Path):
    """R1, R2, R4, by the very commands of the page, with a sync after each folder that is copied."""
    data, restored, backup = tmp_path / "data", tmp_path / "restored", tmp_path / "backup.tar"
    late = NOW.replace(hour=19)  # so that a new day begins in the midst of it
    with account(World(5, 300, NOW - timedelta(days=6)), late, data) as (emulator, settings):
        sync_all(settings)
        before = states(rows(data, HISTORY))
        (tmp_path / "tar").write_text(TAR.format(python=sys.executable, tar=shutil.which("tar")))
        (tmp_path / "tar").chmod(0o700)
        emulator.clock.run(HURRY)
        told("backup", settings, data, backup, first=tmp_path)
        emulator.clock.run(0)
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
import subprocess, sys
_, how, backup, *names = sys.argv
if how != "-cf":
    sys.exit(subprocess.call(["{tar}", *sys.argv[1:]]))
for name in names:
    # Where what was copied is another moment's than what comes next.
    subprocess.run(["{tar}", "-rf", backup, name], check=True)
    subprocess.run(["email-archive", "sync", "--no-publish"], check=True)
"""
HURRY = 3600.0
"""Simulated seconds in one: something is due for each sync."""


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
        "TWILIO_ACCOUNT_SID": user,
        "TWILIO_AUTH_TOKEN": secret,
        "BACKUP": str(backup),
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - the one that a user has
        env=environment, cwd=backup.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
