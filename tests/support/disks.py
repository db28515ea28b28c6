"""Disks that crash, fail or lose their power at a certain step.

Each wraps the steps of `pipeline.lake.files.Disk` and nothing else: the standard library stays as it is.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

from pipeline.lake.files import Disk

_ABSENT = 0


class Crash(BaseException):
    """The process is gone: nothing that runs on the way out reaches the disk."""


class CountingDisk(Disk):
    """Counts the moments at which something could go wrong: before each step.

    After a step is before the next one: the disk is the same. After the last one all is done.
    """

    in_halves = True

    def __init__(self) -> None:
        self.moments: Counter[str] = Counter()
        self.count = 0

    def make_folder(self, folder: Path) -> None:
        self._step("make folder", folder, super().make_folder)

    def create(self, file: Path) -> IO[bytes]:
        opened: list[IO[bytes]] = []
        self._step("create", file, lambda path: opened.append(Disk.create(self, path)))
        return _Writes(opened[0], self._wrote, in_halves=self.in_halves)  # type: ignore[return-value]

    def sync_file(self, file: Path) -> None:
        self._step("sync file", file, super().sync_file)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync folder", folder, super().sync_folder)

    def close_to_others(self, file: Path) -> None:
        self._step("close to others", file, super().close_to_others)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename", target, lambda path: Disk.rename(self, source, path))

    def remove(self, file: Path) -> None:
        self._step("remove", file, super().remove)

    def _wrote(self, file: Path, write: Callable[[], Any]) -> Any:
        done: list[Any] = []
        self._step("write", file, lambda _: done.append(write()))
        return done[0]

    def _step(self, name: str, path: Path, act: Callable[[Path], object]) -> None:
        self._moment(name)
        act(path)

    def _moment(self, name: str) -> None:
        self.count += 1
        self.moments[name] += 1


class _Writes:
    """A file that is written in two halves, each of them a step; or as it comes.

    How a library cuts its writes doesn't matter to who finds the file half written: two are enough.
    """

    def __init__(
        self,
        file: IO[bytes],
        wrote: Callable[[Path, Callable[[], Any]], Any],
        *,
        in_halves: bool,
    ) -> None:
        self._file, self._wrote, self._in_halves = file, wrote, in_halves
        self._waiting = bytearray()

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._in_halves:
            self._waiting += bytes(data)
        else:
            self._write(bytes(data))
        return size

    def flush(self) -> None:
        """Not yet."""

    def tell(self) -> int:
        return self._file.tell() + len(self._waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        try:
            if error is None and self._in_halves:
                middle = len(self._waiting) // 2
                self._write(self._waiting[:middle])
                self._write(self._waiting[middle:])
        finally:
            self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _write(self, data: bytes | bytearray) -> None:
        def write() -> None:
            self._file.write(data)
            self._file.flush()

        self._wrote(Path(str(self._file.name)), write)


class CrashingDisk(CountingDisk):
    """Is that of a process which is killed at its n-th moment; then nothing reaches it any more.

    Args:
        at: the number of the moment, from 1; 0 for never.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at
        self.crashed: str | None = None

    def _moment(self, name: str) -> None:
        if self.crashed:
            raise Crash(self.crashed)
        super()._moment(name)
        if self.count == self._at:
            self.crashed = name
            raise Crash(name)


class FailingDisk(CountingDisk):
    """Answers one step with an error, and all later ones that need room; removing always works.

    Args:
        at: the number of the step that fails first, from 1; 0 for none.
        error: what it fails with.
    """

    def __init__(self, at: int, error: OSError) -> None:
        super().__init__()
        self._at, self._error = at, error
        self.failed: str | None = None

    def _step(self, name: str, path: Path, act: Callable[[Path], object]) -> None:
        self.count += 1
        if self.count == self._at:
            self.failed = name
        needs_room = name in ("make folder", "create", "write", "sync file", "rename")
        if self.failed and (self.count == self._at or needs_room):
            raise OSError(self._error.errno, self._error.strerror, str(path))
        act(path)


class PowerlessDisk(CrashingDisk):
    """Loses its power at its n-th moment, and with it what was not synced.

    A file's content is safe once it was synced; a folder's entries are as they were when it was synced
    last. What lies between may have come through or not: `wreck` makes the disk that is left.

    Args:
        at: the number of the moment, from 1; 0 for never.
        top: the folder that everything lies in; it and what it holds at first is safe.
    """

    def __init__(self, at: int, top: Path) -> None:
        super().__init__(at)
        self._top = top
        self._contents: dict[int, bytes] = {}
        self._entries: dict[Path, dict[str, int | None]] = {}
        self._identities: dict[int, int] = {}
        self._made = 0
        for folder in (top, *(path for path in top.rglob("*") if path.is_dir())):
            self._keep_entries(folder)
        for file in (path for path in top.rglob("*") if path.is_file()):
            self._contents[self._identity(file)] = file.read_bytes()

    def create(self, file: Path) -> IO[bytes]:
        opened = super().create(file)
        self._is_new(file)
        return opened

    def close_to_others(self, file: Path) -> None:
        super().close_to_others(file)
        self._is_new(file)  # another program's

    def sync_file(self, file: Path) -> None:
        super().sync_file(file)
        if not self.crashed:
            self._contents[self._identity(file)] = file.read_bytes()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        if not self.crashed:
            self._keep_entries(folder)

    def wreck(self, target: Path, came_through: Callable[[str], bool]) -> None:
        """Make `target` what is left of `top`.

        Args:
            target: a folder that is not there yet.
            came_through: for each unsynced change, by its path, whether it reached the disk.
        """
        target.mkdir()
        self._wreck(self._top, target, came_through)

    def _wreck(self, folder: Path, target: Path, came_through: Callable[[str], bool]) -> None:
        safe = self._entries.get(folder, {})
        now = {path.name: self._entry(path) for path in folder.iterdir()} if folder.is_dir() else {}
        for name in sorted(safe.keys() | now.keys()):
            path = folder / name
            entry = safe.get(name, _ABSENT)
            if entry != now.get(name, _ABSENT) and came_through(f"entry {path}"):
                entry = now.get(name, _ABSENT)
            if entry is None:
                (target / name).mkdir()
                self._wreck(path, target / name, came_through)
            elif entry != _ABSENT:
                content = self._contents.get(entry, b"")
                if entry == now.get(name) and came_through(f"content {path}"):
                    content = path.read_bytes()
                (target / name).write_bytes(content)

    def _keep_entries(self, folder: Path) -> None:
        self._entries[folder] = {path.name: self._entry(path) for path in folder.iterdir()}

    def _entry(self, path: Path) -> int | None:
        """Which file it is; None for a folder."""
        return None if path.is_dir() else self._identity(path)

    def _is_new(self, file: Path) -> None:
        """The number of a file that is gone may come again: this is another file."""
        self._made += 1
        self._identities[file.stat().st_ino] = -1 - self._made

    def _identity(self, file: Path) -> int:
        number = file.stat().st_ino
        return self._identities.get(number, number)
