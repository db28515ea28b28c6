"""Real runs of the Dagster job against the emulator: what they do, record, and never reveal."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from assets.checks import rates_as_usual, reading_decided
from assets.definitions import build_definitions
from assets.keys import asset_key
from assets.resources import ArchiveResource, TwilioResource
from assets.schedules import SCOPE, SCOPE_DUE, range_tags
from assets.tables import lake_tables
from pipeline.access.query import ask
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator, World
from pipeline.lake.coverage import read_slots
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    DELIVERY_HOURLY,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    SHOWN_MARTS,
)
from pipeline.model.windows import Window, retained_days
from pipeline.outputs.warehouse import publish
from pipeline.quality.checks import CHECKS
from tests.support.archives import account, rows, unlike_truth
from tests.support.factories import ACCOUNT, at, body, derived, record, scan
from tests.support.scripted_api import Answer, Received, scripted

START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 200.0, START)
DAYS = [day.isoformat() for day in retained_days(NOW)]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


def definitions(
    data: Path, url: str, account_id: str, token: str = DEMO_AUTH_TOKEN
) -> dg.Definitions:
    return build_definitions(
        {
            "archive": ArchiveResource(data=str(data), trust_clock=True),
            "twilio": TwilioResource(account_sid=account_id, auth_token=token, api_url=url),
        }
    )


def run_job(
    instance: dg.DagsterInstance, defs: dg.Definitions, first: str = DAYS[0], last: str = DAYS[-1]
) -> dg.ExecuteInProcessResult:
    """One run of the job over a range of days."""
    return defs.resolve_job_def("sync_job").execute_in_process(
        instance=instance, tags=range_tags(first, last), raise_on_error=False
    )


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[tuple[Emulator, dg.Definitions]]:
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        yield emulator, definitions(tmp_path, emulator.url, settings.account_sid)


def metadata(instance: dg.DagsterInstance, key: str) -> dict[str | None, Mapping[str, Any]]:
    """The latest materialization's metadata of each partition of an asset."""
    records = instance.fetch_materializations(asset_key(key), limit=1000).records
    found: dict[str | None, Mapping[str, Any]] = {}
    for one in records:
        assert one.asset_materialization
        values = {name: value.value for name, value in one.asset_materialization.metadata.items()}
        found.setdefault(one.partition_key, values)
    return found


@dataclass(frozen=True)
class Done:
    """A run of all days, and what it left: to be read only."""

    emulator: Emulator
    data: Path
    defs: dg.Definitions
    instance: dg.DagsterInstance
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    data = tmp_path_factory.mktemp("done")
    with account(WORLD, NOW, data) as (emulator, settings), dg.DagsterInstance.ephemeral() as one:
        defs = definitions(data, emulator.url, settings.account_sid)
        yield Done(emulator, data, defs, one, run_job(one, defs))


def test_job_brings_the_archive_from_the_api_to_sql(done: Done):
    assert done.result.success
    assert unlike_truth(done.emulator, done.data, START, [NOW]) == []
    counted = ask(Lake(done.data), "SELECT sum(operations)::BIGINT AS n FROM delivery_daily")
    assert counted.to_pylist() == [{"n": len(WORLD.existing(NOW))}]


def summaries(caplog: pytest.LogCaptureFixture) -> int:
    """How many days' delivery tables were derived since the last question."""
    told = [one for one in caplog.records if getattr(one, "event", "") == "derive"]
    caplog.clear()
    return len(told)


