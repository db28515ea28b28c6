"""The job that deletes old runs of this project: open-source Dagster keeps every run for ever."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from assets.resources import ArchiveResource
from pipeline.extract.api_clock import machine_time

JOBS: Final = ("sync_job", "report_job", "retention_job", "__ASSET_JOB")
"""The jobs whose runs are deleted; the last is what the automation and runs by hand have."""

FINISHED: Final = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
_AT_ONCE: Final = 500


@dg.op
def delete_old_runs(context: dg.OpExecutionContext, archive: ArchiveResource) -> None:
    """Delete runs that finished before the days that the settings keep."""
    days = archive.settings().dagster_retention_days
    before = machine_time() - timedelta(days=days)
    deleted = delete_runs(
        context.instance, before, context.repository_def.asset_graph.get_all_asset_keys()
    )
    context.log.info("deleted %d runs of more than %d days ago", deleted, days)


@dg.job(executor_def=dg.in_process_executor, description="Delete old runs of this project.")
def retention_job() -> None:
    """Delete old runs."""
    delete_old_runs()


retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention_job,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    description="Delete old runs of this project, every night.",
)


def delete_runs(
    instance: dg.DagsterInstance, before: datetime, assets: Iterable[dg.AssetKey]
) -> int:
    """Delete the finished runs of this project that ended before a moment, and return how many.

    Deleting a run deletes its events and logs. So the latest materialization of each partition is reported
    again first, without a run, with the time of the run in its metadata. If this is killed, the next one
    repeats it.
    """
    old = {run.dagster_run.run_id for run in _old_runs(instance, before)}
    for asset in assets if old else ():
        for event in _latest(instance, asset):
            if event.run_id in old and (known := event.asset_materialization):
                when = dg.MetadataValue.timestamp(event.timestamp)
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(
                        asset,
                        partition=known.partition,
                        metadata={**known.metadata, "materialized_at": when},
                    )
                )
    for run_id in old:
        # First, since a run that is deleted already is not found again.
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
    return len(old)


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.RunRecord]:
    for job in JOBS:
        chosen = dg.RunsFilter(job_name=job, updated_before=before, statuses=list(FINISHED))
        yield from instance.get_run_records(chosen)


def _latest(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
    """The latest materialization of each partition."""
    seen: set[str | None] = set()
    cursor = None
    while True:
        page = instance.fetch_materializations(asset, limit=_AT_ONCE, cursor=cursor)
        for record in page.records:
            if record.partition_key not in seen:
                seen.add(record.partition_key)
                yield record
        if not page.has_more:
            return
        cursor = page.cursor
