"""What killed runs leave unfinished goes, even of days that nobody writes again; others' work stays."""

import logging
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.days import sweep
from pipeline.emulator import World
from pipeline.lake.files import Disk, Files
from pipeline.lake.layout import Lake
from tests.support.archives import account, sync_all
from tests.support.factories import DAY, PARTITION, at, landed, new_lake, record, scan

context = multiprocessing.get_context("forkserver")


def die_while_writing(root: Path, name: str) -> None:
    """As a landing or a fold does it, up to the kill."""
    lake = Lake(root)
    with lake.files.locked(lake.partition_lock(PARTITION), "the day"):
        target, temporary = root / "never", lake.temporary_file(name, PARTITION)
        with lake.files.replacing(target, temporary) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def write_until_released(root: Path, begun: Event, release: Event) -> None:
    lake = Lake(root)
    with lake.files.locked(lake.partition_lock(PARTITION), "the day"):
        target, temporary = root / "written", lake.temporary_file("landing", PARTITION)
        with lake.files.replacing(target, temporary) as file:
            file.write(b"whole")
            begun.set()
            release.wait(60)


def killed_while_writing(root: Path, name: str) -> Path:
    """The file that a killed process left."""
    process = context.Process(target=die_while_writing, args=(root, name))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = Lake(root).temporary_file(name, PARTITION)
    assert left.read_bytes() == b"half"
    return left


def test_sync_removes_what_a_killed_one_left_of_a_day_that_the_api_has_forgotten(tmp_path: Path):
    """R5: nobody writes there again, so nobody else would overwrite it."""
    now = at("2026-12-20")
    assert now.date() > DAY
    with account(World(7, 40.0, at("2026-12-18")), now, tmp_path) as (_, settings):
        assert sync_all(settings).ok
        left = [killed_while_writing(tmp_path, name) for name in ("landing", "history")]
        assert sync_all(settings).ok
    assert [path for path in left if path.exists()] == []


def test_unfinished_file_of_a_process_at_work_is_left_to_it(tmp_path: Path):
    """R5, R6"""
    lake = new_lake(tmp_path)
    begun, release = context.Event(), context.Event()
    process = context.Process(target=write_until_released, args=(lake.root, begun, release))
    process.start()
    assert begun.wait(60)
    assert sweep(lake) == 0
    release.set()
    process.join()
    assert process.exitcode == 0
    assert (lake.root / "written").read_bytes() == b"whole"


def test_landed_files_and_tables_are_not_swept(tmp_path: Path):
    """R1"""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    before = {path for path in lake.root.rglob("*") if path.is_file()}
    left = killed_while_writing(lake.root, "operations")
    assert sweep(lake) == 1
    assert not left.exists()
    assert {path for path in lake.root.rglob("*") if path.is_file()} == before


class Refusing(Disk):
    """A folder whose files can't be removed."""

    def remove(self, file: Path) -> None:
        raise PermissionError(13, "Permission denied", str(file))


def test_unfinished_file_that_cannot_be_removed_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lake = new_lake(tmp_path)
    left = killed_while_writing(lake.root, "landing")
    with caplog.at_level(logging.WARNING):
        assert sweep(Lake(lake.root, Files(Refusing()))) == 0
    assert f"{left} can't be removed: [Errno 13] Permission denied" in caplog.text
