"""Four syncs, a Dagster run and eight readers on one lake at once: nothing lost, doubled, torn or refused."""

from pathlib import Path

import pytest

from tests.conftest import Figures
from tests.end_to_end.busy import READERS, run


@pytest.mark.slow
def test_concurrent_syncs_dagster_run_and_readers_stay_correct(tmp_path: Path, figures: Figures):
    """R1, R2, R5, R6; ``make concurrency SECONDS=300`` goes on for longer."""
    report = run(tmp_path)
    assert report.errors == ()
    assert report.problems == ()
    assert (report.doubled, report.torn, report.shrunk) == (0, 0, 0)
    assert report.all_well
    assert report.dagster_runs == 1
    assert report.syncs >= 4
    assert len(report.queries) == len(READERS) == 8
    assert min(report.queries) >= 1
    assert report.states > report.operations > 600
    figures("syncs, 4 at once", report.syncs)
    figures("readers' queries meanwhile", sum(report.queries))
    figures("of them asked again", report.asked_again)
