"""What Dagster alone takes: a job of the same assets, days and checks as `sync`, none of which does anything.

``python -m tests.benchmarks.speed.empty_job FIRST LAST`` runs it in process on DAGSTER_HOME. Its steps, and
the events that Dagster stores of them, are those of the real job, but for its log lines and metadata.
"""

import sys
from collections.abc import Iterator

import dagster as dg
from dagster import AssetSelection

from assets.definitions import defs
from assets.keys import asset_key
from assets.schedules import range_tags
from pipeline.interruption import leave


def _emptied(found: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The same assets and checks, without what they do."""
    specs = [
        dg.AssetSpec(spec.key, deps=spec.deps, partitions_def=spec.partitions_def)
        for spec in found.specs
    ]

    @dg.multi_asset(
        name=found.op.name,
        specs=specs,
        check_specs=list(found.check_specs),
        backfill_policy=found.backfill_policy,
    )
    def nothing() -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        for spec in specs:
            yield dg.MaterializeResult(spec.key)
        for check in found.check_specs:
            yield dg.AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)

    return nothing


def _emptied_checks(found: dg.AssetChecksDefinition) -> dg.AssetChecksDefinition:
    """The same checks, which pass without a look."""

    @dg.multi_asset_check(name=found.op.name, specs=list(found.check_specs))
    def nothing() -> Iterator[dg.AssetCheckResult]:
        for check in found.check_specs:
            yield dg.AssetCheckResult(passed=True, check_name=check.name)

    return nothing


def main(first: str, last: str) -> bool:
    """Run the job once over ``[first, last]``, and say whether it succeeded."""
    empty = dg.Definitions(
        assets=[_emptied(one) for one in defs.assets or () if isinstance(one, dg.AssetsDefinition)],
        asset_checks=[_emptied_checks(one) for one in defs.asset_checks or ()],
        jobs=[
            dg.define_asset_job(
                "sync",
                selection=AssetSelection.all() - AssetSelection.assets(asset_key("report")),
                executor_def=dg.in_process_executor,
            )
        ],
    )
    with dg.DagsterInstance.get() as instance:
        job = empty.resolve_job_def("sync")
        return job.execute_in_process(instance=instance, tags=range_tags(first, last)).success


if __name__ == "__main__":
    leave(0 if main(*sys.argv[1:]) else 1)
