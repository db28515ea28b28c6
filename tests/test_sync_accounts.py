"""A sync of several accounts: side by side, and none changes what another one gets (R12)."""

import json
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.access.query import ask
from pipeline.accounts import Account
from pipeline.emulator import Faults
from pipeline.errors import UsageError
from pipeline.lake import parquet
from pipeline.lake.accounts import read_accounts
from pipeline.lake.files import Disk, Files
from pipeline.lake.layout import MARKER, Lake
from pipeline.lake.shared_ids import SharedIdsError
from pipeline.model.records import Partition
from pipeline.model.schema import HISTORY, OPERATIONS
from pipeline.quality.status import status
from pipeline.side_by_side import AT_ONCE, side_by_side
from pipeline.sync import EVERYTHING, sync
from pipeline.sync_accounts import AccountSync, sync_accounts, totals
from pipeline.sync_partition import sync_partition
from pipeline.twilio.errors import CredentialsError
from tests.support.archives import rows
from tests.support.command import run, started
from tests.support.scripted_api import Answer, Received, scripted
from tests.support.several import NOW, SIDS, configured, emulated, with_settings


def synced(data: Path, accounts: list[Account], **arguments: Any) -> dict[str, AccountSync]:
    found = sync_accounts(Lake(data), accounts, scope=EVERYTHING, **arguments)
    return {one.account.name: one for one in found}


def stored(data: Path, account: str) -> list[dict[str, Any]]:
    """An account's operations and their history, wherever they are."""
    lake = Lake(data)
    return [
        row
        for table in (OPERATIONS, HISTORY)
        for partition in lake.partitions(table.name)
        if partition.account_id == SIDS[account]
        for row in parquet.read(lake.part(table, partition), table.arrow).to_pylist()
    ]


def alone(data: Path, account: Account) -> list[dict[str, Any]]:
    """What an account's own sync stores in an archive of its own."""
    only = with_settings(account, data=data)
    assert only.settings
    assert sync(only.settings, scope=EVERYTHING, publishing=False).ok
    return stored(data, account.name)


def test_accounts_are_stored_as_each_would_be_alone(tmp_path: Path):
    """R12"""
    with emulated(tmp_path / "lake") as (_, accounts):
        done = synced(tmp_path / "lake", accounts)
        assert all(one.ok for one in done.values())
        for one in done.values():
            merged = {merge.partition.account_id for merge in one.report.merges}
            assert merged == {one.account.sid}
        for account in accounts:
            assert stored(tmp_path / "lake", account.name) == alone(
                tmp_path / account.name, account
            )
    counts = ask(
        Lake(tmp_path / "lake"), "SELECT account_id, count(*) AS n FROM operations GROUP BY 1"
    )
    assert counts.num_rows == 3
    assert rows(tmp_path / "lake", OPERATIONS).num_rows == sum(counts["n"].to_pylist())


def test_first_sync_of_several_accounts_waits_for_no_lock_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    class SlowDisk(Disk):
        def rename(self, source: Path, target: Path) -> None:
            if target.name == MARKER:
                threading.Event().wait(0.3)  # meanwhile the other accounts want to open the archive
            super().rename(source, target)

    with emulated(tmp_path) as (_, accounts):
        lake = Lake(tmp_path, Files(SlowDisk()))
        assert all(one.ok for one in sync_accounts(lake, accounts, publishing=False))
    assert "waiting for" not in caplog.text


def test_new_accounts_with_the_same_operations_are_noticed_at_once(tmp_path: Path):
    """Wrong label: with an API key the SID is never sent. No operation is stored under two accounts."""
    with emulated(tmp_path) as (_, accounts):
        good, other, third = accounts
        assert good.settings
        token = good.settings.auth_token
        key = {"api_key_sid": good.sid, "api_key_secret": token}  # reads what `good` has
        copy = with_settings(other, **key)
        done = synced(tmp_path, [good, copy, third])
        errors = [one.error for one in done.values() if one.error]
        assert [type(error) for error in errors] == [SharedIdsError]
        assert "synced at the same time" in str(errors[0])
        assert done["third"].ok
        ids = rows(tmp_path, OPERATIONS)["operation_id"].to_pylist()
        assert len(ids) == len(set(ids))
        assert not Lake(tmp_path).pending()
        allowed = [with_settings(one, allow_shared_ids=True) for one in (good, copy)]
        assert all(one.ok for one in synced(tmp_path, allowed).values())


