"""The jobs and their schedules."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from dagster import AssetSelection

from assets.checks import hourly_checks
from assets.keys import asset_key
from assets.partitions import key_of
from assets.resources import ArchiveResource, TwilioResource, settings_of
from assets.retention import FINISHED
from assets.tables import DUE_TAGS, SPECS
from pipeline.accounts import Account, remember
from pipeline.errors import ArchiveError
from pipeline.extract.api_clock import machine_time
from pipeline.lake.coverage import latest_scan
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.settings import Settings
from pipeline.sync_partition import due_partitions
from pipeline.twilio.client import OperationsClient

NOT_FINISHED: Final = [status for status in dg.DagsterRunStatus if status not in FINISHED]
LONGEST_RUN: Final = timedelta(hours=1)
"""`deploy/dagster.yaml` has the daemon end a run after that."""

TICK: Final = timedelta(minutes=10)
EVERY_10_MINUTES: Final = "*/10 * * * *"


sync_job = dg.define_asset_job(
    "sync_job",
    selection=AssetSelection.assets(*(spec.key for spec in SPECS))
    - AssetSelection.checks(*hourly_checks),
    description="Scan, merge and derive one partition: an account's day.",
    executor_def=dg.in_process_executor,
)


def sync_schedule(
    account_ids: Collection[str], first_day: date, cron: str = EVERY_10_MINUTES
) -> dg.ScheduleDefinition:
    """The schedule of that job, over the accounts and from the first day that have partitions."""

    @dg.schedule(
        name="sync_schedule",
        job=sync_job,
        cron_schedule=cron,
        execution_timezone="UTC",
        description="Every 10 minutes: one run for each account's day that has something due.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, archive: ArchiveResource, twilio: TwilioResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        accounts = twilio.accounts(archive)
        remember(archive.lake(), accounts, machine_time())
        under_way = _under_way(context.instance)
        # Dagster has no partition of a day that has not begun by this machine's clock.
        requests = [
            dg.RunRequest(
                run_key=f"{tick.isoformat()} {key}",
                partition_key=key,
                tags=DUE_TAGS,
            )
            for account in accounts
            for partition in _due(context, account, account_ids, tick)
            if first_day <= partition.day <= tick.date()
            and (key := key_of(partition)) not in under_way
        ]
        return requests or dg.SkipReason("nothing is due that is not under way")

    return schedule


def _due(
    context: dg.ScheduleEvaluationContext,
    account: Account,
    account_ids: Collection[str],
    tick: datetime,
) -> list[Partition]:
    """The partitions of an account that are due; none after an error, so that other accounts go on (R12)."""
    if not account.is_active:
        return []
    if account.sid not in account_ids:
        context.log.warning("%s has no partitions yet: reload the code location", account)
        return []
    try:
        settings = settings_of([account], account.sid)
        lake = Lake.of(settings)
        return due_partitions(lake, settings, _now(lake, settings, tick))
    except ArchiveError as error:
        context.log.warning("%s: %s", account, error)
        return []


def _now(lake: Lake, settings: Settings, tick: datetime) -> datetime:
    """About the API's time: the tick's, or a moment after the latest scan if that is later.

    A run plans again by the API's clock, and compares it with this machine's (R10). If the settings trust any
    clock, as for an emulator, the API's clock is requested here too.
    """
    if settings.trust_clock:
        with OperationsClient(settings) as client:
            return client.clock()
    latest = latest_scan(lake, settings.account_sid)
    return tick if latest is None or latest <= tick else latest + TICK


def _under_way(instance: dg.DagsterInstance) -> set[str]:
    """The partitions that have a run that is queued or running, by the schedule or by hand.

    A run that has been running for longer than any run may is left out: it was killed with its machine.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED))
    long_ago = machine_time().timestamp() - LONGEST_RUN.total_seconds()
    return {
        record.dagster_run.tags.get("dagster/partition", "")
        for record in records
        if record.start_time is None or record.start_time > long_ago
    }


report_job = dg.define_asset_job(
    "report_job",
    # The warehouse too: its condition misses a change that comes while it is made.
    selection=AssetSelection.assets(asset_key("warehouse"), asset_key("report"))
    | AssetSelection.checks(*hourly_checks),
    description="Publish the warehouse, write its report, and check the archive as a whole.",
    executor_def=dg.in_process_executor,
)


@dg.schedule(
    job=report_job,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    description="Write the report and check the archive every hour.",
)
def report_schedule(archive: ArchiveResource) -> dg.RunRequest | dg.SkipReason:
    """One run per hour, once there is a warehouse."""
    if not Lake(archive.root()).warehouse.exists():
        return dg.SkipReason("there is no warehouse yet")
    return dg.RunRequest()
