"""``python -m assets.run FIRST LAST``: the job `sync` once, over a range of days, on DAGSTER_HOME.

What the schedule does, by hand and in this process; for a script, for cron, for the demo.
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
    succeeded = run(*(date.fromisoformat(text) for text in sys.argv[1:3]))
    leave(0 if succeeded else 1)
