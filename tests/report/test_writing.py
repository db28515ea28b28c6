"""How the report is written: whole, to wherever the user says, and only if it changed."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.lake.accounts import note_accounts
from pipeline.model.windows import midnight
from pipeline.outputs.warehouse import publish
from pipeline.report.write import draw, report
from tests.support import page
from tests.support.command import run
from tests.support.factories import ACCOUNT, DAY, NOON, OTHER_ACCOUNT, derived, record
from tests.support.reports import on, published, written


def test_same_warehouse_gives_the_same_page(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    first = report(lake)
    text = page.read(first.path)
    assert written(lake) == text


def test_report_is_written_whole_or_not_at_all(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    assert report(lake).path == (lake.root / "report.html").absolute()
    target = tmp_path / "elsewhere.html"
    target.write_text("an old one")
    report(lake, target)
    assert "Email delivery" in target.read_text()
    assert [path.name for path in tmp_path.glob("*elsewhere*")] == ["elsewhere.html"]
    with pytest.raises(UsageError, match="a folder that exists"):
        report(lake, tmp_path / "nowhere" / "report.html")


def test_unchanged_report_is_left_alone(tmp_path: Path):
    """A report of the same warehouse is the same file; whatever changes in it makes a new one."""
    lake = published(tmp_path, on(DAY, record(1)))
    first = report(lake)
    file = first.path.stat()
    again = report(lake)
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.path.stat().st_ino, first.path.stat().st_mtime_ns) == (
        file.st_ino,
        file.st_mtime_ns,
    )
    content = first.path.read_bytes()
    first.path.write_bytes(content.replace(b"Email", b"Snail"))  # as long as it was
    assert report(lake).is_new
    assert first.path.read_bytes() == content
    derived(lake, on(DAY, record(1), observed_at=midnight(DAY) + timedelta(days=3)))
    publish(lake)
    assert report(lake).is_new  # nothing else was found, but the page is true for a later moment


def test_report_of_some_accounts_has_its_own_file(tmp_path: Path):
    scans = [on(DAY, record(n), account_id=sid) for n, sid in ((1, ACCOUNT), (2, OTHER_ACCOUNT))]
    lake = published(tmp_path, *scans)
    note_accounts(lake, {ACCOUNT: True}, {ACCOUNT: "news/daily"}, NOON)
    shared = report(lake).path.read_bytes()
    assert report(lake, accounts=["news/daily"]).path.name == f"report-{ACCOUNT}.html"
    assert report(lake, accounts=[ACCOUNT, OTHER_ACCOUNT]).path.name == (
        f"report-{OTHER_ACCOUNT}+{ACCOUNT}.html"
    )
    assert (lake.root / "report.html").read_bytes() == shared


def test_report_goes_into_a_pipe_or_device(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    pipe, null = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    null.symlink_to("/dev/null")
    copied = tmp_path / "copied.html"
    with copied.open("wb") as copy, subprocess.Popen(["/bin/cat", str(pipe)], stdout=copy):
        assert report(lake, pipe).is_new
    assert copied.read_bytes() == draw(lake).content
    assert pipe.is_fifo()
    assert report(lake, null).path == null
    assert null.is_symlink()
    assert null.is_char_device()


@pytest.mark.parametrize("name", ["report.html", "elsewhere.html"])
def test_link_stays_and_its_target_is_replaced(tmp_path: Path, name: str):
    lake = published(tmp_path, on(DAY, record(1)))
    (tmp_path / "www").mkdir()
    served, link = tmp_path / "www" / "email.html", lake.root / name
    served.write_text("an old one")
    link.symlink_to(served)
    report(lake, None if name == "report.html" else link)
    assert link.is_symlink()
    assert served.read_bytes() == draw(lake).content
    assert [path.name for path in served.parent.iterdir()] == ["email.html"]


@pytest.mark.slow
def test_command_writes_the_report_to_stdout(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    done = run("report", "--data", str(lake.root), "-o", "-", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == draw(lake).content
    assert not (lake.root / "report.html").exists()
    assert not (tmp_path / "-").exists()


@pytest.mark.slow
def test_command_writes_the_report(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    done = run("report", "--data", str(lake.root), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {(lake.root / 'report.html').absolute()}: ")
    again = run("report", "--data", str(lake.root), cwd=tmp_path)
    assert again.stdout.startswith("nothing new in ")
    wrong = run("report", "--data", str(lake.root), "--account", "AC0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "no account 'AC0'" in wrong.stderr
