"""repair(): corrects rows that a wrong clock has dated.

A scan with an impossible time is removed from the coverage: it proves nothing. The states that it returned
stay in history (R1), with `updated_at` as their time of observation: they can't have been observed earlier,
and states observed later with the same `updated_at` count as newer (R3). The removed rows, and changed rows
as they were, are stored in a folder of the archive.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import parquet
from pipeline.lake.layout import COMPACT, DERIVE, Lake
from pipeline.lake.migration import up_to_date
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    HISTORY,
    LAKE_TABLES,
    LOOKUPS,
    MARTS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    TIMESTAMP,
    Table,
)
from pipeline.model.times import iso, iso_seconds
from pipeline.model.windows import CLOCK_MARGIN, midnight
from pipeline.rebuild import rebuild

log = logging.getLogger(__name__)

_TAKEN_OUT: Final = {
    COVERAGE: ("observed_at", "completed_at"),
    LOOKUPS: ("requested_at", "not_found_at"),
}
"""Tables whose rows are removed, with their times of observation."""

_REDATED: Final = {
    HISTORY: ("observed_at", "looked_up_at"),
    OPERATIONS: ("observed_at", "looked_up_at"),
    REJECTS: ("observed_at",),
    OPERATION_ERRORS: ("observed_at",),
}
"""Tables whose rows stay with another time (R1), with their times of observation."""

_STORED: Final = {**_TAKEN_OUT, **_REDATED}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The possible times of observation: from `earliest` to `latest`, UTC; None for no bound."""

    latest: datetime
    earliest: datetime | None = None

    @classmethod
    def by(
        cls, machine: datetime, after: datetime | None = None, before: datetime | None = None
    ) -> "Bounds":
        """Bounds that a user sets; by default only the time of this machine's clock is a bound.

        Raises:
            UsageError: `before` is later than `after`.
        """
        latest = after or machine + CLOCK_MARGIN
        if before is not None and before > latest:
            msg = (
                f"expected --before to be no later than {iso_seconds(latest)}, after which no time can be "
                f"right; got {iso_seconds(before)}: no scan would be left"
            )
            raise UsageError(msg)
        return cls(latest, before)


@dataclass(frozen=True, slots=True)
class Impossible:
    """The rows with impossible times in one partition.

    Attributes:
        partition: the account and day.
        observed: the earliest and the latest impossible time.
        rows: the number of these rows by table name; tables without any are left out.
        is_all: whether the partition has no other rows.
    """

    partition: Partition
    observed: tuple[datetime, datetime]
    rows: Mapping[str, int]
    is_all: bool


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a repair.

    Attributes:
        found: the rows with impossible times, by account and day.
        folder: the folder with the removed and changed rows as they were; None if nothing was changed.
        errors: the errors of days that could not be derived again.
    """

    found: tuple[Impossible, ...]
    folder: Path | None = None
    errors: tuple[ArchiveError, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values; times and days are ISO 8601."""
        return {
            "found": [
                {
                    **one.partition.fields(),
                    "observed_from": iso(one.observed[0]),
                    "observed_to": iso(one.observed[1]),
                    "rows": dict(one.rows),
                }
                for one in self.found
            ],
            "set_aside_in": str(self.folder) if self.folder else None,
            "errors": [str(error) for error in self.errors],
        }


def find(lake: Lake, bounds: Bounds) -> tuple[Impossible, ...]:
    """The rows with impossible times: out of bounds, or before the creation of what was observed.

    Raises:
        UsageError: there is no archive.
        LakeError: a file can't be read.
    """
    lake.must_exist()
    partitions = sorted({p for table in _STORED for p in lake.partitions(table.name)})
    found = (_find_in(lake, partition, bounds) for partition in partitions)
    return tuple(one for one in found if one is not None)


def repair(lake: Lake, bounds: Bounds, name: str) -> Repair:
    """Remove or correct rows with impossible times, and derive everything again.

    If the process is killed, call it again: it continues (R5).

    Args:
        lake: the archive; an older format is migrated.
        bounds: the possible times.
        name: name of the folder in `.set-aside` for the rows as they were.

    Raises:
        UsageError: there is no archive.
        LakeError: a file can't be read or written.
    """
    up_to_date(lake.must_exist())
    merge_pending(lake)  # landed scans may have such times too; rebuild reports merge errors
    folder = lake.set_aside(name)
    done = [_repair(lake, one.partition, bounds, folder) for one in find(lake, bounds)]
    found = tuple(one for one in done if one is not None)
    # Even if nothing was found: an earlier repair may have been killed before this step.
    _, errors = rebuild(lake)
    return Repair(found, folder if found else None, errors)


