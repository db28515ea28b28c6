"""The asset checks of real runs."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.checks import rates_as_usual, reading_decided
from assets.resources import ArchiveResource
from pipeline.emulator import Emulator, World
from pipeline.lake.layout import Lake
from pipeline.model.schema import COVERAGE, OPERATIONS, REJECTS
from pipeline.model.windows import Window
from pipeline.outputs.warehouse import publish
from tests.dagster.runs import (
    Done,
    definitions,
    failed_checks,
    failure,
    run_checks,
    sync,
    sync_days,
)
from tests.support.archives import account
from tests.support.factories import ACCOUNT, DAY, OTHER_ACCOUNT, at, body, derived, record, scan
from tests.support.scripted_api import Answer, scripted


def test_lost_slots_fail_the_check_with_their_names(
    instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R4: off for 9 days; what was lost is said, and is not claimed by the scan that came too late."""
    emulator, defs = emulated
    sync_days(instance, defs)
    emulator.clock.step(timedelta(days=9))
    assert sync(instance, defs, emulator.clock.now().date()).success
    failed = failed_checks(run_checks(instance, defs, ("coverage", "no_gaps")))
    assert failed["no_gaps"].severity == dg.AssetCheckSeverity.ERROR
    # From the hour under way, 14 November 15:00, to the last whose deadline had passed.
    assert failed["no_gaps"].metadata["slots"].value == 49
    assert "2026-11-14T15:00Z" in str(failed["no_gaps"].metadata["examples"].value)


def test_coverage_is_judged_by_the_clock(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R4: nobody has synced since, which is long ago for any machine's clock."""
    emulator, defs = emulated
    with account(World(5, 20.0, at("2020-11-20")), at("2020-11-21"), tmp_path) as (old, settings):
        assert sync(instance, definitions(tmp_path, old.url, settings.account_sid)).success
    wary = definitions(tmp_path, emulator.url, settings.account_sid, trust_clock=False)
    found = run_checks(instance, wary, ("landed_scans", "accounts_synced"))
    (check,) = found.get_asset_check_evaluations()
    assert not check.passed
    assert settings.account_sid in str(check.metadata["accounts"].value)
    assert not failed_checks(run_checks(instance, defs, ("landed_scans", "accounts_synced")))


def test_all_checks_pass_on_sound_data(done: Done):
    """Those of each run, and those of the whole archive."""
    in_runs = {"every_window_scanned", "rows_as_expected"}
    for result in done.results[:-1]:
        assert {one.check_name for one in result.get_asset_check_evaluations()} == in_runs
    assert not any(failed_checks(result) for result in done.results)
    others = {
        (key.asset_key.path[-1], key.name)
        for key in done.defs.resolve_asset_graph().asset_check_keys
        if key.name not in in_runs
    }
    whole = run_checks(done.instance, done.defs, *others)
    assert {one.check_name for one in whole.get_asset_check_evaluations()} == {
        name for _, name in others
    }
    assert not failed_checks(whole)


def test_damaged_table_fails_the_check_of_rows(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R9."""
    _, defs = emulated
    assert sync(instance, defs).success
    lake = Lake(tmp_path)
    (partition,) = lake.partitions(OPERATIONS.name)
    damaged = lake.part(REJECTS, partition)
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"no Parquet")
    result = sync(instance, defs, is_due=True)
    assert not result.success
    assert "rejects" in failure(result)


def test_damaged_day_of_one_account_hides_nothing_of_another(
    tmp_path: Path, instance: dg.DagsterInstance, emulated: tuple[Emulator, dg.Definitions]
):
    """R12: the other's lost slots are found."""
    emulator, defs = emulated
    assert sync(instance, defs).success
    derived(Lake(tmp_path), scan([record(1)], account_id=OTHER_ACCOUNT))
    lake = Lake(tmp_path)
    theirs = next(one for one in lake.partitions("coverage") if one.account_id == OTHER_ACCOUNT)
    lake.part(COVERAGE, theirs).write_bytes(b"no Parquet")
    emulator.clock.step(timedelta(days=9))
    assert sync(instance, defs, emulator.clock.now().date()).success
    checks = run_checks(
        instance, defs, ("coverage", "no_gaps"), ("landed_scans", "accounts_synced")
    )
    assert set(failed_checks(checks)) == {"no_gaps"}


def test_odd_data_warn_and_do_not_fail_the_run(tmp_path: Path, instance: dg.DagsterInstance):
    """R9: rejects and the unknown are seen, with the rows that are meant."""
    odd = [record(1, status="PAUSED", region="us1"), record(2, stats={"sent": -1}), record(3)]
    with scripted(lambda _: Answer(body(odd))) as server:
        result = sync(instance, definitions(tmp_path, server.url, ACCOUNT), DAY)
    assert result.success
    (found,) = failed_checks(result).values()
    assert found.check_name == "rows_as_expected"
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "PAUSED" in str(found.metadata["known_to_reference"].value)
    assert found.metadata["rejects"].value


def test_impossible_counts_are_an_error_of_their_check(
    tmp_path: Path, instance: dg.DagsterInstance
):
    impossible = record(1, stats={"total": 1, "queued": 5})
    with scripted([Answer(body([impossible]))]) as server:
        result = sync(instance, definitions(tmp_path, server.url, ACCOUNT), DAY)
    (found,) = failed_checks(result).values()
    assert found.metadata["parts_within_total"].value
    assert found.severity == dg.AssetCheckSeverity.ERROR


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
