"""Runs that fail: which error they show, what is retried, and what is never shown."""

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from assets.resources import ArchiveResource, TwilioResource
from assets.tables import lake_tables
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from tests.dagster.runs import (
    DAYS,
    NOW,
    START,
    WORLD,
    definitions,
    failed_checks,
    run_checks,
    run_job,
)
from tests.support.archives import account, unlike_truth
from tests.support.factories import ACCOUNT, at, body
from tests.support.scripted_api import Answer, Received, scripted


def test_failing_window_fails_its_check_and_the_other_days_arrive(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R4: the day that failed has no scan and no coverage."""

    def answer(request: Received) -> Answer:
        fails = request.query.get("startDate", "").startswith("2026-11-16T23:59:59")
        return Answer(b"", 400) if fails else Answer(body([]))

    with scripted(answer) as server:
        result = run_job(
            instance, definitions(tmp_path, server.url, ACCOUNT), "2026-11-15", "2026-11-20"
        )
    failed = failed_checks(result)
    assert set(failed) == {"every_window_scanned", "deadlines_held"}
    assert "2026-11-17" in str(failed["every_window_scanned"].metadata["failed_windows"].value)
    days = {str(partition.day) for partition in Lake(tmp_path).partitions("coverage")}
    assert days == {"2026-11-15", "2026-11-16", "2026-11-18", "2026-11-19", "2026-11-20"}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [one for one in result.all_events if one.event_type_value == "STEP_FAILURE"]
    return str(event.step_failure_data.error) + str(event.step_failure_data.user_failure_data)


def retried(result: dg.ExecuteInProcessResult) -> bool:
    return any(one.event_type_value == "STEP_UP_FOR_RETRY" for one in result.all_events)


def test_refused_credentials_fail_at_once_without_retry(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R11: and the event that says so shows none of them."""
    with scripted([Answer(b"", 401)]) as server:
        result = run_job(instance, definitions(tmp_path, server.url, ACCOUNT, "very-secret-token"))
        assert len(server.requests) == 1
    assert not result.success
    text = failure(result)
    assert "check TWILIO_ACCOUNT_SID" in text
    assert "very-secret-token" not in text
    assert not retried(result)


def test_wrong_clock_fails_the_run_at_once_unless_trusted(
    tmp_path: Path, instance: dg.DagsterInstance
):
    """R10: the emulator's clock shows a time that no machine's does."""
    now = at("2056-11-20 15:00")
    with account(World(5, 20.0, now - timedelta(days=1)), now, tmp_path) as (emulator, settings):
        twilio = TwilioResource(
            account_sid=settings.account_sid, auth_token=DEMO_AUTH_TOKEN, api_url=emulator.url
        )
        for trust in (False, True):
            archive = ArchiveResource(data=str(tmp_path), trust_clock=trust)
            defs = build_definitions({"archive": archive, "twilio": twilio})
            result = run_job(instance, defs, first=DAYS[-1])
            assert result.success == trust
            if not trust:
                assert "the API's clock shows 2056-11-20T15:00:00Z" in failure(result)
                assert not retried(result)
                assert not list(Lake(tmp_path).partitions("landing"))
        wary = build_definitions({"archive": ArchiveResource(data=str(tmp_path)), "twilio": twilio})
        check = run_checks(instance, wary, ("coverage", "no_future_scans"))
        (found,) = check.get_asset_check_evaluations()
    assert not found.passed
    assert list(found.metadata["last_scans"].value) == [settings.account_sid]


def test_missing_settings_fail_the_run_with_the_message(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    defs = build_definitions({"archive": ArchiveResource(data=str(tmp_path))})
    result = run_job(instance, defs)
    assert not result.success
    assert "TWILIO_ACCOUNT_SID is not set" in failure(result)


def test_settings_come_from_the_environment(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        for variable, value in settings.environment().items():
            monkeypatch.setenv(variable, value)
        assert run_job(instance, build_definitions()).success
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []


def test_run_removes_a_killed_runs_unfinished_files(tmp_path: Path, instance: dg.DagsterInstance):
    """R5"""
    partition = Partition(ACCOUNT, START.date() - timedelta(days=30))
    left = Lake(tmp_path).temporary_file("landing", partition)
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    resources = {"archive": ArchiveResource(data=str(tmp_path))}
    dg.materialize([lake_tables], resources=resources, instance=instance, partition_key=DAYS[-1])
    assert not left.exists()


def test_damaged_landed_file_fails_its_check_and_the_other_days_arrive(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R9: it is seen, and blinds neither the warehouse nor the checks of deadlines."""
    emulator, defs = emulated
    folder = tmp_path / "landing" / f"account_id={emulator.options.account_sid}"
    (folder / "created_date=2026-11-12").mkdir(parents=True)
    (folder / "created_date=2026-11-12" / "x.parquet").write_text("no Parquet")
    result = run_job(instance, defs)
    assert result.success
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    assert [name for name, one in checks.items() if not one.passed] == ["every_day_merged"]
    assert "x.parquet" in str(checks["every_day_merged"].metadata["errors"].value)
    assert {"no_gaps", "deadlines_held"} < checks.keys()
    assert Lake(tmp_path).warehouse.exists()
    days = {str(partition.day) for partition in Lake(tmp_path).partitions("operations")}
    assert days >= {"2026-11-10", "2026-11-11", "2026-11-13", "2026-11-14"}


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
        result = run_job(
            instance,
            definitions(tmp_path / "data", server.url, ACCOUNT, token),
            "2026-11-17",
            "2026-11-20",
        )
        (run,) = instance.get_runs()
        assert token not in json.dumps(run.run_config)
        assert token not in repr(run)
        events = [entry.to_json() for entry in instance.all_logs(result.run_id)]
    assert len(events) > 20
    assert not [event for event in events if token in event]
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) > 5
    assert not [path for path in left if token.encode() in path.read_bytes()]
