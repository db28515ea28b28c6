"""Run the jobs over days, on DAGSTER_HOME: ``python -m assets.run FIRST LAST [--report]``.

Each day of each account is scanned whole, by a run of its own, as materializing it by hand does. The
warehouse follows; with `--report` the report too.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import product

import dagster as dg

from assets.definitions import defs
from assets.failures import STOPPED
from assets.keys import asset_key
from assets.partitions import key_of
from pipeline import process
from pipeline.accounts import load_accounts
from pipeline.errors import ArchiveError, UsageError
from pipeline.extract.api_clock import machine_time
from pipeline.interruption import leave
from pipeline.model.records import Partition
from pipeline.model.windows import days_between
from pipeline.settings import ArchiveSettings


def run(accounts: Iterable[str], days: Iterable[date], *, with_report: bool = False) -> bool:
    """Run the jobs over days of accounts, in their order; return whether all succeeded."""
    sync = defs.resolve_job_def("sync_job")
    warehouse = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={asset_key("warehouse")}
    )
    results: list[dg.ExecuteInProcessResult] = []
    with dg.DagsterInstance.get() as instance:
        for account, day in product(accounts, tuple(days)):
            key = key_of(Partition(account, day))
            results.append(
                sync.execute_in_process(instance=instance, partition_key=key, raise_on_error=False)
            )
            if _was_stopped(results[-1]):
                return False
        results.append(warehouse.execute_in_process(instance=instance, raise_on_error=False))
        if with_report and all(one.success for one in results):
            report = defs.resolve_job_def("report_job")
            results.append(report.execute_in_process(instance=instance, raise_on_error=False))
    return all(one.success for one in results)


def _was_stopped(result: dg.ExecuteInProcessResult) -> bool:
    """Whether a signal ended a run, which Dagster makes a failure of its step."""
    return not result.success and any(
        STOPPED in str(event.event_specific_data) for event in result.all_node_events
    )


def _chosen_days(texts: Sequence[str]) -> list[date]:
    """The days from the first to the last, the newest first.

    Raises:
        UsageError: these are not two days in their order that have partitions.
    """
    first_day = ArchiveSettings.load().first_day
    try:
        first, last = map(date.fromisoformat, texts)
    except ValueError:
        msg = "expected two days: python -m assets.run 2026-11-13 2026-11-20 [--report]"
        raise UsageError(msg) from None
    if not first_day <= first <= last <= machine_time().date():
        msg = (
            f"expected days from {first_day} (EMAIL_ARCHIVE_FIRST_DAY) to today, the earlier one first; got "
            f"{first} and {last}"
        )
        raise UsageError(msg)
    return days_between(first, last)[::-1]


if __name__ == "__main__":
    process.prepare()
    try:
        chosen = _chosen_days([text for text in sys.argv[1:] if text != "--report"])
        active = [one.sid for one in load_accounts() if one.is_active]
        succeeded = run(active, chosen, with_report="--report" in sys.argv)
    except (dg.DagsterError, ArchiveError) as error:  # also: DAGSTER_HOME is not set, or no folder
        sys.exit(f"{error}")
    leave(0 if succeeded else 1)
