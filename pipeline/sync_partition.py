"""sync_partition(): the main job for one day of one account.

It touches nothing of other days and accounts, so that runs of different partitions need not know of each
other, and may be on different machines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pipeline.extract.api_clock import machine_time
from pipeline.extraction import due_lookups_of, extract, look_up_due
from pipeline.lake.compact import can_be_compacted
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import MergeReport
from pipeline.marts.derive import derive
from pipeline.merge_runner import MergeRunner, compact_days
from pipeline.model.records import Partition
from pipeline.model.schema import Table
from pipeline.model.windows import Window
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync import open_at_api_time, plan
from pipeline.sync_report import Extraction, Lookups
from pipeline.twilio.client import OperationsClient


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What syncing a partition did.

    Attributes:
        now: the API's time when it began.
        extraction: the scans, and the windows that failed and stay due.
        lookups: operations looked up by id.
        merges: what was merged.
        changed: the tables whose file was replaced.
        errors: what could not be merged or compacted; it stays as it is and is tried again.
    """

    now: datetime
    extraction: Extraction
    lookups: Lookups
    merges: tuple[MergeReport, ...]
    changed: frozenset[Table]
    errors: tuple[LakeError, ...]


def sync_partition(
    settings: Settings,
    partition: Partition,
    *,
    is_whole: bool = False,
    observer: Observer | None = None,
    wall_clock: Callable[[], datetime] = machine_time,
) -> PartitionReport:
    """Scan, merge and derive one partition, and look up those of its operations that are due.

    Another sync of the account is waited for: what it scanned is not due any more.

    Args:
        settings: those of the partition's account.
        partition: the account and day.
        is_whole: whether the whole day is scanned; by default only what the refresh policy says is due.
        observer: called at each step.
        wall_clock: this machine's clock, which only guards the API's (R10).

    Raises:
        ApiError: the API can't be reached, or refuses the credentials.
        ClockError: the API's clock is implausible.
        LakeError: the archive's folder can't be used.
    """
    lake, observer = Lake.of(settings), observer or Observer()
    lock = lake.sync_lock(partition.account_id), f"the sync of {partition.account_id}"
    with lake.files.locked(*lock), OperationsClient(settings) as client:
        now = open_at_api_time(client, lake, settings, wall_clock)
        before = lake.versions(partition)
        with MergeRunner(lake, observer.merged, deriving=True) as runner:
            # Scans that an earlier run landed count as coverage once they are merged.
            runner.merge_landed(partition)
            windows = _windows(lake, settings, partition, now, is_whole=is_whole)
            extraction = extract(client, lake, settings, windows, observer)
            runner.merge_landed(partition)
            used = sum(scan.requests for scan in extraction.scans)
            lookups = look_up_due(
                client, lake, settings, now, used=used, observer=observer, day=partition.day
            )
            runner.merge_landed(partition)
    compacting = compact_days(lake, [partition] if partition in can_be_compacted(lake, now) else [])
    after = lake.versions(partition)
    return PartitionReport(
        now,
        extraction,
        lookups,
        runner.done.merges,
        frozenset(table for table, version in after.items() if before.get(table) != version),
        runner.done.errors + compacting.errors,
    )


def _windows(
    lake: Lake, settings: Settings, partition: Partition, now: datetime, *, is_whole: bool
) -> list[Window]:
    if is_whole:
        return [Window.of_day(partition.day)]
    return [one for one in plan(lake, settings, now).windows if one.day == partition.day]


def derive_again(lake: Lake, partition: Partition) -> None:
    """Merge landed files of a partition, and derive its delivery tables again.

    Raises:
        LakeError: a file of the partition is damaged or foreign.
    """
    with MergeRunner(lake, None, deriving=False) as runner:
        runner.merge_landed(partition)
    for error in runner.done.errors:
        raise error
    derive(lake, partition)


def due_partitions(lake: Lake, settings: Settings, now: datetime) -> list[Partition]:
    """The partitions of an account that have something to do: to scan, merge, look up or compact.

    Args:
        lake: the archive.
        settings: those of the account.
        now: the API's time, or an estimate of it: a run plans again by the API's (R10).
    """
    account_id = settings.account_sid
    scans = {Partition(account_id, one.day) for one in plan(lake, settings, now).windows}
    lookups = {one.partition for one in due_lookups_of(lake, settings, now)}
    left = {*lake.pending(), *can_be_compacted(lake, now)}
    return sorted({*scans, *lookups, *(one for one in left if one.account_id == account_id)})
