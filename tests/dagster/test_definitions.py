"""What Dagster loads: the graph, its partitions, schedules and metadata, without credentials."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import schedules
from assets.definitions import build_definitions, defs
from assets.keys import asset_key
from assets.partitions import key_of
from assets.resources import ArchiveResource, TwilioResource
from assets.tables import DUE_TAGS, TABLES
from pipeline.lake.accounts import read_accounts
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.model.records import Partition
from pipeline.model.schema import PUBLISHED
from pipeline.model.windows import Window, retained_days
from pipeline.outputs.warehouse import publish
from tests.support.factories import ACCOUNT, NOON, OTHER_ACCOUNT, at, landed, scan

FIRST_DAY = date(2026, 11, 1)


def name(key: dg.AssetKey) -> str:
    """An asset's key without the prefix, which every key has."""
    prefix, last = key.path
    assert prefix == "email_archive"
    return last


SPECS = {name(one.key): one for one in defs.resolve_all_asset_specs()}


def sources(key: str) -> set[str]:
    return {name(dep.asset_key) for dep in SPECS[key].deps}


def test_definitions_load_without_credentials():
    dg.Definitions.validate_loadable(build_definitions([], FIRST_DAY))


def test_every_published_table_is_an_asset():
    tables = {table.name for table in PUBLISHED}
    assert set(SPECS) == tables | {"landed_scans", "warehouse", "report"}
    assert sources("warehouse") == tables


@pytest.mark.parametrize(
    ("asset", "made_of"),
    [
        ("operations", {"landed_scans"}),
        ("rejects", {"landed_scans"}),
        ("delivery_curve", {"history"}),
        ("delivery_hourly", {"operations"}),
        ("delivery_daily", {"delivery_hourly", "slot_coverage", "counting"}),
        ("coverage_slots", {"slot_coverage", "coverage"}),
        ("report", {"warehouse"}),
    ],
)
def test_graph_follows_the_data(asset: str, made_of: set[str]):
    assert sources(asset) == made_of


def test_assets_say_what_they_are():
    for one in SPECS.values():
        assert one.kinds
        assert one.description
        assert one.owners
        assert one.tags["email_archive/layer"] == one.group_name


@pytest.mark.parametrize("table", PUBLISHED, ids=lambda table: table.name)
def test_asset_has_the_columns_of_its_table(table):
    schema = SPECS[table.name].metadata["dagster/column_schema"]
    assert schema.columns[0].description
    if table in TABLES:
        assert [column.name for column in schema.columns] == [c.name for c in table.published]


def test_columns_name_those_they_are_made_of():
    lineage = SPECS["delivery_hourly"].metadata["dagster/column_lineage"].deps_by_column
    (source,) = lineage["delivered"]
    assert (source.asset_key, source.column_name) == (asset_key("operations"), "delivered")


def test_today_is_a_partition_of_each_account():
    job = build_definitions([ACCOUNT, OTHER_ACCOUNT], FIRST_DAY).resolve_job_def("sync_job")
    assert job.partitions_def
    keys = job.partitions_def.get_partition_keys(current_time=at("2026-11-02 23:59"))
    assert keys == [
        f"{account}|{day}"
        for account in sorted([ACCOUNT, OTHER_ACCOUNT])
        for day in ("2026-11-01", "2026-11-02")
    ]


def test_report_waits_for_a_warehouse(tmp_path: Path):
    resources = {"archive": ArchiveResource(data=str(tmp_path))}
    schedule = build_definitions([], FIRST_DAY, resources).resolve_schedule_def("report_schedule")
    context = dg.build_schedule_context(resources=resources)
    assert not schedule.evaluate_tick(context).run_requests
    publish(Lake(tmp_path).open())
    assert len(schedule.evaluate_tick(context).run_requests or []) == 1


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance on the disk, which a schedule can open."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