def _repair(lake: Lake, partition: Partition, bounds: Bounds, folder: Path) -> Impossible | None:
    with lake.locked(partition):
        found = _find_in(
            lake, partition, bounds
        )  # again under the lock: a sync may have merged more meanwhile
        if found is None:
            return None
        if found.is_all:
            _move_all(lake, partition, folder)
        else:
            _repair_rows(lake, partition, bounds, folder)
    rows = dict(found.rows)
    about = {"event": "repair", **partition.fields(), "rows": rows}
    log.info("repaired %s: %s", partition, rows, extra=about)
    return found


def require_some_possible(found: Iterable[Impossible], lake: Lake) -> None:
    """Require that some scans of each account stay: otherwise this machine's clock may be wrong.

    Raises:
        UsageError: all scans of an account have impossible times.
    """
    impossible: dict[str, int] = {}
    for one in found:
        account_id = one.partition.account_id
        impossible[account_id] = impossible.get(account_id, 0) + one.rows.get(COVERAGE.name, 0)
    for account_id, scans in impossible.items():
        mine = (p for p in lake.partitions(COVERAGE.name) if p.account_id == account_id)
        if scans and scans == sum(parquet.count(lake.part(COVERAGE, p)) for p in mine):
            msg = (
                f"every scan of {account_id} is later than this machine's clock: check that clock. To set "
                "aside all of these scans, give the impossible times with --after or --before"
            )
            raise UsageError(msg)


def _find_in(lake: Lake, partition: Partition, bounds: Bounds) -> Impossible | None:
    rows: dict[str, int] = {}
    observed: list[datetime] = []
    is_all = True
    for table, times in _STORED.items():
        columns = [name for name in table.names if name in {*times, *_begins(table)}]
        read = parquet.read(lake.part(table, partition), table.arrow, columns)
        is_wrong = _any(_wrong(read, table, name, partition, bounds) for name in times)
        wrong = read.filter(is_wrong)
        if wrong.num_rows:
            rows[table.name] = wrong.num_rows
            observed += [moment for moment in wrong[times[0]].to_pylist() if moment]
        is_all &= wrong.num_rows == read.num_rows if table in _TAKEN_OUT else not read.num_rows
    if not rows:
        return None
    return Impossible(partition, (min(observed), max(observed)), rows, is_all)


def _begins(table: Table) -> Iterator[str]:
    """The column with the earliest possible time of a row; none if that is the start of its day."""
    return (name for name in ("created_at", "window_start") if name in table.names)


def _wrong(
    rows: pa.Table, table: Table, name: str, partition: Partition, bounds: Bounds
) -> pa.ChunkedArray:
    """For each row, whether one of its times is impossible. NULL is possible."""
    time = rows[name]
    begins = pa.chunked_array([pa.repeat(_scalar(midnight(partition.day)), rows.num_rows)])
    for column in _begins(table):
        begins = pc.coalesce(rows[column], begins)
    begins = _limited(begins, bounds)
    checks = [
        pc.greater(time, _scalar(bounds.latest)),
        pc.less(pc.add(time, pa.scalar(CLOCK_MARGIN, pa.duration("us"))), begins),
    ]
    if bounds.earliest is not None:
        checks.append(pc.less(time, _scalar(bounds.earliest)))
    return pc.fill_null(_any(checks), fill_value=False)


def _limited(times: pa.ChunkedArray, bounds: Bounds) -> pa.ChunkedArray:
    """Times limited to the bounds, so that a corrected row is not found again."""
    latest = _scalar(bounds.latest)
    times = pc.if_else(pc.greater(times, latest), latest, times)
    if bounds.earliest is not None:
        earliest = _scalar(bounds.earliest)
        times = pc.if_else(pc.less(times, earliest), earliest, times)
    return times


