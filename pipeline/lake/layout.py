"""The layout of the lake: the paths of all files and folders.

Public tables are hive-partitioned, with one file per partition, so that any Parquet reader sees one
consistent state of each day. Internal files are in folders whose names begin with a dot.
"""

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from pipeline.errors import ArchiveError, UsageError
from pipeline.lake.files import Files
from pipeline.model.records import Partition
from pipeline.model.schema import FORMAT_VERSION, LAKE_TABLES, MARTS, Table
from pipeline.model.values import ACCOUNT_SID
from pipeline.settings import ArchiveSettings

PART = "part-0.parquet"
PENDING = ".pending"
"""The folder with the pending work of each partition."""
DERIVE = "derive"
"""Pending work: the delivery tables may be older than history."""
COMPACT = "compact"
"""Pending work: the tables are not compacted."""
MARKER = "lake.json"
LANDED_SUFFIX = ".arrow"
_OTHER_ENTRIES = (
    *("accounts.json", "landing", "warehouse.duckdb", "report.html"),
    *(".derived", ".locks", ".pending", ".set-aside", ".tmp"),
)
"""The files and folders of an archive that are neither tables nor the marker."""

_ACCOUNT_FOLDER = re.compile(f"account_id=({ACCOUNT_SID.pattern})")
_DAY_FOLDER = re.compile(r"created_date=(\d{4}-\d\d-\d\d)")


class LakeError(ArchiveError):
    """The lake has a damaged or foreign file, or can't be read by this version."""


