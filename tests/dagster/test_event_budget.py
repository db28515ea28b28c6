"""How much Dagster's storage a run takes, with the configuration in deploy/: it keeps every run."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import dagster as dg
import pytest
import yaml

from assets.keys import asset_key
from assets.partitions import key_of
from assets.retention import delete_runs
from pipeline.emulator import Emulator
from pipeline.model.records import Partition
from tests.benchmarks.speed.empty_job import empty
from tests.dagster.runs import DAYS, FIRST_DAY, account_of, sync
from tests.support.dagster_home import STORED, dagster_home

RUNS_A_DAY: Final = 327
"""Of one account of 2,000 operations a day: `python -m tests.benchmarks.dagster_day`."""

Home: TypeAlias = Callable[[str], dg.DagsterInstance]


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv(*next(iter(dagster_home(home).items())))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


def growth(home: Path, run: Callable[[dg.DagsterInstance, int], dg.ExecuteInProcessResult]) -> int:
    """Bytes that a run adds, once the storage is there and the assets are known."""
    with opened(home) as instance:
        assert run(instance, 0).success
        before = bytes_of(home)
        for number in (1, 2, 3):
            assert run(instance, number).success
    return (bytes_of(home) - before) // 3


def test_day_of_runs_stores_at_most_45_mb(
    tmp_path: Path, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    account_id = account_of(defs)
    nothing = empty(account_id, FIRST_DAY).resolve_job_def("sync_job")

    def run_nothing(instance: dg.DagsterInstance, number: int) -> dg.ExecuteInProcessResult:
        key = key_of(Partition(account_id, DAYS[-1 - number]))
        return nothing.execute_in_process(instance=instance, partition_key=key)

    least = growth(tmp_path / "nothing", run_nothing)
    whole = growth(tmp_path / "whole", lambda instance, n: sync(instance, defs, DAYS[-1 - n]))
    due = growth(
        tmp_path / "due", lambda instance, n: sync(instance, defs, DAYS[-1 - n], is_due=True)
    )
    assert whole <= 1.2 * least
    assert due <= whole
    assert whole * RUNS_A_DAY <= 45_000_000


def test_deleted_runs_make_room_for_new_ones(
    tmp_path: Path, emulated: tuple[Emulator, dg.Definitions]
):
    _, defs = emulated
    home = tmp_path / "home"
    keys = defs.resolve_asset_graph().get_all_asset_keys()
    with opened(home) as instance:
        for day in DAYS[:4]:
            assert sync(instance, defs, day).success
        before = bytes_of(home)
        assert list(home.glob("storage/*"))
        assert delete_runs(instance, datetime(9999, 1, 1, tzinfo=UTC), keys) == 4
        assert not list(home.glob("storage/*"))
        for day in DAYS[:3]:
            assert sync(instance, defs, day).success
        assert bytes_of(home) <= 1.1 * before


def test_storage_of_a_file_per_run_is_taken_over(
    tmp_path: Path, emulated: tuple[Emulator, dg.Definitions]
):
    """As docs/dagster.md says."""
    _, defs = emulated
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        run = sync(instance, defs, DAYS[0])
    shutil.copy(home / "history" / "runs" / "index.db", home / "event_log.db")
    with opened(home) as instance:
        assert instance.get_materialized_partitions(asset_key("operations")) == {
            str(key_of(Partition(account_of(defs), DAYS[0])))
        }
        assert [one.run_id for one in instance.get_runs()] == [run.run_id]
        assert sync(instance, defs, DAYS[1]).success


def test_stored_configuration_of_dagster_loads(tmp_path: Path):
    with opened(tmp_path / "home") as instance:
        assert not instance.telemetry_enabled
        retention = yaml.safe_load(STORED.read_text())["retention"]
        assert set(retention) == {"schedule", "sensor"}
        limits = instance.get_concurrency_config().run_queue_config
        assert limits
        assert limits.tag_concurrency_limits[0]["key"] == "dagster/partition/account"