def tick(data: Path, moment: str, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the schedule requests at a moment."""
    resources = {
        "archive": ArchiveResource(data=str(data)),
        "twilio": TwilioResource(account_sid=ACCOUNT, auth_token="t"),
    }
    return request(build_definitions([ACCOUNT], FIRST_DAY, resources), resources, moment, instance)


def request(
    definitions: dg.Definitions,
    resources: Mapping[str, Any],
    moment: str,
    instance: dg.DagsterInstance,
) -> list[dg.RunRequest]:
    with dg.build_schedule_context(
        instance=instance,
        repository_def=definitions.get_repository_def(),
        scheduled_execution_time=at(moment),
        resources=dict(resources),
    ) as context:
        found = definitions.resolve_schedule_def("sync_schedule").evaluate_tick(context)
    return list(found.run_requests or [])


def days(requests: Iterable[dg.RunRequest]) -> list[str]:
    found = [str(one.partition_key) for one in requests]
    assert all(one.startswith(f"{ACCOUNT}|") for one in found)
    return [one.split("|")[1] for one in found]


def accounts_of(requests: Iterable[dg.RunRequest]) -> set[str]:
    return {str(one.partition_key).split("|", maxsplit=1)[0] for one in requests}


def covered(folder: Path) -> Path:
    """An archive that was synced at noon."""
    lake = Lake(folder).open()
    for day in retained_days(NOON):
        landed(lake, scan([], observed_at=NOON, window=Window.of_day(day)))
        merge(lake, Partition(ACCOUNT, day))
    return folder


def test_schedule_ticks_every_10_minutes():
    schedule = defs.resolve_schedule_def("sync_schedule")
    assert schedule.cron_schedule == "*/10 * * * *"
    assert schedule.execution_timezone == "UTC"


def test_schedule_requests_a_run_for_each_due_partition(tmp_path: Path, stored: dg.DagsterInstance):
    requests = tick(tmp_path, "2026-11-20 14:10", stored)
    assert days(requests) == [f"2026-11-{n}" for n in range(13, 21)]
    assert all(DUE_TAGS.items() <= one.tags.items() for one in requests)


def test_schedule_requests_young_days_once_the_others_are_covered(
    tmp_path: Path, stored: dg.DagsterInstance
):
    data = covered(tmp_path)
    assert tick(data, "2026-11-20 12:05", stored) == []
    assert days(tick(data, "2026-11-20 12:10", stored)) == ["2026-11-20"]
    # An hour on, 13 November 15:00 has 2 hours left, and 14 November 00:00 has less than 12.
    due = ["2026-11-13", "2026-11-14", "2026-11-20"]
    assert days(tick(data, "2026-11-20 13:00", stored)) == due


def test_schedule_requests_what_an_earlier_run_left(tmp_path: Path, stored: dg.DagsterInstance):
    """R5: a run that was killed after its scan landed; nothing of that day is due any more."""
    lake = Lake(covered(tmp_path))
    landed(lake, scan([], observed_at=NOON, window=Window.of_day(date(2026, 11, 2))))
    assert days(tick(tmp_path, "2026-11-20 12:05", stored)) == ["2026-11-02"]


def test_schedule_requests_no_day_without_a_partition(tmp_path: Path, stored: dg.DagsterInstance):
    assert days(tick(tmp_path, "2026-11-03 13:00", stored)) == [
        "2026-11-01",
        "2026-11-02",
        "2026-11-03",
    ]


def test_schedule_requests_nothing_under_way(tmp_path: Path, stored: dg.DagsterInstance):
    data = covered(tmp_path)
    job = build_definitions([ACCOUNT], FIRST_DAY).resolve_job_def("sync_job")
    key = key_of(Partition(ACCOUNT, date(2026, 11, 20)))
    run = stored.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": key}
    )
    assert days(tick(data, "2026-11-20 13:00", stored)) == ["2026-11-13", "2026-11-14"]
    stored.report_run_canceled(run)
    assert days(tick(data, "2026-11-20 13:00", stored))[-1] == "2026-11-20"


def test_orphaned_run_blocks_no_later_one(
    tmp_path: Path, stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """A run that was killed with its machine stays under way for ever."""
    data = covered(tmp_path)
    job = build_definitions([ACCOUNT], FIRST_DAY).resolve_job_def("sync_job")
    key = key_of(Partition(ACCOUNT, date(2026, 11, 20)))
    run = stored.create_run_for_job(job, tags={"dagster/partition": key})
    stored.report_engine_event("starts", run)
    stored.handle_new_event(started(run))
    assert days(tick(data, "2026-11-20 13:00", stored)) == ["2026-11-13", "2026-11-14"]
    monkeypatch.setattr(schedules, "LONGEST_RUN", timedelta(0))
    assert days(tick(data, "2026-11-20 13:00", stored))[-1] == "2026-11-20"
    stored.report_run_failed(run)


def started(run: dg.DagsterRun) -> dg.EventLogEntry:
    """The event by which Dagster knows that a run began."""
    event = dg.DagsterEvent("PIPELINE_START", run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level="debug",
        user_message="",
        run_id=run.run_id,
        timestamp=time.time(),
        dagster_event=event,
    )


def test_clock_behind_the_archive_requests_what_is_due_after_it(
    tmp_path: Path, stored: dg.DagsterInstance
):
    """R10: of the days that have begun by this machine's clock; the run says which clock is wrong."""
    data = covered(tmp_path)
    assert set(days(tick(data, "2026-11-17 12:00", stored))) <= {
        f"2026-11-{n}" for n in range(10, 18)
    }


def test_each_tick_is_its_own_run(tmp_path: Path, stored: dg.DagsterInstance):
    keys = {
        one.run_key for hour in (13, 14) for one in tick(tmp_path, f"2026-11-20 {hour}:00", stored)
    }
    assert len(keys) == 16


def test_damaged_account_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: dg.DagsterInstance
):
    """R12."""
    data = covered(tmp_path / "data")
    lake = Lake(data)
    (damaged, *_) = lake.partitions("slot_coverage")
    lake.part(next(t for t in TABLES if t.name == "slot_coverage"), damaged).write_bytes(b"x")
    configure(tmp_path, monkeypatch, entry(ACCOUNT, "first") + entry(OTHER_ACCOUNT, "second"))
    resources = {"archive": ArchiveResource(data=str(data)), "twilio": TwilioResource()}
    definitions = build_definitions([ACCOUNT, OTHER_ACCOUNT], FIRST_DAY, resources)
    requests = request(definitions, resources, "2026-11-20 14:10", stored)
    assert OTHER_ACCOUNT in accounts_of(requests)


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str) -> None:
    (folder / "email-archive.toml").write_text(entries)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOKEN", "t")


