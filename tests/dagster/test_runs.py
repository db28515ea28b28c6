"""Real runs of the Dagster jobs against the emulator: what they do and record."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.keys import asset_key
from assets.retention import delete_runs
from assets.tables import TABLES
from pipeline.access.query import ask
from pipeline.emulator import Emulator
from pipeline.lake.layout import Lake
from pipeline.model.schema import DELIVERY_HOURLY, OPERATION_ERRORS, OPERATIONS
from tests.dagster.runs import (
    DAYS,
    NOW,
    START,
    WORLD,
    Done,
    account_of,
    metadata,
    publish,
    sync,
    sync_days,
)
from tests.support.archives import rows, unlike_truth
from tests.support.factories import at

YESTERDAY = date(2026, 11, 13)


def test_runs_bring_the_archive_from_the_api_to_sql(done: Done):
    assert all(result.success for result in done.results)
    assert unlike_truth(done.emulator, done.data, START, [NOW]) == []
    counted = ask(Lake(done.data), "SELECT sum(operations)::BIGINT AS n FROM delivery_daily")
    assert counted.to_pylist() == [{"n": len(WORLD.existing(NOW))}]


def test_every_day_is_materialized_with_its_own_figures(done: Done):
    last = WORLD.existing(NOW).stop
    expected = {}
    for day in DAYS:
        numbers = WORLD.numbers(at(f"{day}"), at(f"{day}") + timedelta(days=1))
        expected[f"{day}"] = max(min(numbers.stop, last) - numbers.start, 0)
    operations = metadata(done.instance, "operations")
    assert {d: v["dagster/partition_row_count"] for d, v in operations.items()} == expected
    assert {d: v["new"] for d, v in operations.items()} == expected
    assert {v["changed"] for v in operations.values()} == {0}
    scans = metadata(done.instance, "landed_scans")
    assert {d: v["operations"] for d, v in scans.items()} == expected
    assert {(v["requests"], v["retries"]) for v in scans.values()} == {(1, 0)}
    for table in TABLES:
        assert set(metadata(done.instance, table.name)) == set(expected)


def test_run_by_hand_touches_its_day_alone(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """The whole day is scanned at once, and the errors of its operations alone are looked up."""
    emulator, defs = emulated
    assert sync(instance, defs, date(2026, 11, 12)).success
    listed = [one for one in emulator.requests if one.path == "/v1/Emails/Operations"]
    assert [one.query.get("startDate") for one in listed] == [None, "2026-11-11T23:59:59Z"]
    day = WORLD.numbers(at("2026-11-12"), at("2026-11-13"))
    assert rows(tmp_path, OPERATIONS).num_rows == len(day)
    looked_up = {one.path.split("/")[-2] for one in emulator.requests if "Errors" in one.path}
    assert looked_up == set(rows(tmp_path, OPERATION_ERRORS)["operation_id"].to_pylist())
    assert {one.day for one in Lake(tmp_path).partitions("coverage")} == {date(2026, 11, 12)}


def test_scheduled_run_scans_what_is_due_by_the_apis_clock(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R10: the run plans again, whatever the tick took for due."""
    emulator, defs = emulated

    def listings() -> list[str | None]:
        listed = [one for one in emulator.requests if one.path == "/v1/Emails/Operations"]
        return [one.query.get("startDate") for one in listed]

    assert sync(instance, defs, is_due=True).success
    assert listings() == [None, "2026-11-13T23:59:59Z"]
    emulator.clock.step(timedelta(minutes=5))
    assert sync(instance, defs, is_due=True).success
    assert listings()[2:] == [None]  # the clock alone
    emulator.clock.step(timedelta(minutes=5))
    assert sync(instance, defs, is_due=True).success
    assert listings()[3:] == [None, "2026-11-14T14:59:59Z"]