def as_launched(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    """A run as the schedule and the web page launch it: one that is created first, here over all days."""
    run = instance.create_run_for_job(job, tags=range_tags(DAYS[0], DAYS[-1]))
    events = list(execute_run_iterator(InMemoryJob(job), run, instance))
    assert events[-1].event_type_value == "PIPELINE_SUCCESS"


def test_delivery_tables_are_derived_once_per_run_and_again_alone(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    emulated: tuple[Emulator, dg.Definitions],
    caplog: pytest.LogCaptureFixture,
):
    _, defs = emulated
    alone = dg.define_asset_job("alone", selection=[asset_key(mart.name) for mart in SHOWN_MARTS])
    defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[alone]))
    caplog.set_level("INFO", "pipeline.marts.derive")
    assert run_job(instance, defs).success
    lake = Lake(tmp_path)
    parts = [lake.part(DELIVERY_HOURLY, partition) for partition in lake.partitions("history")]
    assert summaries(caplog) == len(parts) == 5
    as_launched(instance, defs.resolve_job_def("sync_job"))
    assert summaries(caplog) == 0
    as_launched(instance, defs.resolve_job_def("alone"))
    assert summaries(caplog) == 5
    parts[0].unlink()
    as_launched(instance, defs.resolve_job_def("sync_job"))
    assert summaries(caplog) == 1
    assert all(part.exists() for part in parts)


def test_every_day_is_materialized_with_its_own_figures(done: Done):
    instance = done.instance
    last = WORLD.existing(NOW).stop
    expected = {}
    for day in retained_days(NOW):
        numbers = WORLD.numbers(at(f"{day}"), at(f"{day}") + timedelta(days=1))
        expected[f"{day}"] = max(min(numbers.stop, last) - numbers.start, 0)
    operations = metadata(instance, "operations")
    assert {
        day: values["dagster/partition_row_count"] for day, values in operations.items()
    } == expected
    assert {day: values["new"] for day, values in operations.items()} == expected
    assert {values["changed"] for values in operations.values()} == {0}
    schema = operations[DAYS[0]]["dagster/column_schema"]
    assert [column.name for column in schema.columns][:3] == [
        "account_id",
        "created_date",
        "operation_id",
    ]
    scans = metadata(instance, "landed_scans")
    assert {day: values["operations"] for day, values in scans.items()} == expected
    assert {(values["requests"], values["retries"]) for values in scans.values()} == {(1, 0)}
    for key in (
        "history",
        "coverage",
        "delivery_hourly",
        "operation_sizes",
        "delivery_curve",
    ):
        assert set(metadata(instance, key)) == set(DAYS)


