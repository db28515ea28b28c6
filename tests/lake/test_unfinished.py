"""What killed runs leave unfinished goes, even of days that nobody writes again; others' work stays."""

import multiprocessing
import os
import signal
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.emulator import World
from pipeline.lake.files import Disk, Files
from pipeline.lake.layout import Lake
from pipeline.merge_runner import remove_unfinished
from pipeline.model.records import Partition
from tests.support.archives import account, sync_all
from tests.support.factories import ACCOUNT, DAY, PARTITION, at, landed, new_lake, record, scan

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pipeline.lake.layout", "tests.support.factories"])

OTHER_DAY = Partition(ACCOUNT, DAY + timedelta(days=1))


def die_while_writing(root: Path, name: str, partition: Partition) -> None:
    """As a landing or a merge does it, up to the kill."""
    lake = Lake(root)
    with lake.files.locked(lake.partition_lock(partition), "the day"):
        target, temporary = root / "never", lake.temporary_file(name, partition)
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
            assert release.wait(60)


def killed_while_writing(root: Path, name: str, partition: Partition = PARTITION) -> Path:
    """The file that a killed process left."""
    process = context.Process(target=die_while_writing, args=(root, name, partition))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = Lake(root).temporary_file(name, partition)
    assert left.read_bytes() == b"half"
    return left


def test_sync_removes_unfinished_files_of_a_forgotten_day(tmp_path: Path):
    """R5: nobody writes there again, so nobody else would overwrite it."""
    now = at("2026-12-20")
    assert now.date() > DAY
    with account(World(7, 40.0, at("2026-12-18")), now, tmp_path) as (_, settings):
        assert sync_all(settings).ok
        left = [killed_while_writing(tmp_path, name) for name in ("landing", "history")]
        assert sync_all(settings).ok
    assert [path for path in left if path.exists()] == []


def test_unfinished_file_of_a_process_at_work_is_left_to_it(tmp_path: Path):
    """R5, R6: and nobody waits for it; what was left of other days goes."""
    lake = new_lake(tmp_path)
    left = killed_while_writing(lake.root, "landing", OTHER_DAY)
    begun, release = context.Event(), context.Event()
    process = context.Process(target=write_until_released, args=(lake.root, begun, release))
    process.start()
    assert begun.wait(60)
    remove_unfinished(lake)
    assert lake.temporary_file("landing", PARTITION).exists()
    assert not left.exists()
    release.set()
    process.join()
    assert process.exitcode == 0
    assert (lake.root / "written").read_bytes() == b"whole"


def test_only_unfinished_files_are_removed_and_the_lock_released(tmp_path: Path):
    """R1, R5"""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    foreign = lake.temporary_file("landing", PARTITION).with_name("note.txt")
    foreign.write_text("mine")
    before = {path for path in lake.root.rglob("*") if path.is_file()}
    left = killed_while_writing(lake.root, "operations")
    remove_unfinished(lake)
    assert not left.exists()
    assert {path for path in lake.root.rglob("*") if path.is_file()} == before
    with lake.files.locked_if_free(lake.partition_lock(PARTITION)) as is_ours:
        assert is_ours


class Refusing(Disk):
    """A disk that removes nothing of one day."""

    def remove(self, file: Path) -> None:
        if f"created_date={DAY}" in str(file):
            raise PermissionError(13, "Permission denied", str(file))
        super().remove(file)


def test_unremovable_file_is_reported_and_keeps_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lake = new_lake(tmp_path)
    left = killed_while_writing(lake.root, "landing")
    other = killed_while_writing(lake.root, "landing", OTHER_DAY)
    remove_unfinished(Lake(lake.root, Files(Refusing())))
    assert left.exists()
    assert not other.exists()
    assert f"unfinished files of {PARTITION}, left by a killed run, can't be removed" in caplog.text
    assert "[Errno 13]" in caplog.text


def test_day_whose_lock_cannot_be_had_keeps_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    lake = new_lake(tmp_path)
    left = killed_while_writing(lake.root, "landing")
    other = killed_while_writing(lake.root, "landing", OTHER_DAY)
    lake.partition_lock(PARTITION).unlink()
    lake.partition_lock(PARTITION).mkdir()
    remove_unfinished(Lake(lake.root))
    assert left.exists()
    assert not other.exists()
    assert f"unfinished files of {PARTITION}, left by a killed run, can't be removed" in caplog.text