def test_scheduled_run_materializes_what_changed(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    emulator, defs = emulated
    assert sync(instance, defs, YESTERDAY).success
    emulator.clock.step(timedelta(minutes=1))
    nothing_due = sync(instance, defs, YESTERDAY, is_due=True)
    assert nothing_due.success
    assert nothing_due.get_asset_materialization_events() == []
    emulator.clock.step(timedelta(hours=3))
    changed = sync(instance, defs, YESTERDAY, is_due=True).get_asset_materialization_events()
    names = {one.asset_key.path[-1] for one in changed if one.asset_key}
    assert {"landed_scans", "coverage", "slot_coverage", "operations"} < names
    assert "rejects" not in names


def test_second_run_counts_changed_and_unchanged(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    emulator, defs = emulated
    days = (YESTERDAY, DAYS[-1])
    sync_days(instance, defs, days)
    emulator.clock.step(timedelta(hours=3))
    sync_days(instance, defs, days)
    found = metadata(instance, "operations")
    today, before = found[f"{DAYS[-1]}"], found[f"{YESTERDAY}"]
    assert today["new"] > 0
    assert before["new"] == 0
    assert before["changed"] + before["unchanged"] == before["dagster/partition_row_count"]


def test_delivery_tables_are_derived_again_by_themselves(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    emulator, defs = emulated
    assert sync(instance, defs, YESTERDAY).success
    lake = Lake(tmp_path)
    (partition,) = lake.partitions("history")
    part = lake.part(DELIVERY_HOURLY, partition)
    before = part.read_bytes()
    part.unlink()
    requests = len(emulator.requests)
    result = sync(instance, defs, YESTERDAY, assets=["delivery_hourly"])
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.asset_key == asset_key("delivery_hourly")
    assert part.read_bytes() == before
    assert len(emulator.requests) == requests


def test_warehouse_is_requested_once_after_partitions_changed(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    wanted = asset_key("warehouse")

    def evaluate(cursor: object = None) -> dg.EvaluateAutomationConditionsResult:
        return dg.evaluate_automation_conditions(
            defs, instance, asset_selection=dg.AssetSelection.assets(wanted), cursor=cursor
        )

    before = evaluate()
    assert before.total_requested == 0
    sync_days(instance, defs, DAYS[-2:])
    after = evaluate(before.cursor)
    assert after.total_requested == 1
    again = evaluate(after.cursor)
    assert again.total_requested == 0
    assert publish(instance, defs).success
    published = evaluate(again.cursor)
    assert published.total_requested == 0
    sync(instance, defs)
    assert evaluate(published.cursor).total_requested == 1


@pytest.mark.slow
def test_report_is_written_and_linked(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    assert all(result.success for result in sync_days(instance, defs))
    assert publish(instance, defs).success
    assert not (tmp_path / "report.html").exists()  # a run every ten minutes is not to draw
    draw = defs.resolve_job_def("report_job")
    assert draw.execute_in_process(instance=instance, raise_on_error=False).success
    (shown,) = metadata(instance, "report").values()
    assert shown["path"] == str(tmp_path / "report.html")
    assert shown["bytes"] == (tmp_path / "report.html").stat().st_size
    assert shown["page"] == (tmp_path / "report.html").as_uri()
    # Numbers, which Dagster plots, and no pictures: Dagster keeps every event.
    assert 0 < shown["open_rate"] < shown["delivery_rate"] < 1
    assert shown["summary"].startswith("In the 4 days and 15 hours from ")
    assert f"{shown['operations']:,} operations with {shown['emails']:,} emails" in shown["summary"]
    assert len(str(shown)) < 2000


def test_day_past_its_deadline_adds_findings_and_warns(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R1: Dagster shows a success, and nothing is erased."""
    emulator, defs = emulated
    day = date(2026, 11, 11)
    sync(instance, defs, day)
    known = rows(tmp_path, OPERATIONS)
    emulator.clock.set(at("2026-11-20 06:00"))
    result = sync(instance, defs, day)
    assert result.success
    assert rows(tmp_path, OPERATIONS).num_rows == known.num_rows
    assert metadata(instance, "landed_scans")[f"{day}"]["operations"] < known.num_rows
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("past the API's retention of 7 days" in message for message in messages)


def test_old_runs_are_deleted_and_partitions_stay_materialized(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    for _ in range(2):
        assert sync(instance, defs, YESTERDAY).success
    key = f"{account_of(defs)}|{YESTERDAY}"
    operations = asset_key("operations")
    rows_before = metadata(instance, "operations")[f"{YESTERDAY}"]["dagster/partition_row_count"]
    keys = defs.resolve_asset_graph().get_all_asset_keys()
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    assert delete_runs(instance, long_ago, keys) == 0
    assert delete_runs(instance, datetime(9999, 1, 1, tzinfo=UTC), keys) == 2
    assert instance.get_runs() == []
    assert instance.get_materialized_partitions(operations) == {key}
    kept = metadata(instance, "operations")[f"{YESTERDAY}"]
    assert kept["dagster/partition_row_count"] == rows_before
    assert "materialized_at" in kept
