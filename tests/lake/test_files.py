"""Files appear whole or not at all; locks are waited for, and said so."""

import logging
import multiprocessing
import stat
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.lake.files import Files

context = multiprocessing.get_context("forkserver")


def test_file_appears_only_when_it_is_whole(tmp_path: Path):
    """R6"""
    target, temporary = tmp_path / "a" / "part", tmp_path / "tmp" / "part.tmp"
    with Files().replacing(target, temporary) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert not temporary.exists()


def test_replaced_file_is_there_at_every_moment(tmp_path: Path):
    """R6: a reader opens the old one or the new one."""
    target = tmp_path / "part"
    target.write_bytes(b"0")
    done = threading.Event()

    def replace() -> None:
        for number in range(500):
            with Files().replacing(target, tmp_path / "part.tmp") as file:
                file.write(f"{number}".encode())
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    read = []
    while not done.is_set():
        read.append(int(target.read_bytes()))
    writer.join()
    assert read == sorted(read)


def test_file_stays_as_it_was_when_writing_fails(tmp_path: Path):
    """R5"""
    target, temporary = tmp_path / "part", tmp_path / "part.tmp"
    target.write_bytes(b"old")

    def write_and_fail() -> None:
        with Files().replacing(target, temporary) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_and_fail()
    assert target.read_bytes() == b"old"
    assert not temporary.exists()


def test_what_a_crash_left_is_overwritten(tmp_path: Path):
    """R5"""
    target, temporary = tmp_path / "part", tmp_path / "part.tmp"
    temporary.write_bytes(b"left by a process that was killed")
    with Files().replacing(target, temporary) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


def test_files_and_folders_are_their_owners_alone(tmp_path: Path):
    target = tmp_path / "made" / "too" / "part"
    with Files().replacing(target, tmp_path / "made" / "tmp" / "part.tmp") as file:
        file.write(b"x")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (target, *target.parents[:2])}
    assert list(modes.values()) == [0o600, 0o700, 0o700]


def hold(lock_file: Path, held: Event, release: Event) -> None:
    with Files().locked(lock_file, "the day"):
        held.set()
        release.wait(60)


def test_lock_of_another_process_is_waited_for_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """R5"""
    lock_file = tmp_path / "locks" / "day.lock"
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(lock_file, held, release))
    process.start()
    assert held.wait(60)

    class Releasing(logging.Handler):
        """Lets the other process go once the message has been said: before that, nothing would."""

        def emit(self, _: logging.LogRecord) -> None:
            release.set()

    handler = Releasing()
    logging.getLogger("pipeline.lake.files").addHandler(handler)
    try:
        with Files().locked(lock_file, "the day"):
            assert release.is_set()
    finally:
        logging.getLogger("pipeline.lake.files").removeHandler(handler)
    process.join()
    assert [entry.getMessage() for entry in caplog.records] == [
        f"waiting for the day: another run holds {lock_file}"
    ]


def test_lock_of_a_killed_process_is_free(tmp_path: Path):
    """R5"""
    lock_file = tmp_path / "day.lock"
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(lock_file, held, release))
    process.start()
    assert held.wait(60)
    process.kill()
    process.join()
    with Files().locked(lock_file, "the day"):
        assert not release.is_set()
