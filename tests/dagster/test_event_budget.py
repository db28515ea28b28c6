"""How much Dagster's storage a run takes: it keeps every run."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import yaml

from assets.partitions import key_of
from pipeline.emulator import Emulator
from pipeline.model.records import Partition
from tests.benchmarks.speed.empty_job import empty
from tests.dagster.runs import DAYS, FIRST_DAY, account_of, sync

STORED = Path(__file__).parents[2] / "deploy" / "dagster.yaml"


def bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def growth(home: Path, run: Callable[[dg.DagsterInstance, int], dg.ExecuteInProcessResult]) -> int:
    """Bytes that a run adds, once the storage is there and the assets are known."""
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        assert run(instance, 0).success
        before = bytes_of(home)
        for number in (1, 2, 3):
            assert run(instance, number).success
    return (bytes_of(home) - before) // 3


def test_run_stores_little_more_than_an_empty_one(
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
    assert due <= 1.2 * least


def test_stored_configuration_of_dagster_loads(tmp_path: Path):
    (tmp_path / "dagster.yaml").write_text(STORED.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        retention = yaml.safe_load(STORED.read_text())["retention"]
        assert set(retention) == {"schedule", "sensor"}
        limits = instance.get_concurrency_config().run_queue_config
        assert limits
        assert limits.tag_concurrency_limits[0]["key"] == "dagster/partition/account"