def entry(sid: str, name: str, *more: str) -> str:
    lines = ["[[accounts]]", f'sid = "{sid}"', f'name = "{name}"', 'auth_token_env = "TOKEN"']
    return "\n".join([*lines, *more, ""])


def test_account_without_partitions_keeps_no_other_waiting(
    tmp_path: Path, stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """R12: it was added after the definitions were loaded."""
    configure(tmp_path, monkeypatch, entry(ACCOUNT, "old") + entry(OTHER_ACCOUNT, "new"))
    resources = {"archive": ArchiveResource(data=str(tmp_path)), "twilio": TwilioResource()}
    definitions = build_definitions([ACCOUNT], FIRST_DAY, resources)
    requests = request(definitions, resources, "2026-11-20 14:10", stored)
    assert accounts_of(requests) == {ACCOUNT}


def test_missing_credentials_keep_no_other_account_waiting(
    tmp_path: Path, stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """R12"""
    without = entry(OTHER_ACCOUNT, "second").replace("TOKEN", "NOT_SET")
    configure(tmp_path, monkeypatch, entry(ACCOUNT, "first") + without)
    resources = {"archive": ArchiveResource(data=str(tmp_path)), "twilio": TwilioResource()}
    definitions = build_definitions([ACCOUNT, OTHER_ACCOUNT], FIRST_DAY, resources)
    requests = request(definitions, resources, "2026-11-20 14:10", stored)
    assert accounts_of(requests) == {ACCOUNT}


def test_schedule_remembers_names_and_retired_accounts(
    tmp_path: Path, stored: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """Checks and status, which know no configuration, leave a retired account alone."""
    configure(
        tmp_path,
        monkeypatch,
        entry(ACCOUNT, "first") + entry(OTHER_ACCOUNT, "past", "active = false"),
    )
    resources = {"archive": ArchiveResource(data=str(tmp_path)), "twilio": TwilioResource()}
    definitions = build_definitions([ACCOUNT, OTHER_ACCOUNT], FIRST_DAY, resources)
    requests = request(definitions, resources, "2026-11-20 14:10", stored)
    assert accounts_of(requests) == {ACCOUNT}
    known = read_accounts(Lake(tmp_path))
    assert {one.name: one.retired_at is not None for one in known.values()} == {
        "first": False,
        "past": True,
    }


def test_all_checks_are_known_by_name():
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    assert names == {
        "every_window_scanned",
        "rows_as_expected",
        "ids_unique",
        "accounts_synced",
        "no_gaps",
        "deadlines_held",
        "no_future_scans",
        "newest_operation_fresh",
        "rates_as_usual",
        "reading_decided",
    }
