"""What Dagster loads: the graph, its partitions, schedule and metadata, without credentials."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions, defs
from assets.partitions import daily
from assets.resources import ArchiveResource, TwilioResource
from assets.tables import TABLES
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.model.records import Partition
from pipeline.model.schema import SHOWN_MARTS
from pipeline.model.windows import Window, retained_days
from pipeline.outputs.warehouse import publish
from pipeline.quality.checks import CHECKS
from tests.support.factories import ACCOUNT, NOON, at, landed, scan

GRAPH = {
    "landed_scans": set(),
    "operations": {"landed_scans"},
    "history": {"landed_scans"},
    "coverage": {"landed_scans"},
    "delivery_hourly": {"operations"},
    "operation_sizes": {"operations"},
    "delivery_curve": {"history"},
    "warehouse": {
        "delivery_hourly",
        "operation_sizes",
        "delivery_curve",
        "history",
        "coverage",
    },
    "report": {"warehouse"},
}


def name(key: dg.AssetKey) -> str:
    """An asset's key without the prefix, which every key has."""
    prefix, last = key.path
    assert prefix == "email_archive"
    return last


def spec(key: str) -> dg.AssetSpec:
    (found,) = [one for one in defs.resolve_all_asset_specs() if name(one.key) == key]
    return found


def test_definitions_load_without_credentials():
    dg.Definitions.validate_loadable(build_definitions())


def test_graph_is_the_way_of_the_data():
    graph = {
        name(one.key): {name(dep.asset_key) for dep in one.deps}
        for one in defs.resolve_all_asset_specs()
    }
    assert graph == GRAPH


def test_assets_have_groups_kinds_and_descriptions():
    groups = {name(one.key): one.group_name for one in defs.resolve_all_asset_specs()}
    assert groups == {
        "landed_scans": "extraction",
        "operations": "lake",
        "history": "lake",
        "coverage": "lake",
        "delivery_hourly": "marts",
        "operation_sizes": "marts",
        "delivery_curve": "marts",
        "warehouse": "warehouse",
        "report": "warehouse",
    }
    for one in defs.resolve_all_asset_specs():
        assert one.kinds
        assert one.description


@pytest.mark.parametrize("table", [*TABLES, *SHOWN_MARTS], ids=lambda table: table.name)
def test_asset_has_the_name_and_columns_of_its_table(table):
    found = spec(table.name)
    schema = found.metadata["dagster/column_schema"]
    assert [(column.name, column.type, column.description) for column in schema.columns] == [
        (column.name, column.sql_type, column.comment) for column in table.published
    ]
    assert found.description == table.comment


def test_days_are_utc_and_today_is_a_partition():
    assert daily.timezone == "UTC"
    now = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    assert daily.get_partition_keys(now)[-1] == "2026-11-20"
    assert daily.get_partition_keys(datetime(2026, 11, 21, tzinfo=UTC))[-1] == "2026-11-21"


def test_range_of_days_is_one_run():
    for definition in defs.assets or []:
        assert isinstance(definition, dg.AssetsDefinition)
        if definition.partitions_def is not None:
            assert definition.backfill_policy == dg.BackfillPolicy.single_run()


def test_report_waits_for_a_warehouse(tmp_path: Path):
    resources = {"archive": ArchiveResource(data=str(tmp_path))}
    schedule = build_definitions(resources).resolve_schedule_def("report_schedule")
    context = dg.build_schedule_context(resources=resources)
    assert not schedule.evaluate_tick(context).run_requests
    publish(Lake(tmp_path).open())
    assert len(schedule.evaluate_tick(context).run_requests or []) == 1


def tick(data: Path, moment: str) -> dg.RunRequest | None:
    """What the schedule wants at a moment; None if nothing."""
    resources = {
        "archive": ArchiveResource(data=str(data)),
        "twilio": TwilioResource(account_sid=ACCOUNT, auth_token="t"),
    }
    context = dg.build_schedule_context(scheduled_execution_time=at(moment), resources=resources)
    wanted = (
        build_definitions(resources).resolve_schedule_def("sync_schedule").evaluate_tick(context)
    )
    return next(iter(wanted.run_requests or []), None)


def days(request: dg.RunRequest | None) -> tuple[str, str]:
    assert request
    assert request.tags["email_archive/scope"] == "due"
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def test_schedule_ticks_every_10_minutes():
    schedule = defs.resolve_schedule_def("sync_schedule")
    assert schedule.cron_schedule == "*/10 * * * *"
    assert schedule.execution_timezone == "UTC"


def test_schedule_requests_days_with_something_due(tmp_path: Path):
    assert days(tick(tmp_path, "2026-11-20 14:10")) == ("2026-11-13", "2026-11-20")


def test_schedule_requests_young_days_once_the_others_are_covered(tmp_path: Path):
    lake = Lake(tmp_path).open()
    for day in retained_days(NOON):
        landed(lake, scan([], observed_at=NOON, window=Window.of_day(day)))
        merge(lake, Partition(ACCOUNT, day))
    assert tick(tmp_path, "2026-11-20 12:05") is None
    assert days(tick(tmp_path, "2026-11-20 12:10")) == ("2026-11-20", "2026-11-20")
    # An hour on, 13 November 15:00 has 2 hours left: its last scan is due.
    assert days(tick(tmp_path, "2026-11-20 13:00")) == ("2026-11-13", "2026-11-20")


def test_schedule_requests_no_day_before_the_first_partition(tmp_path: Path):
    assert days(tick(tmp_path, "2026-01-03 13:00"))[0] == "2026-01-01"


@pytest.mark.parametrize("clock", ["2026-11-17 12:00", "2026-11-20 12:05", "2026-11-23 12:00"])
def test_clock_wrong_by_days_still_requests_a_run(clock: str, tmp_path: Path):
    """R10: a wrong clock costs runs that find nothing, and never one that was needed."""
    lake = Lake(tmp_path).open()
    for day in retained_days(NOON):
        landed(lake, scan([], observed_at=NOON, window=Window.of_day(day)))
        merge(lake, Partition(ACCOUNT, day))
    request = tick(tmp_path, clock)
    if clock == "2026-11-20 12:05":
        assert request is None
    else:
        assert days(request)[1] <= clock[:10]  # a day that Dagster has as a partition


def test_each_tick_is_its_own_run(tmp_path: Path):
    requests = [tick(tmp_path, f"2026-11-20 {hour}:00") for hour in (13, 14)]
    assert len({request.run_key for request in requests if request}) == 2


def test_freshness_is_judged_beside_the_checks():
    """A policy judges the asset and not its partitions: both are needed."""
    assert spec("landed_scans").freshness_policy is not None


def test_every_data_check_is_an_asset_check():
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    assert names == {check.name for check in CHECKS} | {
        "every_window_scanned",
        "every_day_merged",
        "no_gaps",
        "deadlines_held",
        "no_future_scans",
        "newest_operation_fresh",
        "rates_as_usual",
        "reading_decided",
    }
