"""Commands about several accounts: which are listed, checked, retired, and what others then show of them."""

import csv
import json
import shutil
import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.lake.layout import Lake
from pipeline.quality.checks import unsynced_accounts
from pipeline.quality.status import status
from pipeline.sync import EVERYTHING
from pipeline.sync_accounts import sync_accounts
from tests.support.command import run
from tests.support.scripted_api import Answer, Received, scripted
from tests.support.several import NOW, SIDS, configured, emulated, with_settings

MONTHS = timedelta(days=60)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of three accounts in ``data``; nobody serves them any more."""
    folder = tmp_path_factory.mktemp("accounts")
    with emulated(folder / "data") as (_, accounts):
        lake = Lake(folder / "data")
        assert all(one.ok for one in sync_accounts(lake, accounts, scope=EVERYTHING))
        configured(folder, accounts)
    return folder


def test_accounts_are_listed_with_their_last_sync_and_checked(tmp_path: Path):
    with emulated(tmp_path / "data") as (emulator, accounts):
        variables = configured(tmp_path, accounts)
        done = run("accounts", "--json", cwd=tmp_path, **variables)
        rows = json.loads(done.stdout)["accounts"]
        assert [(one["name"], one["state"], one["last_scan_at"]) for one in rows] == [
            (name, "active", None) for name in SIDS
        ]
        assert emulator.requests == []
        assert run("sync", "--account", "good", cwd=tmp_path, **variables).returncode == 0
        emulator.requests.clear()
        variables["OTHER_TOKEN"] = "wrong"
        done = run("accounts", "--check", "--json", cwd=tmp_path, **variables)
        assert done.returncode == 1
        rows = json.loads(done.stdout)["accounts"]
        assert [one["last_scan_at"] for one in rows] == ["2026-11-14T15:00:00Z", None, None]
        assert [one["check"] == "ok" for one in rows] == [True, False, True]
        assert len(emulator.requests) == 3
        assert "wrong" not in done.stdout + done.stderr  # R11
        assert "Check the account in email-archive.toml" in rows[1]["check"]
        assert "TWILIO_" not in rows[1]["check"]


def test_retired_account_counts_as_lost_no_more(archive: Path):
    lake, later = Lake(archive / "data"), NOW + MONTHS
    assert not any(one.ok for one in status(lake, later).accounts)
    data = {"EMAIL_ARCHIVE_DATA": str(lake.root)}
    done = run("accounts", "retire", "other", cwd=archive, **data)
    assert (done.returncode, done.stderr) == (0, "")
    found = {one.name: one for one in status(lake, later).accounts}
    assert (found["other"].ok, found["other"].lost, found["other"].at_risk) == (True, (), ())
    assert found["other"].operations > 0
    assert found["other"].gaps < found["good"].gaps
    done = run("status", "--account", "other", "--at", "2027-03-01", cwd=archive, **data)
    assert done.returncode == 0
    assert f"other ({SIDS['other']}), retired at " in done.stdout
    assert run("accounts", "resume", SIDS["other"], cwd=archive, **data).returncode == 0
    assert not {one.name: one for one in status(lake, later).accounts}["other"].ok
    done = run("accounts", "retire", "nobody", cwd=archive, **data)
    assert done.returncode == 2
    assert "good" in done.stderr


def test_accounts_of_an_archive_are_listed_without_credentials(archive: Path, tmp_path: Path):
    done = run("accounts", "--data", str(archive / "data"), "--json", cwd=tmp_path)
    assert done.returncode == 0
    rows = json.loads(done.stdout)["accounts"]
    assert {one["name"]: one["state"] for one in rows} == dict.fromkeys(SIDS, "not configured")
    assert "no account is configured here" in done.stderr
    assert "TWILIO_ACCOUNT_SID is not set" in done.stderr
    for arguments in (["--check", "--data", str(archive / "data")], ["--data", "none"]):
        assert run("accounts", *arguments, cwd=tmp_path).returncode == 2


def test_sql_of_an_account_sees_its_rows_alone(archive: Path):
    query = "SELECT DISTINCT account_id FROM delivery_daily"
    data = {"EMAIL_ARCHIVE_DATA": str(archive / "data")}
    done = run("sql", query, "--account", "good", "-f", "csv", cwd=archive, **data)
    assert done.stdout.split() == ["account_id", SIDS["good"]]
    assert run("sql", query, "--account", "nobody", cwd=archive, **data).returncode == 2


def test_check_makes_one_attempt_at_a_hanging_server(tmp_path: Path):
    ended = threading.Event()

    def answer(_: Received) -> Answer:
        ended.wait(60)
        return Answer(status=401)

    with emulated(tmp_path / "data") as (_, accounts), scripted(answer) as server:
        variables = configured(tmp_path, [with_settings(accounts[0], api_url=server.url)])
        variables["EMAIL_ARCHIVE_READ_TIMEOUT"] = "0.2"
        done = run("accounts", "--check", "--json", cwd=tmp_path, **variables)
        ended.set()
    assert done.returncode == 1
    assert len(server.requests) == 1
    assert "ok" not in json.loads(done.stdout)["accounts"][0]["check"]


def test_refused_connections_are_told_in_plain_words_by_account(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    lost = {"api_url": f"http://{address}/v1", "trust_clock": True}
    with emulated(tmp_path / "data") as (_, accounts):
        variables = configured(tmp_path, [with_settings(one, **lost) for one in accounts[:2]])
    done = run("accounts", "--check", cwd=tmp_path, **variables)
    refused = f"can't connect to {address}: connection refused"
    assert [line.split(": GET")[0] for line in done.stderr.splitlines()] == ["good", "other"]
    assert done.stderr.count(refused) == 2
    assert done.stdout.count("failed") == 2
    variables["EMAIL_ARCHIVE_RETRY_ATTEMPTS"] = "2"
    done = run("sync", cwd=tmp_path, **variables)
    assert done.returncode == 1
    for name in ("good", "other"):
        assert f"WARNING {name}: try 1 failed, next in" in done.stderr
    assert "Error" not in done.stderr


def test_resume_names_a_retiring_configuration(tmp_path: Path):
    with emulated(tmp_path / "data") as (_, accounts):
        lake = Lake(tmp_path / "data")
        list(sync_accounts(lake, accounts, ["good"], scope=EVERYTHING))
        variables = configured(tmp_path, accounts)
    file = tmp_path / "email-archive.toml"
    file.write_text(file.read_text().replace('name = "good"', 'name = "good"\nactive = false'))
    done = run("accounts", "resume", "good", cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert "good stays retired: its configuration has `active = false`" in done.stderr


def test_unsynced_active_account_is_an_error_by_the_clock(archive: Path):
    lake = Lake(archive / "data")
    assert all(one.ok for one in status(lake, NOW + timedelta(hours=1)).accounts)
    assert unsynced_accounts(lake, NOW) == {}
    evening = NOW + timedelta(hours=25)
    assert unsynced_accounts(lake, evening) == dict.fromkeys(SIDS.values(), NOW.isoformat())
    assert [(one.unsynced, one.ok) for one in status(lake, evening).accounts] == [(True, False)] * 3
    done = run(
        "status",
        "--at",
        "2026-11-15T16:00",
        cwd=archive,
        EMAIL_ARCHIVE_DATA=str(lake.root),
    )
    assert done.returncode == 1
    assert f"good ({SIDS['good']})" in done.stdout
    assert done.stdout.startswith(
        "good, other, third are not synced any more, the first of them since 2026-11-14 15:00 UTC, "
        "25 hours ago: nothing is lost yet, but from "
        "2026-11-21 15:00 UTC on the API drops what was created since then; run `email-archive sync`"
    )
    assert done.stdout.count("not synced for a day") == 3


def test_status_begins_with_what_nobody_syncs_any_more(archive: Path):
    data = {"EMAIL_ARCHIVE_DATA": str(archive / "data")}
    done = run("status", "--at", "2026-12-01T09:30", "--account", "good", cwd=archive, **data)
    assert done.returncode == 1
    first, *_ = done.stdout.splitlines()
    assert first == (
        "good was last synced at 2026-11-14 15:00 UTC, 16 days ago: the operations created from "
        "2026-11-14 15:00 to 2026-11-24 10:00 UTC are lost (235 hours, and another one every hour); run "
        "`email-archive sync` now and then every 10 minutes, or, if the account is not used any more, "
        "`email-archive accounts retire good`."
    )
    assert "lost 2026-11-14 15:00 to 2026-11-24 10:00 UTC: 235 hours" in done.stdout
    as_json = run("status", "--json", "--at", "2026-12-01T09:30", cwd=archive, **data)
    (warning,) = json.loads(as_json.stdout)["warnings"]
    assert "(705 hours, and another one every hour)" in warning


def test_status_names_several_unsynced_accounts_in_the_plural(archive: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(archive / "data", data)
    shutil.rmtree(data / "coverage" / f"account_id={SIDS['other']}")
    shutil.rmtree(data / "slot_coverage" / f"account_id={SIDS['other']}")
    stopped, never = status(Lake(data), NOW + timedelta(hours=25)).warnings
    assert stopped.startswith(
        "good, third are not synced any more, the first of them since 2026-11-14 15:00 UTC, 25 hours ago"
    )
    assert never.startswith("other was never synced: ")


def test_status_has_totals_and_a_section_per_account(archive: Path):
    data = {"EMAIL_ARCHIVE_DATA": str(archive / "data")}
    at_now = ("--at", "2026-11-14T15:30")
    done = run("status", *at_now, cwd=archive, **data)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(run("status", "--json", *at_now, cwd=archive, **data).stdout)
    operations = sum(one["operations"] for one in found["accounts"])
    assert (found["total"]["operations"], found["warnings"]) == (operations, [])
    parts = done.stdout.split("\n\n")
    assert parts[1].startswith("3 accounts\n")
    assert f"{operations:,}, with" in parts[1]
    assert "hours of all accounts" in parts[1]
    assert "hours in all" in parts[2]
    titles = [part.splitlines()[0] for part in parts[2::2]]
    assert titles == [f"{name} ({sid})" for name, sid in SIDS.items()]


def test_configured_account_without_any_sync_is_an_error(tmp_path: Path):
    with emulated(tmp_path) as (_, accounts):
        lake = Lake(tmp_path)
        list(sync_accounts(lake, accounts, ["good"], scope=EVERYTHING))
    found = {one.name: one for one in status(lake, NOW).accounts}
    assert {name: one.ok for name, one in found.items()} == {
        "good": True,
        "other": False,
        "third": False,
    }
    assert unsynced_accounts(lake, NOW) == {SIDS["other"]: "never", SIDS["third"]: "never"}


def test_reading_commands_take_accounts_by_name(archive: Path):
    data = {"EMAIL_ARCHIVE_DATA": str(archive / "data")}

    def exported(*arguments: str) -> set[str]:
        done = run("export", "--table", "operations", *arguments, cwd=archive, **data)
        assert (done.returncode, done.stderr) == (0, "")
        return {row["account_id"] for row in csv.DictReader(done.stdout.splitlines())}

    assert exported() == set(SIDS.values())
    assert exported("--account", "good") == {SIDS["good"]}
    assert exported("--account", "good", "--account", SIDS["third"]) == {
        SIDS["good"],
        SIDS["third"],
    }
    done = run("publish", "--account", "good", cwd=archive, **data)
    assert done.returncode == 0
    assert "3 days" in done.stdout
    for command in (["export", "--table", "operations"], ["publish"], ["status"]):
        done = run(*command, "--account", "nobody", cwd=archive, **data)
        assert done.returncode == 2
        assert "the archive has no account 'nobody'; it has: good" in done.stderr
