"""Real runs of the Dagster job against the emulator: what they do, record, and never reveal."""

import base64
import re
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from assets.keys import asset_key
from assets.resources import ArchiveResource, TwilioResource
from assets.schedules import SCOPE, SCOPE_DUE, range_tags
from pipeline.access.query import ask
from pipeline.emulator import DEMO_AUTH_TOKEN, Emulator
from pipeline.lake.coverage import read_slots
from pipeline.lake.layout import Lake
from pipeline.model.schema import (
    COVERAGE,
    DELIVERY_HOURLY,
    OPERATION_ERRORS,
    OPERATIONS,
    SHOWN_MARTS,
)
from pipeline.model.windows import retained_days
from tests.dagster.runs import DAYS, NOW, START, WORLD, Done, definitions, metadata, run_job
from tests.support.archives import account, rows, unlike_truth
from tests.support.factories import at


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
