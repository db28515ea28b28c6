"""README and docs/: generated parts are current, commands and links work, the site needs no network."""

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

from pipeline.cli.app import app
from pipeline.emulator import World
from pipeline.lake.accounts import KnownAccount, retire, retired_accounts
from pipeline.lake.layout import Lake
from pipeline.model.schema import COVERAGE, HISTORY, OPERATIONS
from pipeline.settings import Settings, settings_table
from tests.end_to_end.conftest import Demo
from tests.support.archives import account, rows, states, sync_all
from tests.support.factories import OTHER_ACCOUNT

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
WRITTEN = [page for page in PAGES if page.name != "commands.md"]  # which is made of the commands
EXAMPLE = re.compile(r"\[\[\[cog (demo|show)\(")
SLOW_EXAMPLE = re.compile(r"\[\[\[cog (status|verify)_")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
COMMAND = re.compile(r"(?<![-\"\w])(?<!-[ou] )(?<!srv/)email-archive((?: [^\s|>&#;]+)+)")
"""What is typed; not the user or the folder of that name, and not the subject of a mail."""
LOADED = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"?(https?:)?//", re.IGNORECASE)
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_pages_name_only_existing_commands_and_options(page: Path):
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
def test_commands_are_distinguished_from_others(words: str, is_right: bool):
    assert exists(words.split()) == is_right


def test_pages_name_only_existing_settings():
    known = {variable for variable, _, _ in settings_table()}
    named = {
        name: page.name
        for page in PAGES
        for name in re.findall(r"\b(?:EMAIL_ARCHIVE|TWILIO)_[A-Z_]+", page.read_text())
    }
    assert {name: page for name, page in named.items() if name not in known} == {}


def test_reference_is_current():
    """`make pages` generates it again."""
    assert_current(["docs/commands.md", "docs/settings.md", "docs/tables.md"])


def test_examples_show_what_the_demo_gives(demo: Demo):
    """`make readme` generates them again."""
    pages = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if EXAMPLE.search(page.read_text()) and not SLOW_EXAMPLE.search(page.read_text())
    ]
    assert {"README.md", "docs/sql.md", "docs/notebook.md"} <= set(pages)
    assert_current(pages, demo.folder)


@pytest.mark.slow
def test_examples_of_coverage_show_what_an_outage_leaves(demo: Demo):
    assert_current(["docs/coverage.md"], demo.folder)


def assert_current(pages: list[str], folder: Path | None = None) -> None:
    """That cog would write what is there."""
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", "-P", "-I", "."]
    ran = subprocess.run(
        [*command, "-p", "from tests.support.pages import *", *pages],
        cwd=ROOT,
        env=dict(os.environ) | ({"EXAMPLES": str(folder)} if folder else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_sql_cookbook_has_twenty_results_of_page_width():
    text = (ROOT / "docs" / "sql.md").read_text()
    queries = [code for kind, code in BLOCK.findall(text) if kind == "sql"]
    answers = [code for kind, code in BLOCK.findall(text) if kind == "text"]
    assert len(queries) == len(answers) == 20
    for query, answer in zip(queries, answers, strict=True):
        assert len(answer.splitlines()) >= 4, query  # no rows is an answer too
        assert max(len(line) for line in (query + answer).splitlines()) <= 100, query


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 180
    assert len(text.encode()) <= 9_000


def test_readme_and_contributing_name_existing_make_targets():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, required in (("README.md", {"demo", "test"}), ("CONTRIBUTING.md", {"check"})):
        text = (ROOT / page).read_text()
        named = re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
        assert required <= set(named) <= set(targets), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_to_files(page: Path):
    """Anchors within docs/ are checked by mkdocs."""
    text = BLOCK.sub("", page.read_text())
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    paths = re.findall(r"`((?:pipeline|assets|tests|docs|notebooks)/[\w./-]+)`", text)
    assert [one for one in [*links, *map(ROOT.joinpath, paths)] if not one.exists()] == []


def test_first_run_of_the_readme_works(tmp_path: Path):
    now = datetime.now(UTC)  # by which `status` judges
    with account(World(5, 50, now - timedelta(days=1)), now, tmp_path / "data") as (_, settings):
        run_block("README.md", "first run", settings, tmp_path / "data")
    assert (tmp_path / "data" / "report.html").exists()


def test_files_page_names_everything_in_an_archive(tmp_path: Path):
    with account(World(5, 50, NOW - timedelta(days=1)), NOW, tmp_path) as (_, settings):
        sync_all(settings, publishing=True)
    text = "".join((ROOT / "docs" / page).read_text() for page in ("files.md", "tables.md"))
    named = {name.strip("/,") for line in text.splitlines() for name in re.split(r"[ `]+", line)}
    named |= {name.partition("/")[0] for name in named}
    assert {path.name for path in tmp_path.iterdir()} - named == set()


def test_systemd_units_run_installed_commands():
    started = []
    for page in ("cron.md", "dagster.md"):
        for kind, unit in BLOCK.findall((ROOT / "docs" / page).read_text()):
            if kind == "ini":
                parsed = ConfigParser(interpolation=None, strict=True)
                parsed.optionxform = str  # type: ignore[assignment,method-assign]  # as documented
                parsed.read_string(unit)
                started += [parsed["Service"]["ExecStart"]] if "Service" in parsed else []
    programs = [Path(shlex.split(line)[0]).name for line in started]
    assert programs == ["email-archive", "dagster-daemon", "dagster-webserver"]
    assert all(Path(sys.executable).with_name(program).exists() for program in programs)


def test_site_is_built_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    subprocess.run([*command, str(tmp_path)], cwd=ROOT, check=True)
    pages = sorted(tmp_path.glob("*.html"))
    assert {page.stem for page in DOCS} <= {page.stem for page in pages}
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []


@pytest.mark.slow
def test_backup_during_syncs_can_be_restored_and_continued(tmp_path: Path):
    """R1, R2, R4, by the very commands of the page, with a sync after each folder that is copied."""
    data, restored, backup = tmp_path / "data", tmp_path / "restored", tmp_path / "backup.tar"
    late = NOW.replace(hour=17)  # so that a new day begins in the midst of it
    with account(World(5, 300, NOW - timedelta(days=6)), late, data) as (_, settings):
        sync_all(settings, publishing=True)
        before = states(rows(data, HISTORY))
        tar = TAR.format(python=sys.executable, tar=shutil.which("tar"), began=late.isoformat())
        (tmp_path / "tar").write_text(tar)
        (tmp_path / "tar").chmod(0o700)
        retire(Lake(data), KnownAccount(OTHER_ACCOUNT, "old"), late)
        run_block("docs/backup.md", "backup", settings, data, backup=backup, first=tmp_path)
        run_block("docs/backup.md", "restore", settings, restored, backup=backup)
        assert retired_accounts(Lake(restored)) == {OTHER_ACCOUNT}
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


def run_block(
    page: str,
    name: str,
    settings: Settings,
    data: Path,
    *,
    backup: Path | None = None,
    first: Path | None = None,
) -> None:
    """Run the block of a page that is marked ``<!-- tested: name -->``, with `first` first in PATH."""
    text = (ROOT / page).read_text()
    (script,) = re.findall(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", text, re.DOTALL)
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
    # The account and the folder are this test's.
    script = re.sub(r"^export .*\n", "", script, flags=re.MULTILINE)
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 - the user's
        env=environment, cwd=data.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
