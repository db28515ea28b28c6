"""What the lake asks of a file system: replace a file at once, remove, list, lock.

Everything that the lake does to a disk goes through `Files`, and through nothing else. A file is
written beside its place, synced, renamed over it, and the folder is synced too: after a crash or a
power cut there is the old file or the new one, never a torn one (R5, R6).

`Files` says in which order; each single step is one of `Disk`, which tests replace by one that fails,
crashes or loses its power at any of them.
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
"""Of files whose mode no setting says."""

_READ: Final = 0o444
_WRITE: Final = 0o222


class Disk:
    """The steps that reach a local disk. A step that only reads is none: it leaves nothing behind.

    Args:
        mode: of every file, whatever the umask; folders may be searched by whoever may read.
    """

    mode: int = FILE_MODE

    def __init__(self, mode: int = FILE_MODE) -> None:
        self.mode = mode

    def make_folder(self, folder: Path) -> None:
        """Make a folder in one that exists."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.mode != FILE_MODE:
            self.set_mode(folder)

    def remove_folder(self, folder: Path) -> None:
        """Remove an empty folder."""
        folder.rmdir()

    def create(self, file: Path) -> IO[bytes]:
        """Make a file that is not there yet, and open it for writing."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        if self.mode != FILE_MODE:
            os.fchmod(descriptor, self.mode)
        return os.fdopen(descriptor, "wb")

    def sync_file(self, file: Path) -> None:
        """Write a file's content to the disk."""
        _sync(file, os.O_RDONLY)

    def sync_folder(self, folder: Path) -> None:
        """Write a folder's entries to the disk."""
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)

    def protect(self, file: Path) -> None:
        """Let a file that another program made be read by whom the mode says, and be written by nobody."""
        file.chmod(self.mode & ~_WRITE)

    def set_mode(self, path: Path) -> None:
        """Give a file or folder its mode. A read-only file stays so; a folder keeps its setgid bit."""
        found = path.stat().st_mode
        if stat.S_ISDIR(found):
            path.chmod(folder_mode(self.mode) | (found & stat.S_ISGID))
        else:
            path.chmod(self.mode if found & stat.S_IWUSR else self.mode & ~_WRITE)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file over another."""
        source.replace(target)

    def remove(self, file: Path) -> None:
        """Remove a file if it is there."""
        file.unlink(missing_ok=True)


def folder_mode(mode: int) -> int:
    """The mode of folders for one of files: whoever may read may search."""
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
    """Files and folders that are there whole or not at all, whenever the power goes.

    Args:
        disk: what does the single steps.
        mode: who may read: of every file, and of folders accordingly. By default new files are their
            owner's alone, and `apply_mode` leaves those that are there as they are.
    """

    def __init__(self, disk: Disk | None = None, mode: int | None = None) -> None:
        self._disk = disk or Disk(mode or FILE_MODE)
        self._has_mode = mode is not None
        self._durable: set[Path] = set()

    def make_folder(self, folder: Path) -> None:
        """Make `folder` and those above it, durably; existing ones stay as they are."""
        if folder in self._durable:
            return
        existed = folder.is_dir()
        if not existed:
            self.make_folder(folder.parent)
            self._disk.make_folder(folder)
        # Also of one that is there already: who made it may have been killed before this. Those above
        # it were synced before it was made.
        if not existed or os.access(folder.parent, os.R_OK):
            self._disk.sync_folder(folder.parent)
        self._durable.add(folder)

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
        self._disk.remove(temporary)
        try:
            with self._disk.create(temporary) as file:
                yield file
            self._disk.sync_file(temporary)
            self.rename(temporary, target)
        except BaseException:
            self._disk.remove(temporary)  # a full disk is not to be filled further
            raise

    def publish_file(self, temporary: Path, target: Path) -> None:
        """Move a file that another program wrote to `target`, durably and at once.

        It is read-only from then on: it may be replaced, and nobody should write to it.
        """
        self._disk.protect(temporary)
        self._disk.sync_file(temporary)
        self.rename(temporary, target)

    def rename(self, source: Path, target: Path) -> None:
        """Rename over `target`, and make the rename last."""
        self._disk.rename(source, target)
        self._disk.sync_folder(target.parent)

    def apply_mode(self, root: Path, names: Iterable[str], marker: str) -> None:
        """Give a folder and what is in it the mode that is set, if one is and `marker` has another.

        What another user owns stays as it is, with a warning.

        Args:
            root: the folder.
            names: of the files and folders in it that are meant, with all that these hold.
            marker: of a file that gets its mode last, and so tells that the others have it.
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
            pass  # another process is at work
        except PermissionError as error:
            log.warning("its mode stays as it is: %s", explain(error))

    def keep(self, file: Path) -> None:
        """Make a file that is as it should be last: who put it there may have been killed before that."""
        self._disk.sync_folder(file.parent)

    def discard_tree(self, folder: Path) -> None:
        """Remove a folder with all in it, if it is there: it does not matter if it comes back."""
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                self._disk.remove_folder(path)
            else:
                self._disk.remove(path)
        if folder.is_dir():
            self._disk.remove_folder(folder)

    def discard(self, file: Path) -> None:
        """Remove a file that nobody needs, if it is there: it does not matter if it comes back."""
        self._disk.remove(file)

    def remove(self, file: Path) -> None:
        """Remove a file if it is there, and make that last."""
        self._disk.remove(file)
        self._disk.sync_folder(file.parent)

    def touch(self, file: Path) -> None:
        """Make an empty file if there is none, and make it last."""
        self.make_folder(file.parent)
        if not file.exists():
            self._disk.create(file).close()
        self._disk.sync_folder(file.parent)

    @contextmanager
    def locked(self, lock_file: Path, what: str) -> Iterator[None]:
        """Hold the lock `lock_file` during the block; say so if another process has it.

        The operating system frees the lock of a process that dies.
        """
        lock = self._lock(lock_file)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.warning("waiting for %s: another process holds %s", what, lock_file)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def locked_if_free(self, lock_file: Path) -> Iterator[bool]:
        """Hold the lock `lock_file` during the block, unless another process has it.

        Yields:
            Whether it is held.
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
