"""``python -m assets.run FIRST LAST``: the job `sync` once, over a range of days, on DAGSTER_HOME.

It scans all of these days, as materializing them by hand does; for a script, for the demo.
"""

import sys
from datetime import date

import dagster as dg

from assets.definitions import defs
from assets.schedules import range_tags
from pipeline.interruption import leave


def run(first: date, last: date) -> bool:
    """Run the job over ``[first, last]`` and say whether it succeeded."""
    tags = range_tags(first.isoformat(), last.isoformat())
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def("sync").execute_in_process(
            instance=instance, tags=tags, raise_on_error=False
        )
    return result.success


if __name__ == "__main__":
    try:
        first, last = (date.fromisoformat(text) for text in sys.argv[1:])
    except ValueError:
        sys.exit("expected two days: python -m assets.run 2026-11-13 2026-11-20")
    succeeded = run(first, last)
    leave(0 if succeeded else 1)