@pytest.mark.slow
def test_report_is_written_and_its_charts_are_shown(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    assert run_job(instance, defs).success
    assert not (tmp_path / "report.html").exists()  # a run every ten minutes is not to draw
    draw = defs.resolve_job_def("report_job")
    assert draw.execute_in_process(instance=instance, raise_on_error=False).success
    (shown,) = metadata(instance, "report").values()
    assert shown["path"] == str(tmp_path / "report.html")
    assert shown["bytes"] == (tmp_path / "report.html").stat().st_size
    keys = {key for key, value in shown.items() if "data:image" in str(value)}
    assert keys == {
        *("volume", "delivery_rate", "open_rate", "undelivered_rate", "failure_rate"),
        *("sizes", "coverage"),
        # On the fifth day no hour is past its deadline: there is nothing of curves and weekdays yet.
    }
    for key in keys:
        sentence, *_, picture = shown[key].split("\n\n")
        assert sentence.endswith(".")
        data = re.search(r"\(data:image/png;base64,(.*)\)$", picture)
        assert data
        assert base64.b64decode(data[1]).startswith(b"\x89PNG")
    assert sum(len(shown[key]) for key in keys) < 200_000


def test_second_run_counts_changed_and_unchanged(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    emulator, defs = emulated
    run_job(instance, defs)
    emulator.clock.step(timedelta(hours=3))
    run_job(instance, defs)
    today = metadata(instance, "operations")[DAYS[-1]]
    before = metadata(instance, "operations")[DAYS[-2]]
    assert today["new"] > 0
    assert before["new"] == 0
    assert before["changed"] + before["unchanged"] == before["dagster/partition_row_count"]


def test_one_day_by_hand_scans_all_of_it_now(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    emulator, defs = emulated
    job = defs.resolve_job_def("sync_job")
    assert job.execute_in_process(instance=instance, partition_key="2026-11-12").success
    windows = [request.query.get("startDate") for request in emulator.requests]
    assert windows == [None, "2026-11-11T23:59:59Z"]
    day = WORLD.numbers(at("2026-11-12"), at("2026-11-13"))
    assert rows(tmp_path, OPERATIONS).num_rows == len(day)


def test_run_of_the_schedule_scans_what_is_due_and_nothing_else(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R10: the run plans by the API's clock, whatever days the tick guessed."""
    emulator, defs = emulated
    job = defs.resolve_job_def("sync_job")
    tags = range_tags(DAYS[0], DAYS[-1]) | {SCOPE: SCOPE_DUE}

    def listings() -> list[str | None]:
        asked = [one for one in emulator.requests if one.path == "/v1/Emails/Operations"]
        return [one.query.get("startDate") for one in asked]

    assert job.execute_in_process(instance=instance, tags=tags).success
    assert len(listings()) == 9
    emulator.clock.step(timedelta(minutes=5))
    assert job.execute_in_process(instance=instance, tags=tags).success
    assert listings()[9:] == [None]  # the clock alone
    emulator.clock.step(timedelta(minutes=5))
    assert job.execute_in_process(instance=instance, tags=tags).success
    assert listings()[10:] == [None, "2026-11-14T14:59:59Z"]


def test_runs_look_up_failures_and_mark_their_days(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions], tmp_path: Path
):
    """A run of one day asks about operations of every day; those days are marked too."""
    emulator, defs = emulated
    assert run_job(instance, defs).success
    assert run_job(instance, defs, DAYS[-1], DAYS[-1]).success
    asked = [one for one in emulator.requests if one.path.endswith("/Errors")]
    assert asked
    found = rows(tmp_path, OPERATION_ERRORS)
    assert set(found["operation_id"].to_pylist()) == {one.path.split("/")[-2] for one in asked}
    records = instance.fetch_materializations(asset_key("operations"), limit=100).records
    last_run = [r.partition_key for r in records if r.storage_id > records[-1].storage_id + 8]
    assert len(set(last_run)) > 1


@pytest.mark.parametrize("wrong", [*(pytest.param(n, marks=pytest.mark.slow) for n in (-3, 0)), 3])
def test_scheduled_runs_scan_the_same_whatever_this_machines_clock_shows(
    wrong: int, tmp_path: Path, instance: dg.DagsterInstance
):
    """R10: ticks may guess wrongly; what is scanned and stored is by the API's clock."""
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        defs = definitions(tmp_path, emulator.url, settings.account_sid)
        due = defs.resolve_schedule_def("sync_schedule")
        for _ in range(2):
            moment = emulator.clock.now() + timedelta(days=wrong)
            resources = {
                "archive": ArchiveResource(data=str(tmp_path)),
                "twilio": TwilioResource(
                    account_sid=settings.account_sid, auth_token=DEMO_AUTH_TOKEN
                ),
            }
            tick = dg.build_schedule_context(scheduled_execution_time=moment, resources=resources)
            (request,) = due.evaluate_tick(tick).run_requests or []
            job = defs.resolve_job_def("sync_job")
            assert job.execute_in_process(instance=instance, tags=request.tags).success
            emulator.clock.step(timedelta(hours=4))
        now = emulator.clock.now()
        slots = read_slots(Lake(tmp_path), settings.account_sid, retained_days(now))
        first = NOW - timedelta(days=7)
        covered = [one for one in slots if one.covered_at and one.slot >= first]
        # All that the API knew, but for the slot whose deadline had just come.
        assert len(covered) == 7 * 24 + 4
        # All that changed since was seen in the second run too.
        assert max(one.covered_at for one in covered if one.covered_at) == NOW + timedelta(hours=4)
        scanned = rows(tmp_path, COVERAGE)["observed_at"].to_pylist()
        assert set(scanned) == {NOW, NOW + timedelta(hours=4)}


def test_lost_slots_fail_the_check_with_their_names(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R4: off for 9 days; what was lost is said, and is not claimed by the scan that came too late."""
    emulator, defs = emulated
    assert run_job(instance, defs).success
    emulator.clock.step(timedelta(days=9))
    days = [day.isoformat() for day in retained_days(emulator.clock.now())]
    result = run_job(instance, defs, days[0], days[-1])
    failed = failed_checks(result)
    assert set(failed) == {"no_gaps"}
    assert failed["no_gaps"].severity == dg.AssetCheckSeverity.ERROR
    # From the hour under way, 14 November 15:00, to the last whose deadline had passed.
    assert failed["no_gaps"].metadata["slots"].value == 49
    assert "2026-11-14T15:00Z" in str(failed["no_gaps"].metadata["examples"].value)


def test_day_past_its_deadline_adds_findings_and_warns(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R1: Dagster shows a success, and nothing is erased."""
    emulator, defs = emulated
    job = defs.resolve_job_def("sync_job")
    job.execute_in_process(instance=instance, partition_key="2026-11-11")
    known = rows(tmp_path, OPERATIONS)
    emulator.clock.set(at("2026-11-20 06:00"))
    result = job.execute_in_process(instance=instance, partition_key="2026-11-11")
    assert result.success
    assert rows(tmp_path, OPERATIONS).num_rows == known.num_rows
    assert metadata(instance, "landed_scans")["2026-11-11"]["operations"] < known.num_rows
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("past the API's retention of 7 days" in message for message in messages)


def test_all_checks_pass_on_sound_data(done: Done):
    evaluations = done.result.get_asset_check_evaluations()
    assert {one.check_name: one.passed for one in evaluations} == {
        "every_window_scanned": True,
        "every_day_merged": True,
        "operation_ids": True,
        "parts_within_total": True,
        "plausible_counts": True,
        "known_to_reference": True,
        "embedded_time": True,
        "rejects": True,
        "rates_as_usual": True,
        "reading_decided": True,
        "no_gaps": True,
        "deadlines_held": True,
        "no_future_scans": True,
        "newest_operation_fresh": True,
    }


def test_check_can_be_run_by_itself(done: Done):
    """Several are one step, of which any part can be wanted; over all days that the archive has."""
    for check in (
        ("operations", "rejects"),
        ("operations", "operation_ids"),
        ("operations", "newest_operation_fresh"),
        ("coverage", "no_gaps"),
        ("coverage", "deadlines_held"),
    ):
        evaluations = run_checks(done.instance, done.defs, check).get_asset_check_evaluations()
        assert [(one.asset_key.path[-1], one.check_name) for one in evaluations] == [check]
        assert evaluations[0].passed


def test_damaged_table_prevents_no_check_of_another(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R9."""
    _, defs = emulated
    assert run_job(instance, defs).success
    lake = Lake(tmp_path)
    (partition, *_) = lake.partitions(OPERATIONS.name)
    damaged = lake.part(REJECTS, partition)
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"no Parquet")
    names = {check.name for check in CHECKS} | {"newest_operation_fresh"}
    result = run_checks(instance, defs, *(("operations", name) for name in names))
    assert not result.success
    evaluated = {one.check_name for one in result.get_asset_check_evaluations()}
    assert evaluated == names - {"rejects"}


def run_checks(
    instance: dg.DagsterInstance, defs: dg.Definitions, *checks: tuple[str, str]
) -> dg.ExecuteInProcessResult:
    """Some checks by themselves, each told by its asset and its name."""
    keys = {dg.AssetCheckKey(asset_key(asset), name) for asset, name in checks}
    everything = defs.resolve_implicit_global_asset_job_def()
    alone = everything.get_subset(asset_selection=set(), asset_check_selection=keys)
    return alone.execute_in_process(instance=instance, raise_on_error=False)


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks that did not pass; the ids of our own records tell another time than their creation."""
    return {
        one.check_name: one
        for one in result.get_asset_check_evaluations()
        if not one.passed and one.check_name != "embedded_time"
    }


def test_odd_data_warn_and_do_not_fail_the_run(tmp_path: Path, instance: dg.DagsterInstance):
    """R9: rejects and the unknown are seen, with the rows that are meant."""
    odd = [record(1, status="PAUSED", region="us1"), record(2, stats={"sent": -1}), record(3)]

    def answer(request: Received) -> Answer:
        is_day = request.query.get("startDate", "").startswith("2026-11-19T23:59:59")
        return Answer(body(odd if is_day else []))

    with scripted(answer) as server:
        defs = definitions(tmp_path, server.url, ACCOUNT)
        result = run_job(instance, defs, "2026-11-13", "2026-11-20")
    assert result.success
    failed = failed_checks(result)
    assert set(failed) == {"known_to_reference", "rejects"}
    assert {one.severity for one in failed.values()} == {dg.AssetCheckSeverity.WARN}
    assert "PAUSED" in str(failed["known_to_reference"].metadata["examples"].value)


def test_impossible_counts_are_an_error_of_their_check(
    tmp_path: Path, instance: dg.DagsterInstance
):
    impossible = record(1, stats={"total": 1, "queued": 5})
    with scripted([Answer(body([impossible]))]) as server:
        defs = definitions(tmp_path, server.url, ACCOUNT)
        result = run_job(instance, defs, "2026-11-20", "2026-11-20")
    failed = failed_checks(result)
    # The other days were never listed, and their first hours are about to be forgotten.
    assert set(failed) == {"parts_within_total", "deadlines_held"}
    assert failed["parts_within_total"].severity == dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize("days", [21, pytest.param(33, marks=pytest.mark.slow)])
def test_unusual_rates_of_recent_days_are_a_warning(tmp_path: Path, days: int):
    """One operation a day, the 20th of them on a bad day: yesterday, or two weeks ago."""
    usual = {"total": 200, "sent": 200, "delivered": 195, "undelivered": 5, "opened": 50}
    outage = usual | {"delivered": 120, "undelivered": 80}
    lake = Lake(tmp_path).open()
    for n in range(days):
        noon = at("2026-10-31 12:00") + timedelta(days=n)
        one = record(n, created_at=noon, stats=outage if n == 19 else usual)
        moment = noon + timedelta(days=2)
        derived(lake, scan([one], observed_at=moment, window=Window.of_day(noon.date())))
    publish(lake)
    result = rates_as_usual(archive=ArchiveResource(data=str(tmp_path)))
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert "2026-11-19 undelivered_rate 40.00%" in str(result.metadata["anomalies"].value)


def test_assumed_reading_warns_with_its_account(tmp_path: Path):
    opened = {"total": 1, "sent": 0, "delivered": 0, "opened": 1}
    publish(derived(Lake(tmp_path).open(), scan([record(1, stats=opened)])))
    archive = ArchiveResource(data=str(tmp_path))
    result = reading_decided(archive=archive)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 operation speaks for exclusive" in str(result.metadata["accounts"].value)
    more = [record(n, stats=opened) for n in range(5)]
    publish(derived(Lake(tmp_path), scan(more)))
    assert reading_decided(archive=archive).passed


# What goes wrong.


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
    now = at("2091-11-20 15:00")
    with account(World(5, 20.0, now - timedelta(days=1)), now, tmp_path) as (emulator, settings):
        twilio = TwilioResource(
            account_sid=settings.account_sid, auth_token=DEMO_AUTH_TOKEN, api_url=emulator.url
        )
        for trust in (False, True):
            archive = ArchiveResource(data=str(tmp_path), trust_clock=trust)
            defs = build_definitions({"archive": archive, "twilio": twilio})
            result = run_job(instance, defs)
            assert result.success == trust
            if not trust:
                assert "the API's clock shows 2091-11-20T15:00:00Z" in failure(result)
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
