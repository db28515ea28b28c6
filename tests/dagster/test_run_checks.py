"""The asset checks of real runs."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.checks import rates_as_usual, reading_decided
from assets.resources import ArchiveResource
from pipeline.emulator import Emulator
from pipeline.lake.layout import Lake
from pipeline.model.schema import OPERATIONS, REJECTS
from pipeline.model.windows import Window, retained_days
from pipeline.outputs.warehouse import publish
from pipeline.quality.checks import CHECKS
from tests.dagster.runs import Done, definitions, failed_checks, run_checks, run_job
from tests.support.factories import ACCOUNT, at, body, derived, record, scan
from tests.support.scripted_api import Answer, Received, scripted


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