def _any(checks: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    first, *rest = checks
    for one in rest:
        first = pc.or_(first, one)
    return first


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, TIMESTAMP)


def _move_all(lake: Lake, partition: Partition, folder: Path) -> None:
    """Move a partition that has only rows with impossible times.

    The tables that `find` needs are moved last, so that a repair that is called again after it was killed
    continues with this partition.
    """
    lake.finish_work(partition, DERIVE)
    lake.finish_work(partition, COMPACT)
    if lake.pending_lookups_file(partition).exists():
        lake.files.remove(lake.pending_lookups_file(partition))
    rest = [table for table in (*MARTS, *LAKE_TABLES) if table not in _TAKEN_OUT]
    for table in (*rest, *_TAKEN_OUT):
        source = lake.part(table, partition).parent
        if source.exists():
            target = folder / source.relative_to(lake.root)
            lake.files.make_folder(target.parent)
            lake.files.rename(source, target)
            lake.files.keep(source)


def _repair_rows(lake: Lake, partition: Partition, bounds: Bounds, folder: Path) -> None:
    """Remove or correct rows in the stored tables, and mark the day to be derived again."""
    lake.note_work(partition, COMPACT, DERIVE)
    for table, times in _STORED.items():
        file = lake.part(table, partition)
        rows = parquet.read(file, table.arrow)
        wrong = {name: _wrong(rows, table, name, partition, bounds) for name in times}
        is_wrong = _any(wrong.values())
        if not pc.any(is_wrong, min_count=0).as_py():
            continue
        parquet.require_known_columns(file, table)
        temporary = lake.temporary_file(table.name, partition)
        as_they_were = folder / file.relative_to(lake.root)
        parquet.write(lake, rows.filter(is_wrong), as_they_were, temporary)
        if table in _TAKEN_OUT:
            rows = rows.filter(pc.invert(is_wrong))
        else:
            rows = _redated(rows, wrong, partition, bounds)
        parquet.replace(lake, table, partition, rows)


def _redated(
    rows: pa.Table, wrong: Mapping[str, pa.ChunkedArray], partition: Partition, bounds: Bounds
) -> pa.Table:
    """Rows with the earliest possible time of observation instead of an impossible one."""
    earliest = pa.chunked_array([pa.repeat(_scalar(midnight(partition.day)), rows.num_rows)])
    for name in ("created_at", "updated_at"):
        if name in rows.schema.names:
            earliest = pc.coalesce(rows[name], earliest)
    earliest = _limited(earliest, bounds)
    for name, is_wrong in wrong.items():
        place = rows.schema.names.index(name)
        times = pc.if_else(is_wrong, earliest, rows[name])
        rows = rows.set_column(place, rows.schema.field(place), times)
    return rows


def summary_lines(repaired: Repair) -> Iterator[str]:
    """The result as lines of text, by account."""
    is_preview = repaired.folder is None
    by_account: dict[str, list[Impossible]] = {}
    for one in repaired.found:
        by_account.setdefault(one.partition.account_id, []).append(one)
    for account_id, mine in by_account.items():
        first, last = (min(p.observed[0] for p in mine), max(p.observed[1] for p in mine))
        days = sorted(one.partition.day for one in mine)
        span = f"from {iso_seconds(first)} to {iso_seconds(last)}"
        yield f"{account_id}: impossible times {span}, of {_days(days)}"
        for table in _STORED:
            count = sum(one.rows.get(table.name, 0) for one in mine)
            rows = "1 row" if count == 1 else f"{count:,} rows"
            if count and table in _TAKEN_OUT:
                yield (
                    f"  {table.name}: {rows} to remove"
                    if is_preview
                    else f"  {table.name}: {rows} removed"
                )
            elif count:
                kept = "to keep" if is_preview else "kept"
                yield f"  {table.name}: {rows} {kept}, with the earliest possible time instead"
    if not repaired.found:
        yield "no impossible times: nothing to repair"
    elif is_preview:
        yield "nothing is changed yet: repair with `email-archive repair --apply`"
    else:
        yield f"the original rows are in {repaired.folder}"


def _days(days: Sequence[date]) -> str:
    if len(days) == 1:
        return f"operations created on {days[0]}"
    return f"operations created on {len(days)} days, {days[0]} to {days[-1]}"
