"""Run `sync_job` over a range of days, on DAGSTER_HOME: ``python -m assets.run FIRST LAST [--report]``.

It scans all of these days, as materializing them by hand does. With `--report`, `report_job` follows.
"""

import sys
from datetime import date

import dagster as dg

from assets.definitions import defs
from assets.schedules import range_tags
from pipeline import process
from pipeline.interruption import leave


def run(first: date, last: date, *, with_report: bool = False) -> bool:
    """Run the jobs over ``[first, last]``; return whether all succeeded."""
    tags = range_tags(first.isoformat(), last.isoformat())
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def("sync_job").execute_in_process(
            instance=instance, tags=tags, raise_on_error=False
        )
        if result.success and with_report:
            result = defs.resolve_job_def("report_job").execute_in_process(
                instance=instance, raise_on_error=False
            )
    return result.success


if __name__ == "__main__":
    process.prepare()
    try:
        days = [text for text in sys.argv[1:] if text != "--report"]
        first, last = (date.fromisoformat(text) for text in days)
    except ValueError:
        sys.exit("expected two days: python -m assets.run 2026-11-13 2026-11-20 [--report]")
    try:
        succeeded = run(first, last, with_report="--report" in sys.argv)
    except dg.DagsterError as error:  # DAGSTER_HOME is not set, or no folder
        sys.exit(f"{error}")
    leave(0 if succeeded else 1)
