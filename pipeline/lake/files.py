"""What the lake asks of a file system: replace a file at once, remove, list, lock.

Everything that the lake does to a disk goes through `Files`, and through nothing else. A file is
written beside its place, synced, renamed over it, and the folder is synced too: after a crash or a
power cut there is the old file or the new one, never a torn one (R5, R6).
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class Files:
    """A local disk. Files are readable by their owner alone, and so are folders."""

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and those above it, durably; existing ones stay as they are."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        self.sync_folder(folder.parent)

    @contextmanager
    def replacing(self, target: Path, temporary: Path) -> Iterator[IO[bytes]]:
        """Write a file that appears at `target` whole, when the block ends without an exception.

        Args:
            target: the file to make or to replace.
            temporary: where it is written first: on the same disk, and out of readers' sight. What
                a crash left there is overwritten.
        """
        self.make_folder(temporary.parent)
        self.make_folder(target.parent)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self.rename(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk is not to be filled further
            raise

    def publish_file(self, temporary: Path, target: Path) -> None:
        """Move a file that another program wrote to `target`, durably and at once."""
        temporary.chmod(FILE_MODE)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.rename(temporary, target)

    def rename(self, source: Path, target: Path) -> None:
        """Rename over `target`, and make the rename last."""
        source.replace(target)
        self.sync_folder(target.parent)

    def remove(self, file: Path) -> None:
        """Remove a file if it is there, and make that last."""
        file.unlink(missing_ok=True)
        self.sync_folder(file.parent)

    def touch(self, file: Path) -> None:
        """Make an empty file, and make it last."""
        self.make_folder(file.parent)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, FILE_MODE))
        self.sync_folder(file.parent)

    def sync_folder(self, folder: Path) -> None:
        """Write a folder's entries to the disk, so that a rename survives a power cut."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self, lock_file: Path, what: str) -> Iterator[None]:
        """Hold the lock `lock_file` during the block; say so if another process has it.

        The operating system frees the lock of a process that dies.
        """
        self.make_folder(lock_file.parent)
        lock = FileLock(lock_file, mode=FILE_MODE)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.warning("waiting for %s: another process holds %s", what, lock_file)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
