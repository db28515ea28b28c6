"""A real disk that is full: a small tmpfs, where this machine lets one be mounted."""

import errno
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.access.query import ask
from pipeline.emulator import World
from pipeline.errors import ArchiveError
from pipeline.lake.layout import Lake
from pipeline.model.schema import HISTORY, OPERATIONS
from pipeline.settings import Settings
from tests.conftest import Figures
from tests.support.archives import account, rows, states, sync_all, unlike_truth
from tests.support.factories import at

START = at("2026-11-10")
SIZE = 8 * 1024 * 1024
ROOMS = (0, 4, 12, 40, 120, 260, 520, 1100)
"""What is left on the disk, in KiB: for nothing, for some of the facts, for some of the warehouse."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here: test_disk_faults.py fills a disk at every write")
    if mounted.returncode:
        pytest.skip(
            f"mounting is not allowed here ({mounted.stderr.strip()}): see test_disk_faults.py"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the system's own


def fill(folder: Path, room: int) -> Path:
    """Leave so many KiB on the disk."""
    ballast = folder / "ballast"
    left = os.statvfs(folder)
    free = left.f_bavail * left.f_frsize - room * 1024
    with ballast.open("wb") as file:
        file.write(bytes(max(free, 0)))
    return ballast


def error_of(settings: Settings) -> str:
    """What a sync says that went wrong; nothing if all is well."""
    try:
        report = sync_all(settings, publishing=True)
    except (OSError, ArchiveError) as error:
        return str(error)
    return "; ".join(str(error) for error in report.errors)


@pytest.mark.slow
def test_full_disk_is_a_clear_error_and_the_next_sync_heals(small_disk: Path, figures: Figures):
    """R1, R5, R6: the archive stays as it was or knows more, and is whole, whatever had no room."""
    data = small_disk / "lake"
    with account(World(14, 600.0, START), START + timedelta(days=2), data) as (emulator, settings):
        assert sync_all(settings, publishing=True).ok
        failed = 0
        for room in ROOMS:
            emulator.clock.step(timedelta(hours=9))
            before, known = states(rows(data, HISTORY)), rows(data, OPERATIONS).num_rows
            ballast = fill(small_disk, room)
            said = error_of(settings)
            assert not said or os.strerror(errno.ENOSPC) in said
            failed += bool(said)
            assert before <= states(rows(data, HISTORY))
            assert rows(data, OPERATIONS).num_rows >= known
            assert ask(Lake(data), "SELECT sum(operations) > 0 AS n FROM delivery_daily").num_rows
            ballast.unlink()
            assert sync_all(settings, publishing=True).ok
            assert unlike_truth(emulator, data, START, [emulator.clock.now()]) == []
        assert failed >= len(ROOMS) / 2
        assert [path for path in (data / ".tmp").rglob("*") if path.is_file()] == []
    figures("syncs on a full tmpfs, healed", failed)