def test_wrong_credentials_leave_the_others_as_they_are(tmp_path: Path):
    """R12"""
    with emulated(tmp_path) as (_, accounts):
        accounts[1] = with_settings(accounts[1], auth_token=SecretStr("wrong"))
        done = synced(tmp_path, accounts)
    assert {name: one.ok for name, one in done.items()} == {
        "good": True,
        "other": False,
        "third": True,
    }
    assert isinstance(done["other"].error, CredentialsError)
    figures = totals(list(done.values()))
    assert not figures["ok"]
    assert figures["new"] == len(rows(tmp_path, OPERATIONS))


def test_totals_have_all_figures_if_every_account_failed(tmp_path: Path):
    with emulated(tmp_path) as (_, accounts):
        wrong = [with_settings(one, auth_token=SecretStr("wrong")) for one in accounts]
        failed = totals(list(synced(tmp_path, wrong).values()))
        good = totals(list(synced(tmp_path, accounts).values()))
    assert (failed["ok"], failed["new"], failed["drift"]) == (False, 0, {})
    assert failed["errors"] == []
    assert set(failed) == set(good)


def test_totals_of_counts_keep_zeros(tmp_path: Path):
    with emulated(tmp_path) as (_, accounts):
        (first, second, _) = synced(tmp_path, accounts).values()
    assert first.report
    assert second.report
    extraction = replace(first.report.extraction, drift=Counter({"status x": 0}))
    first = replace(first, report=replace(first.report, extraction=extraction))
    assert totals([first, second])["drift"] == {"status x": 0}


def test_throttled_account_delays_no_other(tmp_path: Path):
    """R12: the others are done and published while it still waits."""
    waits, others_done = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        waits.set()
        assert others_done.wait(60)

    throttling = Faults(rates={"429": 1.0})
    with emulated(tmp_path, throttling) as (_, accounts):
        accounts[-1] = with_settings(accounts[-1], retry_attempts=2)
        names = []
        for outcome in sync_accounts(Lake(tmp_path), accounts, scope=EVERYTHING, sleep=sleep):
            names.append(outcome.account.name)
            if len(names) == 2:
                assert waits.wait(60)
                published = ask(Lake(tmp_path), "SELECT DISTINCT account_id FROM operations")
                assert set(published["account_id"].to_pylist()) == {SIDS["good"], SIDS["other"]}
                others_done.set()
            assert outcome.ok == (outcome.account.name != "third")
    assert names[-1] == "third"


def test_hanging_server_delays_no_other(tmp_path: Path):
    """R12: the others are done and published while its response is waited for."""
    hangs, others_done = threading.Event(), threading.Event()

    def answer(_: Received) -> Answer:
        hangs.set()
        assert others_done.wait(60)
        return Answer(status=401)

    with emulated(tmp_path) as (_, accounts), scripted(answer) as server:
        accounts[1] = with_settings(accounts[1], api_url=server.url)
        names = []
        for outcome in sync_accounts(Lake(tmp_path), accounts, scope=EVERYTHING):
            names.append(outcome.account.name)
            if len(names) == 2:
                assert hangs.wait(60)
                published = ask(Lake(tmp_path), "SELECT DISTINCT account_id FROM delivery_daily")
                assert set(published["account_id"].to_pylist()) == {SIDS["good"], SIDS["third"]}
                others_done.set()
    assert names[-1] == "other"


def test_hanging_accounts_keep_no_other_waiting_for_long():
    """R12: also if as many hang as are worked for at once."""
    done = threading.Event()
    accounts = [Account(f"AC{n:032x}", f"a{n}", is_active=True, settings=None) for n in range(20)]

    def work(account: Account) -> bool:
        return account not in accounts[:AT_ONCE] or done.wait(60)

    names = []
    for outcome in side_by_side(accounts, work, longest_wait=0.01):
        names.append(outcome.account.name)
        if len(names) == len(accounts) - AT_ONCE:
            done.set()
    assert set(names[:-AT_ONCE]) == {one.name for one in accounts[AT_ONCE:]}