@dataclass(frozen=True, slots=True)
class Lake:
    """An archive's folder.

    Attributes:
        root: the folder; ``EMAIL_ARCHIVE_DATA``.
        files: writes, removes and locks files.
    """

    root: Path
    files: Files = field(default_factory=Files)

    @classmethod
    def of(cls, settings: ArchiveSettings, files: Files | None = None) -> "Lake":
        """The archive that the settings name; by default on a local disk, with their file mode."""
        return cls(settings.data, files or Files(mode=settings.mode))

    def open(self) -> "Lake":
        """Check that this version can read the lake; create a new one if there is none.

        An older lake must be migrated before it is written: see `migration.up_to_date`.

        Raises:
            LakeError: a newer version wrote it, or its marker is damaged.
        """
        marker = self.root / MARKER
        if marker.exists():
            self.version()
            tables = (table.name for table in (*LAKE_TABLES, *MARTS))
            reports = (file.name for file in self.root.glob("report-*.html"))
            self.files.apply_mode(self.root, (*tables, *_OTHER_ENTRIES, *reports), MARKER)
        else:
            self.files.make_folder(self.root)
            self.files.apply_mode(self.root, (), MARKER)
            with self.files.locked(self.lock_file("lake"), f"the lake {self.root}"):
                if not marker.exists():
                    self.mark()
        return self

    def mark(self) -> None:
        """Write this version's format into the marker. The lock of the lake must be held."""
        text = json.dumps({"format": FORMAT_VERSION})
        with self.files.replacing(self.root / MARKER, self.temporary_file(MARKER)) as file:
            file.write(text.encode())

    def exists(self) -> bool:
        """Whether there is an archive."""
        return (self.root / MARKER).exists()

    def must_exist(self) -> "Lake":
        """Check that there is a lake that this version can read.

        Raises:
            UsageError: there is no lake at `root`.
            LakeError: a newer version wrote it, or its marker is damaged.
        """
        if not self.exists():
            msg = (
                f"no archive in {self.root}: expected {self.root / MARKER}. Set EMAIL_ARCHIVE_DATA or "
                "--data to the archive's folder, or make one with `email-archive sync`"
            )
            raise UsageError(msg)
        self.version()
        return self

    def version(self) -> int:
        """The version of the lake's format.

        Raises:
            LakeError: it is newer than this version's, or the marker is damaged.
        """
        marker = self.root / MARKER
        try:
            version = int(json.loads(marker.read_text(encoding="utf-8"))["format"])
        except (ValueError, KeyError, TypeError) as error:
            msg = f'expected {{"format": {FORMAT_VERSION}}} in {marker}; it is damaged ({error})'
            raise LakeError(msg) from error
        if version > FORMAT_VERSION:
            msg = (
                f"the lake {self.root} has format {version}, written by a newer version; this one "
                f"knows {FORMAT_VERSION}: upgrade twilio-email-archive"
            )
            raise LakeError(msg)
        return version

    def part(self, table: Table, partition: Partition) -> Path:
        """The one file of a table's partition."""
        return self._folder(table.name, partition, PART)

    def landing_folder(self, partition: Partition) -> Path:
        """The folder of a partition's landed files, which wait to be merged."""
        return self._folder("landing", partition)

    def landed(self, partition: Partition) -> list[Path]:
        """The landed files of a partition, in order of their names."""
        folder = self.landing_folder(partition)
        landed = (LANDED_SUFFIX, ".parquet")
        return [folder / name for name in _names(folder) if name.endswith(landed)]

    def derived(self, name: str) -> Path:
        """An internal file that can be derived again at any time."""
        return self.root / ".derived" / name

    def glob(self, table: Table) -> str:
        """The absolute pattern of all files of a table, for the warehouse's views.

        Wildcards in the archive's own path are escaped.
        """
        root = Path(glob.escape(str(self.root.absolute())))
        return str(root / table.name / "account_id=*" / "created_date=*" / PART)

    def accounts(self, folder: str) -> Iterator[str]:
        """The accounts that have a folder below ``<root>/<folder>``, in order."""
        for name in _names(self.root / folder):
            if account := _ACCOUNT_FOLDER.fullmatch(name):
                yield account[1]

    def partitions(self, folder: str) -> Iterator[Partition]:
        """The partitions with a folder below ``<root>/<folder>``, in order."""
        for account in self.accounts(folder):
            for day_folder in _names(self.root / folder / f"account_id={account}"):
                day = _DAY_FOLDER.fullmatch(day_folder)
                if day and (found := _date(day[1])):
                    yield Partition(account, found)

    def files_of(self, table: Table) -> Iterator[tuple[Partition, os.stat_result]]:
        """The partitions of a table that have a file, in order, with the file's metadata."""
        for partition in self.partitions(table.name):
            # Strings instead of Paths: a year of days needs thousands of them, for each table.
            account, day = partition.account_id, partition.day.isoformat()
            path = f"{self.root}/{table.name}/account_id={account}/created_date={day}/{PART}"
            with suppress(FileNotFoundError):
                yield partition, os.stat(path)  # noqa: PTH116 - see above

    def versions(self, partition: Partition) -> dict[Table, str]:
        """The version of each of a partition's tables that is there."""
        files = {table: self.part(table, partition) for table in (*LAKE_TABLES, *MARTS)}
        return {t: file_version(file.stat()) for t, file in files.items() if file.exists()}

    def pending(self) -> set[Partition]:
        """The partitions with landed scans that are not merged."""
        return {p for p in self.partitions("landing") if self.has_landed(p)}

    def has_landed(self, partition: Partition) -> bool:
        """Whether a partition has landed files, or can't be listed."""
        try:
            return bool(self.landed(partition))
        except PermissionError:
            return True  # the merge reports the error

    def with_work(self, work: str) -> set[Partition]:
        """The partitions with a kind of pending work: `DERIVE` or `COMPACT`."""
        return {p for p in self.partitions(PENDING) if _may_exist(self._work_marker(p, work))}

    def has_work(self, partition: Partition, work: str) -> bool:
        """Whether a partition has a kind of pending work."""
        return self._work_marker(partition, work).exists()

    def note_work(self, partition: Partition, *work: str) -> None:
        """Note durably that a partition has work to do."""
        for one in work:
            self.files.touch(self._work_marker(partition, one))

    def finish_work(self, partition: Partition, work: str) -> None:
        """Note durably that a partition's work is done."""
        if self.has_work(partition, work):
            self.files.remove(self._work_marker(partition, work))

    def lock_file(self, name: str) -> Path:
        """The lock file of that name."""
        return self.root / ".locks" / f"{name}.lock"

    def sync_lock(self, account_id: str) -> Path:
        """The file that is locked while an account is synced."""
        return self.lock_file(f"sync-{account_id}")

    def partition_lock(self, partition: Partition) -> Path:
        """The lock file that must be held to change a partition."""
        return self.lock_file(f"{_account_id(partition)}-{partition.day.isoformat()}")

    @contextmanager
    def locked(self, partition: Partition) -> Iterator[None]:
        """Hold a partition's lock during the block."""
        with self.files.locked(self.partition_lock(partition), str(partition)):
            yield

    def pending_lookups_file(self, partition: Partition) -> Path:
        """The file of a partition's pending lookups; absent if there are none."""
        return self._folder(PENDING, partition) / "lookups.parquet"

    def with_pending_lookups(self) -> set[Partition]:
        """The partitions with pending lookups."""
        return {p for p in self.partitions(PENDING) if _may_exist(self.pending_lookups_file(p))}

    def temporary_file(self, name: str, partition: Partition | None = None) -> Path:
        """The path at which a file is written before it is renamed. The lock of its target must be held."""
        folder = self._folder(".tmp", partition) if partition else self.root / ".tmp"
        return folder / f"{name}.tmp"

    def unfinished(self, partition: Partition) -> list[Path]:
        """The temporary files of a partition, of a killed or a running process."""
        folder = self._folder(".tmp", partition)
        return [folder / name for name in _names(folder) if name.endswith(".tmp")]

    def set_aside(self, name: str) -> Path:
        """The folder in which a repair of that name keeps the rows that it removed."""
        return self.root / ".set-aside" / name

    @property
    def spill(self) -> Path:
        """DuckDB's spill folder. DuckDB removes files of killed processes there."""
        return self.root / ".tmp" / "spill"

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.root / "warehouse.duckdb"

    def foreign_files(self) -> list[Path]:
        """Foreign files in the folders of public tables, which other programs would read as rows."""
        found = []
        for table in (*LAKE_TABLES, *MARTS):
            root = str(self.root / table.name)
            days = [(p.account_id, p.day.isoformat()) for p in self.partitions(table.name)]
            ours = {f"{root}/account_id={account}/created_date={day}" for account, day in days}
            usual = {folder for folder in ours if _has_part_alone(folder)}
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if f"{folder}/{name}" not in usual]
                here = (Path(folder, n) for n in names if n != PART or folder not in ours)
                found += [path for path in here if path.is_file()]
        return sorted(found)

    def _work_marker(self, partition: Partition, work: str) -> Path:
        return self._folder(PENDING, partition, work)

    def _folder(self, folder: str, partition: Partition, *below: str) -> Path:
        account, day = _account_id(partition), partition.day.isoformat()
        # One call with all parts: a year of days needs thousands of paths.
        return self.root.joinpath(folder, f"account_id={account}", f"created_date={day}", *below)


def file_version(stat: os.stat_result) -> str:
    """Identifies one version of a file: inode, size and times.

    A replaced file has another inode. A file system may reuse an inode within one tick of its clock, so size
    and ctime are compared too.
    """
    return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _may_exist(path: Path) -> bool:
    """Whether there is a file, or the system refuses access; opening it then reports the error."""
    try:
        return path.exists()
    except PermissionError:
        return True


def _has_part_alone(folder: str) -> bool:
    try:
        return os.listdir(folder) == [PART]  # noqa: PTH208 - a tenth of iterdir's time
    except OSError:
        return False


def _names(folder: Path) -> list[str]:
    """The names in a folder, in order; empty if there is no such folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - a tenth of iterdir's time
    except (FileNotFoundError, NotADirectoryError):
        return []


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _account_id(partition: Partition) -> str:
    """The account id, validated, since it becomes part of a path."""
    if not ACCOUNT_SID.fullmatch(partition.account_id):
        msg = f"expected an account SID, AC and 32 hex digits; got {partition.account_id!r}"
        raise UsageError(msg)
    return partition.account_id
