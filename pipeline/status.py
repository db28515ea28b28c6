"""What an archive holds and whether anything is about to be lost: cheap, and without credentials."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.anomalies import Anomaly, latest_anomalies
from pipeline.counting import Reading, readings
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake, LakeError
from pipeline.schema import (
    COVERAGE,
    FORMAT_VERSION,
    HISTORY,
    OPERATIONS,
    REJECTS,
    SLOT_COVERAGE,
    TIMESTAMP,
    Table,
)
from pipeline.views import slot_states, unreadable
from pipeline.windows import CLOCK_MARGIN, retained_days


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One slot, as of now; the states are those of `schema.COVERAGE_SLOTS`."""

    slot: datetime
    state: str
    hours_left: float


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
        slots: the slots of the last 8 days.
        at_risk: those that lose something soon, unless they are scanned.
        gaps: how many slots are lost in all.
        lost: those whose deadline passed since the latest scan: nobody has been told of them yet.
        anomalies: rates of the last 28 days that left their band, the newest first.
        reading: how its counts are read for the rates; None if no warehouse says so yet.
        future_scans: scans that a wrong clock dated later than now: what is told of the coverage is wrong.
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
    slots: tuple[SlotStatus, ...]
    at_risk: tuple[SlotStatus, ...]
    gaps: int
    lost: tuple[SlotStatus, ...]
    anomalies: tuple[Anomaly, ...]
    reading: Reading | None
    future_scans: int


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What an archive holds.

    Attributes:
        root: its folder.
        now: the moment that it is told for; UTC.
        accounts: what it holds of each account.
        warehouse_bytes: size of the published warehouse; None if there is none yet.
        foreign: files in the lake that are none of the archive's; readers would read them too.
        unreadable: what is wrong with files that can't be read. Their rows are not counted, and the slots
            of a day whose coverage is among them are not shown.
    """

    root: Path
    now: datetime
    accounts: tuple[AccountStatus, ...]
    warehouse_bytes: int | None
    foreign: tuple[Path, ...]
    unreadable: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all can be read, nothing is at risk or newly lost, and no scan is of the future."""
        wrong = (one.at_risk or one.lost or one.future_scans for one in self.accounts)
        return not (self.unreadable or any(wrong))

    def as_json(self) -> dict[str, object]:
        """The figures, ready for JSON: days and times as ISO 8601, UTC."""
        return {
            "root": str(self.root.absolute()),
            "now": _plain(self.now),
            "ok": self.ok,
            "accounts": [_plain(asdict(account)) for account in self.accounts],
            "warehouse_bytes": self.warehouse_bytes,
            "foreign_files": [str(path) for path in self.foreign],
            "unreadable_files": list(self.unreadable),
        }


def _plain(value: Any) -> Any:
    """A value ready for JSON."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else value


def status(lake: Lake, now: datetime, *, trust_clock: bool = False) -> ArchiveStatus:
    """Look at an archive.

    Args:
        lake: the archive.
        now: the moment to judge deadlines at. Nothing of it is stored (R10), and a moment before the
            latest scan counts as that scan's.
        trust_clock: whether scans may be later than `now`.

    Raises:
        UsageError: there is none.
        LakeError: another version wrote the lake.
    """
    if (version := lake.must_exist().version()) < FORMAT_VERSION:
        msg = (
            f"the lake {lake.root} has format {version}, written by an older version: bring it to "
            f"{FORMAT_VERSION} with `email-archive publish`, or with the next sync"
        )
        raise LakeError(msg)
    pending = lake.pending() | lake.stale()
    scanned = list(lake.partitions(COVERAGE.name))
    known = {partition.account_id for partition in (*scanned, *pending)}
    future = None if trust_clock else now + CLOCK_MARGIN
    faults: list[str] = []
    states = _states(lake, now, faults)
    anomalies = latest_anomalies(lake)
    reading = {one.account_id: one for one in readings(lake)}
    return ArchiveStatus(
        lake.root,
        now,
        tuple(
            _account(
                lake,
                account_id,
                scanned,
                pending,
                states,
                anomalies=anomalies,
                reading=reading.get(account_id),
                future=future,
                faults=faults,
            )
            for account_id in sorted(known)
        ),
        lake.warehouse.stat().st_size if lake.warehouse.exists() else None,
        tuple(lake.foreign_files()),
        tuple(dict.fromkeys(faults)),
    )


def _states(lake: Lake, now: datetime, faults: list[str]) -> list[dict[str, Any]]:
    """The states of all slots, but for those of days whose coverage can't be read."""
    try:
        return list(slot_states(lake, now).to_pylist())
    except LakeError:
        found = unreadable(lake, (COVERAGE, SLOT_COVERAGE))
        if not found:
            raise
    faults += map(str, found.values())
    states = slot_states(lake, now, without=found).to_pylist()
    return [row for row in states if Partition(row["account_id"], row["slot"].date()) not in found]


