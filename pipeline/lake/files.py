"""Atomic and durable file operations, and locks.

All writes of the lake go through `Files`. A file is written under a temporary name, synced and renamed, and
then its folder is synced. After a crash or a power cut there is either the old file or the new one (R5, R6).

`Files` decides the order of steps; `Disk` does each step. Tests replace `Disk` to fail, crash or lose power
at any step.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from filelock import FileLock, Timeout

from pipeline.oserrors import explain

log = logging.getLogger(__name__)

FILE_MODE: Final = 0o600
"""The mode of files by default."""

_READ: Final = 0o444
_WRITE: Final = 0o222


class Disk:
    """The steps that change a local disk.

    Args:
        mode: the mode of every file, independent of the umask. Whoever may read files may search folders.
    """

    mode: int = FILE_MODE

    def __init__(self, mode: int = FILE_MODE) -> None:
        self.mode = mode

    def make_folder(self, folder: Path) -> None:
        """Make a folder. Its parent must exist."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.mode != FILE_MODE:
            self.set_mode(folder)

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        folder.rmdir()

    def create(self, file: Path) -> IO[bytes]:
        """Create a file, which must not exist, and open it for writing."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        if self.mode != FILE_MODE:
            os.fchmod(descriptor, self.mode)
        return os.fdopen(descriptor, "wb")

    def sync_file(self, file: Path) -> None:
        """Sync a file's content to the disk."""
        _sync(file, os.O_RDONLY)

    def sync_folder(self, folder: Path) -> None:
        """Sync a folder's entries to the disk."""
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)

    def protect(self, file: Path) -> None:
        """Make a file read-only, readable for whom the mode says."""
        file.chmod(self.mode & ~_WRITE)

    def set_mode(self, path: Path) -> None:
        """Set the mode of a file or folder. Read-only files stay read-only; folders keep their setgid bit."""
        found = path.stat().st_mode
        if stat.S_ISDIR(found):
            path.chmod(folder_mode(self.mode) | (found & stat.S_ISGID))
        else:
            path.chmod(self.mode if found & stat.S_IWUSR else self.mode & ~_WRITE)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another."""
        source.replace(target)

    def remove(self, file: Path) -> None:
        """Remove a file if it exists."""
        file.unlink(missing_ok=True)


def folder_mode(mode: int) -> int:
    """The mode of folders for a mode of files: who may read may search."""
    return mode | (mode & _READ) >> 2


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Files:
    """Atomic, durable changes of files and folders.

    Args:
        disk: does the single steps.
        mode: the mode of every file; that of folders follows from it. By default new files have `FILE_MODE`,
            and `apply_mode` does not change existing ones.
    """

    def __init__(self, disk: Disk | None = None, mode: int | None = None) -> None:
        self._disk = disk or Disk(mode or FILE_MODE)
        self._has_mode = mode is not None
        self._durable: set[Path] = set()

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and its missing parents durably."""
        if folder in self._durable:
            return
        existed = folder.is_dir()
        if not existed:
            self.make_folder(folder.parent)
            self._disk.make_folder(folder)
        # Also for an existing folder: the process that made it may have been killed before this sync.
        # Its own parents were synced before it was made.
        if not existed or os.access(folder.parent, os.R_OK):
            self._disk.sync_folder(folder.parent)
        self._durable.add(folder)

    @contextmanager
    def replacing(self, target: Path, temporary: Path) -> Iterator[IO[bytes]]:
        """Write a file that appears at `target` atomically when the block ends without an exception.

        Args:
            target: the file to create or replace.
            temporary: the path to write to first, on the same file system. A file that a crash left there is
                removed.
        """
        self.make_folder(temporary.parent)
        self.make_folder(target.parent)
        self._disk.remove(temporary)
        try:
            with self._disk.create(temporary) as file:
                yield file
            self._disk.sync_file(temporary)
            self.rename(temporary, target)
        except BaseException:
            self._disk.remove(temporary)  # the disk may be full
            raise

    def publish_file(self, temporary: Path, target: Path) -> None:
        """Move a file that DuckDB wrote to `target`, durably and atomically, and make it read-only."""
        self._disk.protect(temporary)
        self._disk.sync_file(temporary)
        self.rename(temporary, target)

    def rename(self, source: Path, target: Path) -> None:
        """Rename over `target` durably."""
        self._disk.rename(source, target)
        self._disk.sync_folder(target.parent)

    def apply_mode(self, root: Path, names: Iterable[str], marker: str) -> None:
        """Set the mode of a folder and its contents, unless `marker` already has it.

        Files of another user are left unchanged, with a warning.

        Args:
            root: the folder.
            names: the files and folders in it to change, with their contents.
            marker: the name of a file whose mode is set last, so that it shows that the others have it.
        """
        last = root / marker
        if not self._has_mode or (last.exists() and _mode(last) == self._disk.mode):
            return
        self._try_mode(root)
        for path in (root / name for name in names):
            self._try_mode(path)
            for folder, folders, files in os.walk(path):
                for name in (*folders, *files):
                    self._try_mode(Path(folder, name))
        self._try_mode(last)

    def _try_mode(self, path: Path) -> None:
        try:
            self._disk.set_mode(path)
        except FileNotFoundError:
            pass  # another process removed it
        except PermissionError as error:
            log.warning("its mode is not changed: %s", explain(error))

    def keep(self, file: Path) -> None:
        """Make an existing file durable: the process that wrote it may have been killed before the sync."""
        self._disk.sync_folder(file.parent)

    def discard_tree(self, folder: Path) -> None:
        """Remove a folder with its contents, if it exists. A power cut may bring it back."""
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                self._disk.remove_folder(path)
            else:
                self._disk.remove(path)
        if folder.is_dir():
            self._disk.remove_folder(folder)

    def discard(self, file: Path) -> None:
        """Remove a file if it exists. A power cut may bring it back."""
        self._disk.remove(file)

    def remove(self, file: Path) -> None:
        """Remove a file durably, if it exists."""
        self._disk.remove(file)
        self._disk.sync_folder(file.parent)

    def touch(self, file: Path) -> None:
        """Create an empty file durably, if it does not exist."""
        self.make_folder(file.parent)
        if not file.exists():
            self._disk.create(file).close()
        self._disk.sync_folder(file.parent)

    @contextmanager
    def locked(self, lock_file: Path, what: str) -> Iterator[None]:
        """Hold the lock `lock_file` during the block; log a warning while another process holds it.

        The operating system releases the lock of a process that dies.
        """
        lock = self._lock(lock_file)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.warning("waiting for %s: another run holds %s", what, lock_file)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def locked_if_free(self, lock_file: Path) -> Iterator[bool]:
        """Hold the lock `lock_file` during the block, unless another process holds it.

        Yields:
            Whether the lock is held.
        """
        lock = self._lock(lock_file)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, lock_file: Path) -> FileLock:
        self.make_folder(lock_file.parent)
        return FileLock(lock_file, mode=self._disk.mode)
