"""Dagster's own daemon, code server and run processes, with the schedule on."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.end_to_end.daemon import run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_daemon_keeps_the_archive_true(tmp_path: Path):
    """`make daemon` does so for an hour of the emulator's time."""
    report = run(tmp_path, timedelta(minutes=30))
    assert report.ok, report
    assert report.runs["sync_job", "SUCCESS"] >= 8
    assert sum(report.ticks.values()) >= 3