def _account(
    lake: Lake,
    account_id: str,
    scanned: Iterable[Partition],
    pending: Iterable[Partition],
    states: Iterable[dict[str, Any]],
    *,
    anomalies: Iterable[Anomaly],
    reading: Reading | None,
    future: datetime | None,
    faults: list[str],
) -> AccountStatus:
    waiting = [p for p in pending if p.account_id == account_id]
    mine = [p for p in scanned if p.account_id == account_id]
    days = sorted(p.day for p in {*mine, *waiting})
    observed = pa.chunked_array([c for p in mine for c in _observed(lake, p, faults)], TIMESTAMP)
    last_scan_at = pc.max(observed).as_py()
    slots = [
        (SlotStatus(row["slot"], row["state"], row["hours_left"]), row["deadline"], row["as_of"])
        for row in states
        if row["account_id"] == account_id
    ]
    shown = tuple(slot for slot, _, as_of in slots if slot.slot.date() >= retained_days(as_of)[0])
    gaps = [(slot, due) for slot, due, _ in slots if slot.state == "gap"]
    return AccountStatus(
        account_id=account_id,
        first_day=days[0],
        last_day=days[-1],
        days=len(mine),
        operations=_rows(lake, OPERATIONS, mine, faults),
        states=_rows(lake, HISTORY, mine, faults),
        rejects=_rows(lake, REJECTS, mine, faults),
        scans=_rows(lake, COVERAGE, mine, faults),
        last_scan_at=last_scan_at,
        bytes=sum(
            path.stat().st_size
            for table in (OPERATIONS, HISTORY, COVERAGE, REJECTS)
            for path in _files(lake, table, mine)
        ),
        waiting=len(waiting),
        slots=shown,
        at_risk=tuple(slot for slot in shown if slot.state == "at_risk"),
        gaps=len(gaps),
        lost=tuple(slot for slot, due in gaps if last_scan_at is None or due > last_scan_at),
        anomalies=tuple(one for one in anomalies if one.account_id == account_id),
        reading=reading,
        future_scans=len(observed.filter(pc.greater(observed, future))) if future else 0,
    )


def _observed(lake: Lake, partition: Partition, faults: list[str]) -> list[pa.Array]:
    try:
        table = parquet.read(lake.part(COVERAGE, partition), COVERAGE.arrow, ["observed_at"])
    except LakeError as error:
        faults.append(str(error))
        return []
    return list(table["observed_at"].chunks)


def _rows(lake: Lake, table: Table, partitions: Iterable[Partition], faults: list[str]) -> int:
    rows = 0
    for partition in partitions:
        try:
            rows += parquet.count(lake.part(table, partition))
        except LakeError as error:
            faults.append(str(error))
    return rows


def _files(lake: Lake, table: Table, partitions: Iterable[Partition]) -> list[Path]:
    paths = (lake.part(table, partition) for partition in partitions)
    return [path for path in paths if path.exists()]
