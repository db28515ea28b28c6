"""What an archive holds and whether anything is about to be lost: cheap, and without credentials."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import engine
from pipeline.lake.accounts import KnownAccount, accounts_named
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    FORMAT_VERSION,
    HISTORY,
    OPERATIONS,
    REJECTS,
    SLOT_COVERAGE,
    Table,
)
from pipeline.model.times import iso
from pipeline.model.windows import CLOCK_MARGIN, midnight, retained_days
from pipeline.outputs.collected import scan_times, slot_states
from pipeline.outputs.counting import Reading, readings
from pipeline.outputs.views import ask_lake, read_without_damaged
from pipeline.quality.anomalies import Anomaly, latest_anomalies
from pipeline.quality.checks import is_unsynced
from pipeline.quality.unsynced import unsynced_warnings

SUMMED: Final = ("operations", "states", "rejects", "scans", "bytes", "waiting", "gaps")
"""The figures of accounts that can be added up."""

_T = TypeVar("_T")


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
        name: its name in the configuration; its SID without one.
        retired_at: when it was retired; None if it is active. Nothing of a retired account is
            at risk or newly lost.
        unsynced: whether it is active and was not scanned for a day.
        first_day: the oldest UTC day that has a table; None if none has.
        last_day: the newest one.
        days: days that have a table.
        operations: operations.
        states: distinct states in their history.
        rejects: distinct records that could not be read.
        scans: scans that were merged.
        last_scan_at: when the latest merged scan began: UTC, by the API's clock.
        bytes: size of the account's public tables.
        waiting: days with scans that landed and are not merged, or not derived.
        slots: the slots of the last 8 days.
        at_risk: those that lose something soon, unless they are scanned.
        gaps: how many slots are lost in all.
        lost: those whose deadline passed since the latest scan: no status has shown them yet.
        anomalies: rates of the last 28 days that left their band, the newest first.
        reading: how its counts are read for the rates; None if no warehouse says so yet.
        future_scans: scans that a wrong clock dated later than now: the coverage is wrong.
    """

    account_id: str
    name: str
    retired_at: datetime | None
    unsynced: bool
    first_day: date | None
    last_day: date | None
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

    @property
    def ok(self) -> bool:
        """Whether it is synced, nothing is at risk or newly lost, and no scan is of the future."""
        wrong = (self.unsynced, self.at_risk, self.lost, self.future_scans)
        return self.retired_at is not None or not any(wrong)


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """What an archive holds.

    Attributes:
        root: its folder.
        now: the moment that the status is of; UTC.
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
        """Whether all can be read, and all is well with every account that is not retired."""
        return not self.unreadable and all(one.ok for one in self.accounts)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about active accounts that are not synced any more."""
        return unsynced_warnings(self.accounts, self.now)

    def total(self) -> dict[str, int]:
        """Sums over the accounts, by the names of their figures."""
        return {name: sum(getattr(one, name) for one in self.accounts) for name in SUMMED}

    def as_json(self) -> dict[str, object]:
        """The figures, ready for JSON: days and times as ISO 8601, UTC."""
        return {
            "root": str(self.root.absolute()),
            "now": _plain(self.now),
            "ok": self.ok,
            "warnings": list(self.warnings),
            "total": self.total(),
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
    if isinstance(value, datetime):
        return iso(value)
    return value.isoformat() if isinstance(value, date) else value


def status(
    lake: Lake, now: datetime, *, trust_clock: bool = False, names: Collection[str] = ()
) -> ArchiveStatus:
    """Look at an archive.

    Args:
        lake: the archive.
        now: the moment to judge deadlines at. Nothing of it is stored (R10), and a moment before the
            latest scan counts as that scan's.
        trust_clock: whether scans may be later than `now`.
        names: only the accounts with these SIDs or names; all if empty.

    Raises:
        UsageError: there is none, or no account of that name.
        LakeError: another version wrote the lake.
    """
    if (version := lake.must_exist().version()) < FORMAT_VERSION:
        msg = (
            f"the lake {lake.root} has format {version}, written by an older version: bring it to "
            f"{FORMAT_VERSION} with `email-archive publish`, or with the next sync"
        )
        raise LakeError(msg)
    wanted = accounts_named(lake, names)
    sids = {account.sid for account in wanted}
    faults: list[tuple[Partition, str]] = []
    scans, slots = _coverage(lake, now, faults)
    found = _Found(
        scanned=list(lake.partitions(COVERAGE.name)),
        pending=lake.pending() | lake.with_work(DERIVE),
        rows={table: _rows(lake, table, faults) for table in (OPERATIONS, HISTORY, REJECTS)},
        bytes=_bytes(lake),
        scans=scans,
        slots=slots,
        anomalies=latest_anomalies(lake),
        readings={one.account_id: one for one in readings(lake)},
        now=now,
        trust_clock=trust_clock,
    )
    return ArchiveStatus(
        lake.root,
        now,
        tuple(_account(account, found) for account in wanted),
        lake.warehouse.stat().st_size if lake.warehouse.exists() else None,
        tuple(lake.foreign_files()),
        # Another account's are none of this status (R12).
        tuple(dict.fromkeys(text for day, text in faults if not names or day.account_id in sids)),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What the archive holds of all accounts.

    Attributes:
        scanned: the days that have coverage.
        pending: the days that have something to merge or to derive.
        rows: how many each account has of each table.
        bytes: of each account's public tables.
        scans: every scan, with the hive keys and `observed_at`.
        slots: rows of `schema.COVERAGE_SLOTS`.
        anomalies: the latest of them.
        readings: of the accounts.
        now: the moment of the status.
        trust_clock: whether scans may be later than that.
    """

    scanned: Collection[Partition]
    pending: Collection[Partition]
    rows: Mapping[Table, Mapping[str, int]]
    bytes: Mapping[str, int]
    scans: pa.Table
    slots: pa.Table
    anomalies: Collection[Anomaly]
    readings: Mapping[str, Reading]
    now: datetime
    trust_clock: bool


def _coverage(
    lake: Lake, now: datetime, faults: list[tuple[Partition, str]]
) -> tuple[pa.Table, pa.Table]:
    """Every scan, and the states of all slots, but for those of days whose coverage can't be read."""

    def read(without: Collection[Partition]) -> tuple[pa.Table, pa.Table]:
        slots = slot_states(lake, now, without)
        for partition in without:
            slots = slots.filter(pc.invert(_is_of(slots, partition)))
        return scan_times(lake, without), slots

    return _readable(lake, (COVERAGE, SLOT_COVERAGE), read, faults)


def _is_of(rows: pa.Table, partition: Partition) -> pa.ChunkedArray:
    is_of_account = pc.equal(rows["account_id"], partition.account_id)
    return pc.and_(is_of_account, pc.equal(rows["created_date"], pa.scalar(partition.day)))


def _rows(lake: Lake, table: Table, faults: list[tuple[Partition, str]]) -> dict[str, int]:
    """How many rows each account has of a table."""
    query = engine.render(engine.sql("pipeline.quality", "row_counts"), table=table.name)

    def count(without: Collection[Partition]) -> dict[str, int]:
        rows = ask_lake(lake, (table,), query, without).to_pylist()
        return {row["account_id"]: row["row_count"] for row in rows}

    return _readable(lake, (table,), count, faults)


def _readable(
    lake: Lake,
    tables: Sequence[Table],
    read: Callable[[Collection[Partition]], _T],
    faults: list[tuple[Partition, str]],
) -> _T:
    """What `read` finds in some tables, called without the partitions that can't be read."""
    found, errors = read_without_damaged(lake, tables, read)
    faults += [(partition, str(error)) for partition, error in errors.items()]
    return found


def _bytes(lake: Lake) -> Counter[str]:
    """The size of each account's public tables."""
    sizes: Counter[str] = Counter()
    for table in (OPERATIONS, HISTORY, COVERAGE, REJECTS):
        for partition, stat in lake.files_of(table):
            sizes[partition.account_id] += stat.st_size
    return sizes


def _account(account: KnownAccount, found: _Found) -> AccountStatus:
    account_id = account.sid
    waiting = [p for p in found.pending if p.account_id == account_id]
    mine = [p for p in found.scanned if p.account_id == account_id]
    days = {p.day for p in (*mine, *waiting)}
    scans = _of(found.scans, account_id)
    last_scan_at = pc.max(scans["observed_at"]).as_py()
    slots = _of(found.slots, account_id)
    gaps = slots.filter(pc.equal(slots["state"], "gap"))
    since = midnight(retained_days(slots["as_of"][0].as_py())[0]) if slots.num_rows else None
    shown = _slots(slots.filter(pc.greater_equal(slots["slot"], since))) if since else ()
    is_new = pc.greater(gaps["deadline"], last_scan_at) if last_scan_at else None
    at_risk = [slot for slot in shown if slot.state == "at_risk"]
    lost = _slots(gaps if is_new is None else gaps.filter(is_new))
    future = scans.filter(pc.greater(scans["observed_at"], found.now + CLOCK_MARGIN))
    is_retired = account.retired_at is not None
    return AccountStatus(
        account_id=account_id,
        name=account.name,
        retired_at=account.retired_at,
        unsynced=not is_retired and is_unsynced(last_scan_at, found.now),
        first_day=min(days, default=None),
        last_day=max(days, default=None),
        days=len(mine),
        operations=found.rows[OPERATIONS].get(account_id, 0),
        states=found.rows[HISTORY].get(account_id, 0),
        rejects=found.rows[REJECTS].get(account_id, 0),
        scans=scans.num_rows,
        last_scan_at=last_scan_at,
        bytes=found.bytes.get(account_id, 0),
        waiting=len(waiting),
        slots=shown,
        at_risk=() if is_retired else tuple(at_risk),
        gaps=gaps.num_rows,
        lost=() if is_retired else lost,
        anomalies=tuple(
            one for one in found.anomalies if one.account_id == account_id and not is_retired
        ),
        reading=found.readings.get(account_id),
        future_scans=0 if found.trust_clock else future.num_rows,
    )


def _of(rows: pa.Table, account_id: str) -> pa.Table:
    return rows.filter(pc.equal(rows["account_id"], account_id))


def _slots(rows: pa.Table) -> tuple[SlotStatus, ...]:
    named = rows.select(["slot", "state", "hours_left"]).to_pylist()
    return tuple(SlotStatus(**row) for row in named)
