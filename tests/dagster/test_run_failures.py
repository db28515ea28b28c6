"""Runs that fail: which error they show, what is retried, and what is never shown."""

import json
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from assets.resources import ArchiveResource, TwilioResource
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from tests.dagster.runs import (
    DAYS,
    FIRST_DAY,
    NOW,
    START,
    WORLD,
    definitions,
    failed_checks,
    failure,
    publish,
    retried,
    run_checks,
    sync,
    sync_days,
)
from tests.support.archives import account, unlike_truth
from tests.support.factories import ACCOUNT, at, body
from tests.support.scripted_api import Answer, Received, scripted


def test_failing_window_fails_its_run_and_the_other_days_arrive(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R4: the day that failed has no scan and no coverage."""

    def answer(request: Received) -> Answer:
        fails = request.query.get("startDate", "").startswith("2026-11-16T23:59:59")
        return Answer(b"", 400) if fails else Answer(body([]))

    days = [date(2026, 11, n) for n in (16, 17, 18)]
    with scripted(answer) as server:
        results = sync_days(instance, definitions(tmp_path, server.url, ACCOUNT), days)
    assert [result.success for result in results] == [True, False, True]
    failed = failed_checks(results[1])
    assert set(failed) == {"every_window_scanned"}
    assert "2026-11-17" in str(failed["every_window_scanned"].metadata["failed_windows"].value)
    assert {one.day for one in Lake(tmp_path).partitions("coverage")} == {days[0], days[2]}


def test_refused_credentials_fail_at_once_without_retry(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R11: and the event that says so shows none of them."""
    with scripted([Answer(b"", 401)]) as server:
        result = sync(instance, definitions(tmp_path, server.url, ACCOUNT, "very-secret-token"))
        assert len(server.requests) == 1
    assert not result.success
    text = failure(result)
    assert "Check TWILIO_ACCOUNT_SID" in text
    assert "very-secret-token" not in text
    assert not retried(result)


def test_wrong_clock_fails_the_run_at_once_unless_trusted(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R10: the emulator's clock shows a time that no machine's does."""
    now = at("2056-11-20 15:00")
    with account(World(5, 20.0, now - timedelta(days=1)), now, tmp_path) as (emulator, settings):
        for trust in (False, True):
            defs = definitions(
                tmp_path, emulator.url, settings.account_sid, DEMO_AUTH_TOKEN, trust_clock=trust
            )
            result = sync(instance, defs)
            assert result.success == trust
            if not trust:
                assert "the API's clock shows 2056-11-20T15:00:00Z" in failure(result)
                assert not retried(result)
                assert not list(Lake(tmp_path).partitions("landing"))
        wary = definitions(tmp_path, emulator.url, settings.account_sid, trust_clock=False)
        check = run_checks(instance, wary, ("coverage", "no_future_scans"))
        (found,) = check.get_asset_check_evaluations()
    assert not found.passed
    assert list(found.metadata["last_scans"].value) == [settings.account_sid]


def test_missing_settings_fail_the_run_with_the_message(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    archive = ArchiveResource(data=str(tmp_path))
    result = sync(
        instance, build_definitions([ACCOUNT], FIRST_DAY, {"archive": archive}), account_id=ACCOUNT
    )
    assert not result.success
    assert "TWILIO_ACCOUNT_SID is not set" in failure(result)


def test_settings_come_from_the_environment(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        for variable, value in settings.environment().items():
            monkeypatch.setenv(variable, value)
        sid = settings.account_sid
        defs = build_definitions([sid], FIRST_DAY)
        for day in DAYS:
            assert sync(instance, defs, day, account_id=sid).success
        assert publish(instance, defs).success
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []


def test_publishing_removes_a_killed_runs_unfinished_files(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R5"""
    _, defs = emulated
    partition = Partition(ACCOUNT, START.date() - timedelta(days=30))
    left = Lake(tmp_path).temporary_file("landing", partition)
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert publish(instance, defs).success
    assert not left.exists()


def test_damaged_landed_file_fails_its_run_and_the_other_days_arrive(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R9: what the run scanned has landed, and the warehouse shows the other days."""
    emulator, defs = emulated
    folder = tmp_path / "landing" / f"account_id={emulator.options.account_sid}"
    (folder / "created_date=2026-11-12").mkdir(parents=True)
    (folder / "created_date=2026-11-12" / "x.parquet").write_text("no Parquet")
    bad, good = sync_days(instance, defs, [date(2026, 11, 12), date(2026, 11, 13)])
    assert (bad.success, good.success) == (False, True)
    assert "x.parquet" in failure(bad)
    assert len(list((folder / "created_date=2026-11-12").iterdir())) == 2
    assert publish(instance, defs).success
    assert {one.day for one in Lake(tmp_path).partitions("operations")} == {date(2026, 11, 13)}


def test_no_event_run_config_or_file_holds_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """R11: everything that a run leaves in a lasting instance, and in the archive."""
    token = "tok-9e-never-to-be-seen"
    monkeypatch.setenv("EMAIL_ARCHIVE_RETRY_ATTEMPTS", "1")
    home = tmp_path / "home"
    home.mkdir()

    def answer(request: Received) -> Answer:
        return (
            Answer(b"", 500)
            if "2026-11-16" in request.query.get("startDate", "")
            else Answer(body([]))
        )

    with (
        scripted(answer) as server,
        dg.DagsterInstance.local_temp(str(home)) as instance,
    ):
        twilio = TwilioResource(account_sid=ACCOUNT, auth_token=token, api_url=server.url)
        assert token not in repr(twilio)
        defs = definitions(tmp_path / "data", server.url, ACCOUNT, token)
        sync_days(instance, defs, [date(2026, 11, 17), date(2026, 11, 20)])
        for run in instance.get_runs():
            assert token not in json.dumps(run.run_config)
            assert token not in repr(run)
        events = [e.to_json() for run in instance.get_runs() for e in instance.all_logs(run.run_id)]
    assert len(events) > 20
    assert not [event for event in events if token in event]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) > 5
    assert not [path for path in left if token.encode() in path.read_bytes()]