def test_few_accounts_are_worked_for_at_once():
    """Each thread takes memory: 20 accounts at most 1.5 times that of one."""
    accounts = [Account(f"AC{n:032x}", f"a{n}", is_active=True, settings=None) for n in range(20)]
    threads = {one.result for one in side_by_side(accounts, lambda _: threading.get_ident())}
    assert len(threads) <= AT_ONCE


def test_damaged_day_of_an_account_fails_its_own_sync_alone(tmp_path: Path):
    """R12"""
    with emulated(tmp_path) as (_, accounts):
        assert all(one.ok for one in synced(tmp_path, accounts).values())
        lake = Lake(tmp_path)
        mine = next(p for p in lake.partitions(HISTORY.name) if p.account_id == SIDS["other"])
        lake.part(HISTORY, mine).write_bytes(b"damaged")
        done = synced(tmp_path, accounts)
    assert {name for name, one in done.items() if not one.ok} == {"other"}


def test_second_sync_of_an_account_lists_nothing(tmp_path: Path):
    with emulated(tmp_path) as (emulator, accounts):
        lake = Lake(tmp_path).open()
        with lake.files.locked(lake.sync_lock(SIDS["good"]), "the sync"):
            done = synced(tmp_path, accounts[:1])
        assert emulator.requests == []
        assert done["good"].ok
        assert done["good"].summary()["is_being_synced"]
        assert synced(tmp_path, accounts[:1])["good"].report


def test_sync_can_wait_for_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with emulated(tmp_path) as (_, accounts):
        lake = Lake(tmp_path).open()
        held = lake.files.locked(lake.sync_lock(SIDS["good"]), "the sync")
        done: dict[str, AccountSync] = {}
        waiting = threading.Thread(
            target=lambda: done.update(synced(tmp_path, accounts[:1], waiting=True))
        )
        with held:
            waiting.start()
            while "waiting for the sync of good" not in caplog.text:
                assert waiting.is_alive()
            assert not done
        waiting.join()
    assert done["good"].report


def test_run_of_a_partition_waits_for_a_sync_and_lists_nothing_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """A run of Dagster beside `email-archive sync`."""
    with emulated(tmp_path) as (_, accounts):
        settings = accounts[0].usable_settings()
        lake, done = Lake(tmp_path).open(), []
        partition = Partition(SIDS["good"], NOW.date())
        running = threading.Thread(
            target=lambda: done.append(sync_partition(settings, partition).extraction.scans)
        )
        with lake.files.locked(lake.sync_lock(SIDS["good"]), "the sync"):
            running.start()
            while "waiting for the sync of" not in caplog.text:
                assert running.is_alive()
            assert sync(settings, publishing=False).ok
        running.join()
    assert done == [()]


def test_retired_account_is_synced_no_more_until_resumed(tmp_path: Path):
    with emulated(tmp_path) as (emulator, accounts):
        assert all(one.ok for one in synced(tmp_path, accounts).values())
        lake = Lake(tmp_path)
        assert [one.name for one in read_accounts(lake).values()] == list(SIDS)
        accounts[1] = replace(accounts[1], is_active=False, settings=None)
        emulator.requests.clear()
        assert set(synced(tmp_path, accounts)) == {"good", "third"}
        assert [n for n, one in read_accounts(lake).items() if one.retired_at] == [SIDS["other"]]
        with pytest.raises(UsageError, match=r"other .* is retired"):
            synced(tmp_path, accounts, names=["other"])


