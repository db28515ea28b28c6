"""`init` and `config show`: what they write is what a sync uses, and no secret is shown."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.emulator import Emulator, World
from tests.support.archives import account
from tests.support.command import on_terminal, run
from tests.support.factories import at

NOW = at("2026-11-14 15:00")
WORLD = World(5, 20.0, at("2026-11-13"))
SID = f"AC{'1' * 32}"
KEY = f"SK{'2' * 32}"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory):
    with account(WORLD, NOW, tmp_path_factory.mktemp("data")) as (emulator, _):
        yield emulator


def options(emulator: Emulator) -> list[str]:
    return ["--sid", emulator.options.account_sid, "--api-url", emulator.url]


def test_init_asks_and_writes_what_a_sync_uses(emulator: Emulator, tmp_path: Path):
    """R11: the token is neither echoed nor printed."""
    token = emulator.options.auth_token
    typed = [
        ("Account SID", "AC12\r"),
        ("expected AC and 32", ""),
        ("Account SID", f"{emulator.options.account_sid}\r"),
        ("API key SID", "\r"),
        ("Auth token: ", f"{token}\r"),
        ("Folder of the archive", "archive\r"),
    ]
    address = ("--api-url", emulator.url)
    code, text = on_terminal("init", *address, cwd=tmp_path, typed=typed)
    assert code == 0, text
    assert token not in text
    assert "email-archive sync" in text
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    done = run("sync", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "archive" / "warehouse.duckdb").exists()


def test_init_takes_everything_from_options(emulator: Emulator, tmp_path: Path):
    (tmp_path / "token").write_text(f"{emulator.options.auth_token}\n")
    done = run("init", *options(emulator), "--secret-file", "token", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert emulator.options.auth_token not in done.stdout
    piped = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "init", *options(emulator), "--secret-file", "-"],
        cwd=tmp_path,
        input=emulator.options.auth_token,
        capture_output=True,
        text=True,
        check=False,
    )
    assert piped.returncode == 2
    assert "Replace them with --force" in piped.stderr


def test_init_keeps_the_file_unless_told_to_replace_it(emulator: Emulator, tmp_path: Path):
    old = f"# mine\nEMAIL_ARCHIVE_PAGE_SIZE=50\nTWILIO_ACCOUNT_SID={SID}\nTWILIO_AUTH_TOKEN=old\n"
    (tmp_path / ".env").write_text(old)
    (tmp_path / "token").write_text(emulator.options.auth_token)
    secret = ("--secret-file", "token", "--data", "archive")
    typed = [("Replace them?", "n\r")]
    code, _ = on_terminal("init", *options(emulator), *secret, cwd=tmp_path, typed=typed)
    assert code == 1
    assert (tmp_path / ".env").read_text() == old
    done = run("init", *options(emulator), *secret, "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[:2] == ["# mine", "EMAIL_ARCHIVE_PAGE_SIZE=50"]
    assert [line for line in lines if line.startswith("TWILIO_ACCOUNT_SID")] == [
        f"TWILIO_ACCOUNT_SID={emulator.options.account_sid}"
    ]


def test_init_writes_nothing_if_the_account_does_not_work(emulator: Emulator, tmp_path: Path):
    (tmp_path / "token").write_text("no such token")
    done = run("init", *options(emulator), "--secret-file", "token", cwd=tmp_path)
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "no such token" not in done.stderr
    assert not (tmp_path / ".env").exists()
    for arguments, message in (
        (["--sid", "AC12", "--secret-file", "token"], "TWILIO_ACCOUNT_SID is malformed"),
        (["--sid", SID], "expected --sid and --secret-file"),
        (["--sid", SID, "--secret-file", "none"], "--secret-file none can't be read"),
    ):
        done = run("init", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
    (tmp_path / "email-archive.toml").touch()
    done = run("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "add an [[accounts]] entry to it" in done.stderr


def test_init_refuses_a_file_in_another_encoding(emulator: Emulator, tmp_path: Path):
    (tmp_path / "token").write_text(emulator.options.auth_token)
    (tmp_path / ".env").write_bytes(b"NAME=caf\xe9\n")
    done = run("init", *options(emulator), "--secret-file", "token", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected text in UTF-8 in .env" in done.stderr
    assert (tmp_path / ".env").read_bytes() == b"NAME=caf\xe9\n"


def test_init_warns_of_a_variable_winning_over_the_file(emulator: Emulator, tmp_path: Path):
    (tmp_path / "token").write_text(emulator.options.auth_token)
    other = {"TWILIO_ACCOUNT_SID": SID, "EMAIL_ARCHIVE_TRUST_CLOCK": "true"}
    done = run("init", *options(emulator), "--secret-file", "token", cwd=tmp_path, **other)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "WARNING TWILIO_ACCOUNT_SID is set in the environment, and wins over .env: unset it\n"
    )


def test_config_shows_values_with_their_origin_and_no_secret(tmp_path: Path):
    """R11"""
    (tmp_path / ".env").write_text(
        f"TWILIO_ACCOUNT_SID={SID}\nTWILIO_API_KEY_SID={KEY}\nTWILIO_API_KEY_SECRET=hush\n"
        "EMAIL_ARCHIVE_REFRESH=2h:5m,7d:1h\nEMAIL_ARCHIVE_DATA=there\n"
    )
    variables = {"EMAIL_ARCHIVE_DATA": "here", "HTTPS_PROXY": "http://me:hush@proxy:1"}
    done = run("config", "show", "--json", cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accounts"] == [SID]
    shown = {name: tuple(one.values()) for name, one in found["settings"].items()}
    assert shown["EMAIL_ARCHIVE_DATA"] == ("here", "environment")
    assert shown["TWILIO_ACCOUNT_SID"] == (SID, ".env")
    assert shown["TWILIO_API_KEY_SECRET"] == ("********", ".env")
    assert shown["HTTPS_PROXY"] == ("********", "environment")
    assert shown["TWILIO_AUTH_TOKEN"] == (None, "default")
    assert shown["EMAIL_ARCHIVE_PAGE_SIZE"] == ("1000", "default")
    assert shown["EMAIL_ARCHIVE_REFRESH_INTERVALS"] == (
        "2h:5m,7d:1h",
        ".env, as EMAIL_ARCHIVE_REFRESH",
    )
    text = run("config", "show", cwd=tmp_path, **variables).stdout
    assert "hush" not in text
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines()}
    assert lines["EMAIL_ARCHIVE_DATA"] == "here (environment)"
    assert lines["TWILIO_AUTH_TOKEN"] == "not set"


def test_config_shows_no_malformed_value_and_exits_with_2(tmp_path: Path):
    """R11: it may be a secret in the wrong place."""
    variables = {"TWILIO_ACCOUNT_SID": "tok-3n-secret", "EMAIL_ARCHIVE_PAGE_SIZE": "many"}
    done = run("config", "show", cwd=tmp_path, **variables)
    assert done.returncode == 2
    assert "tok-3n-secret" not in done.stdout + done.stderr
    assert "malformed, not shown  (environment)" in done.stdout
    assert "EMAIL_ARCHIVE_PAGE_SIZE is malformed" in done.stderr


def test_misspelt_names_are_noticed_and_unrelated_ones_are_not(tmp_path: Path):
    (tmp_path / ".env").write_text("TWILIO_AUTH_TOKN=hush\nEMAIL_ARCHIV_DATA=there\n")
    unrelated = dict.fromkeys(
        ["TWILIO_API_KEY", "TWILIO_API_SECRET", "TWILIO_AUTH_TOKEN_2", "HTTP_PROXY"], "hush"
    )
    done = run("sync", cwd=tmp_path, TWILIO_ACOUNT_SID="hush", **unrelated)
    assert re.findall(
        r"WARNING (\S+) is not a setting and is ignored; is (\S+) meant", done.stderr
    ) == [
        ("EMAIL_ARCHIV_DATA", "EMAIL_ARCHIVE_DATA"),
        ("TWILIO_ACOUNT_SID", "TWILIO_ACCOUNT_SID"),
        ("TWILIO_AUTH_TOKN", "TWILIO_AUTH_TOKEN"),
    ]
    assert done.stderr.count("WARNING") == 3
    assert "hush" not in done.stderr  # R11
