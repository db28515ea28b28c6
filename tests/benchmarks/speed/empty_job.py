"""What Dagster alone takes: jobs of the same assets, days and checks as a sync, none of which does anything.

``python -m tests.benchmarks.speed.empty_job FIRST LAST`` runs them in process on DAGSTER_HOME. Their steps,
and the events that Dagster stores of them, are those of the real runs, but for log lines and metadata.
"""

import sys
from collections.abc import Iterator
from datetime import date

import dagster as dg

from assets.partitions import key_of, partitions
from assets.tables import partition_assets
from pipeline.interruption import leave
from pipeline.model.records import Partition
from pipeline.model.windows import days_between
from tests.benchmarks.speed.server import ACCOUNT_SID


def empty(account_id: str, first_day: date) -> dg.Definitions:
    """The assets and checks of a partition, without what they do."""
    real = partition_assets(partitions([account_id], first_day))

    @dg.multi_asset(
        name=real.op.name,
        specs=[spec.replace_attributes(metadata={}) for spec in real.specs],
        check_specs=list(real.check_specs),
        can_subset=True,
    )
    def nothing() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        for spec in real.specs:
            yield dg.MaterializeResult(spec.key)
        for check in real.check_specs:
            yield dg.AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)

    job = dg.define_asset_job("sync_job", executor_def=dg.in_process_executor)
    return dg.Definitions(assets=[nothing], jobs=[job])


def main(first: str, last: str) -> bool:
    """Run the job once for each day of ``[first, last]``, and say whether all succeeded."""
    days = days_between(date.fromisoformat(first), date.fromisoformat(last))
    job = empty(ACCOUNT_SID, days[0]).resolve_job_def("sync_job")
    with dg.DagsterInstance.get() as instance:
        return all(
            job.execute_in_process(
                instance=instance, partition_key=key_of(Partition(ACCOUNT_SID, day))
            ).success
            for day in days
        )


if __name__ == "__main__":
    leave(0 if main(*sys.argv[1:]) else 1)