def test_damaged_note_of_accounts_stops_no_sync(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """R12"""
    with emulated(tmp_path) as (_, accounts):
        Lake(tmp_path).open()
        (tmp_path / "accounts.json").write_text("{")
        done = synced(tmp_path, accounts)
    assert all(one.ok for one in done.values())
    assert status(Lake(tmp_path), NOW).accounts
    assert "accounts.json is damaged" in caplog.text


# The command.


def test_command_syncs_all_or_the_named_accounts(tmp_path: Path):
    with emulated(tmp_path) as (_, accounts):
        variables = configured(tmp_path, accounts)
        done = run("sync", "--account", "good", "--json", cwd=tmp_path, **variables)
        assert done.returncode == 0
        first = json.loads(done.stdout)
        assert [one["name"] for one in first["accounts"]] == ["good"]
        assert first["new"] == first["accounts"][0]["new"] > 0
        variables["OTHER_TOKEN"] = "wrong"
        done = run("sync", "--json", cwd=tmp_path, **variables)
        assert done.returncode == 1
        assert "other: " in done.stderr
        assert "wrong" not in done.stdout + done.stderr  # R11
        figures = json.loads(done.stdout)
        assert {one["name"]: one["ok"] for one in figures["accounts"]} == {
            "good": True,
            "other": False,
            "third": True,
        }
        done = run("verify", "--account", SIDS["third"], "--json", cwd=tmp_path, **variables)
        assert done.returncode == 0
        assert json.loads(done.stdout)["account_id"] == SIDS["third"]
        done = run("verify", cwd=tmp_path, **variables)
        assert done.returncode == 1
        done = run("sync", "--account", "nobody", cwd=tmp_path, **variables)
        assert done.returncode == 2
        assert "good" in done.stderr


def test_command_says_what_was_done_while_another_account_hangs(tmp_path: Path):
    others_done, in_time = threading.Event(), []

    def answer(_: Received) -> Answer:
        in_time.append(others_done.wait(20))
        return Answer(status=401)

    with emulated(tmp_path / "data") as (_, accounts), scripted(answer) as server:
        accounts[-1] = with_settings(accounts[-1], api_url=server.url)
        with started("sync", cwd=tmp_path, **configured(tmp_path, accounts)) as process:
            assert process.stdout
            said = [next(process.stdout).split()[1] for _ in range(2)]  # after the time
            others_done.set()
            process.communicate()
    assert sorted(said) == ["good", "other"]
    assert process.returncode == 1
    assert all(in_time)


def test_missing_credentials_stop_no_other_account(tmp_path: Path):
    """R12"""
    with emulated(tmp_path / "data") as (_, accounts):
        variables = configured(tmp_path, accounts)
        del variables["OTHER_TOKEN"]
        done = run("sync", "--account", "good", cwd=tmp_path, **variables)
        assert done.returncode == 0
        done = run("sync", "--json", cwd=tmp_path, **variables)
        assert done.returncode == 1
        assert "other: OTHER_TOKEN, which auth_token_env names, is not set" in done.stderr
        figures = json.loads(done.stdout)["accounts"]
        assert {one["name"] for one in figures if one["ok"]} == {"good", "third"}
        for command in (["accounts", "--check"], ["verify"]):
            done = run(*command, cwd=tmp_path, **variables)
            assert done.returncode == 1
            assert "auth_token_env" in done.stdout.replace("\n", "") + done.stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_sync_of_several_accounts(tmp_path: Path, stop: signal.Signals):
    hangs = threading.Semaphore(0)
    ended = threading.Event()

    def answer(_: Received) -> Answer:
        hangs.release()
        ended.wait(120)
        return Answer(status=401)

    with emulated(tmp_path) as (_, accounts), scripted(answer) as server:
        hanging = [with_settings(one, api_url=server.url) for one in accounts]
        command = started("sync", cwd=tmp_path, **configured(tmp_path, hanging))
        for _ in accounts:
            assert hangs.acquire(timeout=60)
        command.send_signal(stop)
        _, errors = command.communicate(timeout=30)  # 5 seconds on an idle machine
        ended.set()
    assert command.returncode == 128 + stop
    assert f"stopped by {stop.name}" in errors


def test_killed_sync_blocks_no_later_one(tmp_path: Path):
    """R5: the system frees the lock of a process that dies."""
    hangs, ended = threading.Event(), threading.Event()

    def answer(_: Received) -> Answer:
        hangs.set()
        ended.wait(120)
        return Answer(status=401)

    with emulated(tmp_path / "data") as (_, accounts), scripted(answer) as server:
        hanging = with_settings(accounts[0], api_url=server.url)
        command = started("sync", cwd=tmp_path, **configured(tmp_path, [hanging]))
        assert hangs.wait(60)
        variables = configured(tmp_path, accounts[:1])
        second = run("sync", cwd=tmp_path, **variables)
        assert (second.returncode, second.stdout) == (0, "")
        assert "is being synced by another process: see --wait" in second.stderr
        command.kill()
        command.communicate(timeout=30)
        ended.set()
        third = run("sync", "--json", cwd=tmp_path, **variables)
        assert json.loads(third.stdout)["new"] > 0
