"""What an archive holds, from its files' footers and its latest coverage: cheap, and without credentials."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import COVERAGE, HISTORY, OPERATIONS, REJECTS, Table


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What the archive holds of one account.

    Attributes:
        account_id: the account.
        first_day: the oldest UTC day that has a table.
        last_day: the newest one.
        days: days that have a table.
        operations: operations.
        states: distinct states in their history.
        rejects: distinct records that could not be read.
        scans: scans that were folded.
        last_scan_at: when the latest folded scan began: UTC, by the API's clock.
        bytes: size of the account's public tables.
        waiting: days with scans that landed and are not folded, or not summarized.
    """

    account_id: str
    first_day: date
    last_day: date
    days: int
    operations: int
    states: int
    rejects: int
    scans: int
    last_scan_at: datetime | None
    bytes: int
    waiting: int


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What an archive holds.

    Attributes:
        root: its folder.
        accounts: what it holds of each account.
        warehouse_bytes: size of the published warehouse; None if there is none yet.
        foreign: files in the lake that are none of the archive's; readers would read them too.
    """

    root: Path
    accounts: tuple[AccountStatus, ...]
    warehouse_bytes: int | None
    foreign: tuple[Path, ...]

    def as_json(self) -> dict[str, object]:
        """The figures, ready for JSON: days and times as ISO 8601, UTC."""
        return {
            "root": str(self.root.absolute()),
            "accounts": [
                {
                    name: value.isoformat().replace("+00:00", "Z")
                    if isinstance(value, date)
                    else value
                    for name, value in asdict(account).items()
                }
                for account in self.accounts
            ],
            "warehouse_bytes": self.warehouse_bytes,
            "foreign_files": [str(path) for path in self.foreign],
        }


def status(lake: Lake) -> ArchiveStatus:
    """Look at an archive.

    Raises:
        UsageError: there is none.
        LakeError: a file is damaged, or a newer version wrote the lake.
    """
    lake.must_exist()
    pending = lake.pending() | lake.stale()
    scanned = list(lake.partitions(COVERAGE.name))
    known = {partition.account_id for partition in (*scanned, *pending)}
    return ArchiveStatus(
        lake.root,
        tuple(_account(lake, account_id, scanned, pending) for account_id in sorted(known)),
        lake.warehouse.stat().st_size if lake.warehouse.exists() else None,
        tuple(lake.foreign_files()),
    )


def _account(
    lake: Lake, account_id: str, scanned: Iterable[Partition], pending: Iterable[Partition]
) -> AccountStatus:
    waiting = [p for p in pending if p.account_id == account_id]
    mine = [p for p in scanned if p.account_id == account_id]
    days = sorted(p.day for p in {*mine, *waiting})
    latest = [pc.max(_observed(lake, p)).as_py() for p in mine]
    return AccountStatus(
        account_id=account_id,
        first_day=days[0],
        last_day=days[-1],
        days=len(mine),
        operations=_rows(lake, OPERATIONS, mine),
        states=_rows(lake, HISTORY, mine),
        rejects=_rows(lake, REJECTS, mine),
        scans=_rows(lake, COVERAGE, mine),
        last_scan_at=max((moment for moment in latest if moment), default=None),
        bytes=sum(
            path.stat().st_size
            for table in (OPERATIONS, HISTORY, COVERAGE, REJECTS)
            for path in _files(lake, table, mine)
        ),
        waiting=len(waiting),
    )


def _observed(lake: Lake, partition: Partition) -> object:
    table = parquet.read(lake.part(COVERAGE, partition), COVERAGE.arrow, ["observed_at"])
    return table["observed_at"]


def _rows(lake: Lake, table: Table, partitions: Iterable[Partition]) -> int:
    return sum(pq.read_metadata(path).num_rows for path in _files(lake, table, partitions))


def _files(lake: Lake, table: Table, partitions: Iterable[Partition]) -> list[Path]:
    paths = (lake.part(table, partition) for partition in partitions)
    return [path for path in paths if path.exists()]
