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


class Platter:
    """What would be left if the power went: each file's content and each folder's entries when synced last.

    One machine has one, however many processes run on it: what a killed one did not sync is not safe
    for the next one either, until that syncs it.

    Args:
        top: the folder that everything lies in; it and what it holds at first is safe.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._contents: dict[int, bytes] = {}
        self._entries: dict[Path, dict[str, int | None]] = {}
        self._identities: dict[int, int] = {}
        self._made = 0
        for folder in (top, *(path for path in top.rglob("*") if path.is_dir())):
            self.keep_entries(folder)
        for file in (path for path in top.rglob("*") if path.is_file()):
            self.keep_content(file)

    def keep_content(self, file: Path) -> None:
        """A file was synced."""
        self._contents[self._identity(file)] = file.read_bytes()

    def keep_entries(self, folder: Path) -> None:
        """A folder was synced."""
        self._entries[folder] = {path.name: self._entry(path) for path in folder.iterdir()}

    def is_new(self, file: Path) -> None:
        """A file was made. The number of one that is gone may come again: this is another file."""
        self._made += 1
        self._identities[file.stat().st_ino] = -1 - self._made

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

    def _entry(self, path: Path) -> int | None:
        """Which file it is; None for a folder."""
        return None if path.is_dir() else self._identity(path)

    def _identity(self, file: Path) -> int:
        number = file.stat().st_ino
        return self._identities.get(number, number)


class CountingDisk(Disk):
    """Counts the moments at which something could go wrong: before each step, and after the last.

    Between two steps nothing reaches the disk, so what a crash after one leaves is what a crash before
    the next one leaves, and each moment is counted as both. `finish` is the moment after the last.

    Args:
        platter: records what was synced; None if power cuts are not simulated.

    Attributes:
        count: how many moments there were.
        moments: how many of each kind, by the step that came next: "the end" after the last.
        after: how many of each kind, by the step that came before: "the beginning" before the first.
        renamed: which moments came right after a rename, by the path that was replaced.
    """

    in_halves = True

    def __init__(self, platter: Platter | None = None) -> None:
        self.moments: Counter[str] = Counter()
        self.after: Counter[str] = Counter()
        self.renamed: list[tuple[Path, int]] = []
        self.count = 0
        self._last = "the beginning"
        self._platter = platter

    def make_folder(self, folder: Path) -> None:
        self._step("make folder", folder, super().make_folder)

    def create(self, file: Path) -> IO[bytes]:
        opened: list[IO[bytes]] = []
        self._step("create", file, lambda path: opened.append(Disk.create(self, path)))
        if self._platter:
            self._platter.is_new(file)
        return _Writes(opened[0], self._wrote, in_halves=self.in_halves)  # type: ignore[return-value]  # as much of a file as is used

    def sync_file(self, file: Path) -> None:
        self._step("sync file", file, super().sync_file)
        if self._platter:
            self._platter.keep_content(file)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync folder", folder, super().sync_folder)
        if self._platter:
            self._platter.keep_entries(folder)

    def protect(self, file: Path) -> None:
        self._step("protect", file, super().protect)
        if self._platter:
            self._platter.is_new(file)  # another program's

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename", target, lambda path: Disk.rename(self, source, path))

    def remove(self, file: Path) -> None:
        self._step("remove", file, super().remove)

    def finish(self) -> None:
        """The step is done, but the caller has not been told."""
        self._moment("the end")

    def _wrote(self, file: Path, write: Callable[[], Any]) -> Any:
        done: list[Any] = []
        self._step("write", file, lambda _: done.append(write()))
        return done[0]

    def _step(self, name: str, path: Path, act: Callable[[Path], object]) -> None:
        self._moment(name)
        act(path)
        if name == "rename":
            self.renamed.append((path, self.count + 1))

    def _moment(self, name: str) -> None:
        self.count += 1
        self.moments[name] += 1
        self.after[self._last] += 1
        self._last = name


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
        platter: as of `CountingDisk`.

    Attributes:
        broken: the kind of the moment, once it has come: the step that came next, and the one before.
    """

    def __init__(self, at: int, platter: Platter | None = None) -> None:
        super().__init__(platter)
        self._at = at
        self.broken: tuple[str, str] | None = None

    def _moment(self, name: str) -> None:
        if self.broken:
            raise Crash(self.broken[0])
        before = self._last
        super()._moment(name)
        if self.count == self._at:
            self.broken = (name, before)
            raise Crash(name)


class PowerlessDisk(CrashingDisk):
    """Loses its power at its n-th moment, and with it what was not synced.

    A file's content is safe once it was synced; a folder's entries are as they were when it was synced
    last. What lies between may have come through or not: `wreck` makes the disk that is left.

    Args:
        at: the number of the moment, from 1; 0 for never.
        top: the folder that everything lies in; it and what it holds at first is safe.
        platter: what is safe otherwise, if other processes worked there before.
    """

    def __init__(self, at: int, top: Path, platter: Platter | None = None) -> None:
        self._safe = platter or Platter(top)
        super().__init__(at, self._safe)
        self.wreck = self._safe.wreck


class FailingDisk(CountingDisk):
    """LookupBatch one step with an error, and all later ones that need room; removing always works.

    Args:
        at: the number of the step that fails first, from 1; 0 for none.
        error: what it fails with.
        once: whether the later steps work again.
        platter: as of `CountingDisk`.
    """

    def __init__(
        self, at: int, error: OSError, *, once: bool = False, platter: Platter | None = None
    ) -> None:
        super().__init__(platter)
        self._at, self.error, self._once = at, error, once
        self.failed: str | None = None

    def _step(self, name: str, path: Path, act: Callable[[Path], object]) -> None:
        self._moment(name)
        if self.count == self._at:
            self.failed = name
        needs_room = name in ("make folder", "create", "write", "sync file", "rename")
        if self.count == self._at or (self.failed and needs_room and not self._once):
            raise OSError(self.error.errno, self.error.strerror, str(path))
        act(path)
