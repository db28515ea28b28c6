"""The Python API for notebooks: tables of the lake as pandas data frames.

Only files of the requested days are opened, each of them once, so that readers never see half a sync (R6).
Columns have Arrow types: counts with NULL stay integers, and times are UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.access.curves import delivery_by_age
from pipeline.access.query import ask
from pipeline.errors import UsageError
from pipeline.lake import engine, parquet
from pipeline.lake.accounts import account_named
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    HIVE_KEYS,
    MAX_PLAUSIBLE_COUNT,
    OPERATION_SIZES,
    OPERATIONS,
    RATED_COUNTS,
    REJECTS,
    TIMESTAMP,
    Column,
    Table,
    arrow_schema,
)
from pipeline.model.windows import midnight, require_utc
from pipeline.outputs.views import operations_as_of

Bound: TypeAlias = date | datetime | str


@dataclass(frozen=True)
class TableReader:
    """Reads one table of an archive."""

    root: Path | str
    table: Table

    def __call__(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """The rows of a range, as a data frame with Arrow types.

        Args:
            start: the start of the range, inclusive, in UTC: a date (its midnight), a time with a time zone,
                or either as ISO 8601 text. None for no start.
            end: the end of the range, exclusive.
            columns: the columns, in order, `account_id` and `created_date` included; all by default.
            account_id: only rows of this account, by its SID or name.

        Raises:
            UsageError: there is no archive, or an argument is invalid.
            LakeError: a file is damaged or foreign, or a newer version wrote the lake.
        """
        return _frame(_read(self, start, end, columns, account_id))


@dataclass(frozen=True)
class Archive:
    """An archive to read from.

    ``Archive("data").operations(start="2026-11-01", end="2026-12-01", columns=["status", "opened"])``

    All tables have the same arguments and return data frames with Arrow types:

    - ``start``, ``end``: a half-open range ``[start, end)`` in UTC. Each is a date (its midnight), a time
      with a time zone, or either as ISO 8601 text. None for no bound.
    - ``columns``: the columns, in order, ``account_id`` and ``created_date`` included; all by default.
    - ``account_id``: only rows of this account, by its SID or its name in the configuration.

    Raises:
        UsageError: there is no archive at `root`, or an argument is invalid.
        LakeError: a file is damaged or foreign, or a newer version wrote the lake.
    """

    root: Path | str

    def operations(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
        *,
        as_of: Bound | None = None,
        rates: bool = False,
    ) -> pd.DataFrame:
        """The newest state of each operation created in the range; one row per operation.

        With `rates`, these columns are added: `delivery_rate`, `open_rate`, `undelivered_rate` and
        `failure_rate`; `rated_attempted`, `rated_delivered`, `rated_opened`, `rated_undelivered` and
        `rated_failed`, of which they are quotients; and the `reading` of the account's counts that they
        follow, with `reading_decided`. The rate of a group is a sum over a sum, not the mean of rates:
        ``sums = operations.groupby("status")[["rated_opened", "rated_delivered"]].sum()``.

        Args:
            start: the start of the range of creation times.
            end: its end, exclusive.
            columns: the columns.
            account_id: only rows of this account.
            as_of: the operations as they were known at that moment: each in the newest of the states that had
                been observed by then (R3). None for the present.
            rates: add the rates of each operation. They need the warehouse, which has the readings.
        """
        reader, moment = TableReader(self.root, OPERATIONS), _moment(as_of, "as_of")
        if not rates:
            return _frame(_read(reader, start, end, columns, account_id, as_of=moment))
        names = _names(OPERATIONS, columns)
        rows = _read(reader, start, end, None, account_id, as_of=moment)
        return _frame(_with_rates(Lake(Path(self.root).expanduser()), rows, names))

    def delivery_by_age(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """How fast emails are delivered and opened: one row per account and age, from 1 minute to 7 days.

        The archive knows the counts of each scan, and not what changed between two scans. So each share of
        the attempted emails has two bounds: at an age of 1 hour, `delivered_at_least` is what the last scan
        by that age found, and `delivered_at_most` what the next scan of the whole hour found; NULL if there
        was none. `opened_at_least` and `opened_at_most` likewise. Delivered emails are counted under the
        account's `reading`.

        Only hours of creation with a final scan are included, `hours` of `past_hours` that are past their
        deadline; `seen_hours` of them had been scanned by that age. `scan_before_minutes` and
        `scan_after_minutes` are the median ages at the scans before and after it.

        Args:
            start: the start of the range, inclusive: hours of creation that start in it are included.
            end: its end, exclusive.
            account_id: only this account, by its SID or name.

        Raises:
            UsageError: there is no archive or no warehouse, or an argument is invalid.
            ArchiveError: the warehouse can't be read.
        """
        lake = Lake(Path(self.root).expanduser()).must_exist()
        wanted = ["true"]
        if account_id is not None:
            wanted.append(f"account_id = {engine.literal(account_named(lake, account_id).sid)}")
        if (begin := _moment(start, "start")) is not None:
            wanted.append(
                f"created_date >= DATE '{begin.date()}' AND hour >= '{begin.isoformat()}'"
            )
        if (stop := _moment(end, "end")) is not None:
            wanted.append(f"created_date <= DATE '{stop.date()}' AND hour < '{stop.isoformat()}'")
        curves = f"FROM delivery_curve WHERE {' AND '.join(wanted)}"
        return _frame(ask(lake, delivery_by_age(curves)))

    @property
    def history(self) -> TableReader:
        """Every distinct state of the operations created in the range, with its first observation."""
        return TableReader(self.root, HISTORY)

    @property
    def coverage(self) -> TableReader:
        """The scans whose windows begin in the range; one row per scan."""
        return TableReader(self.root, COVERAGE)

    @property
    def rejects(self) -> TableReader:
        """The records that could not be parsed, by the day of their window; bounds are whole days."""
        return TableReader(self.root, REJECTS)

    @property
    def delivery_hourly(self) -> TableReader:
        """Operations and sums of counts, as the API counts them, per hour of creation and status.

        The warehouse's table `counting` says whether `rated_delivered` includes opened emails.
        """
        return TableReader(self.root, DELIVERY_HOURLY)

    @property
    def operation_sizes(self) -> TableReader:
        """Operations and sums of counts per day of creation and size class; bounds are whole days."""
        return TableReader(self.root, OPERATION_SIZES)

    @property
    def delivery_curve(self) -> TableReader:
        """Counts known per hour of creation and age. Ages that are not reached yet have the latest counts.

        The warehouse's `delivery_curve` leaves such ages out, and has the ages of the scans.
        """
        return TableReader(self.root, DELIVERY_CURVE)


def _frame(rows: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _names(table: Table, columns: Sequence[str] | None) -> list[str]:
    known = [column.name for column in table.published]
    names = known if columns is None else list(columns)
    if unknown := [name for name in names if name not in known]:
        msg = f"expected columns of {table.name}: {', '.join(known)}; got {', '.join(unknown)}"
        raise UsageError(msg)
    return names


def _read(
    reader: TableReader,
    start: Bound | None,
    end: Bound | None,
    columns: Sequence[str] | None,
    account_id: str | None,
    *,
    as_of: datetime | None = None,
) -> pa.Table:
    table, lake = reader.table, Lake(Path(reader.root).expanduser()).must_exist()
    names = _names(table, columns)
    begin, stop = _moment(start, "start"), _moment(end, "end")
    account = None if account_id is None else account_named(lake, account_id).sid
    time = table.time_column if table.time_column in table.columns else None
    needed = [c.name for c in table.columns if c.name in names or c == time]

    def read(partition: Partition) -> pa.Table:
        if as_of is not None:
            return _known(lake, partition, as_of).select(needed)
        return parquet.read(lake.part(table, partition), table.arrow, needed)

    parts = [
        _between(_keyed(partition, read(partition)), time, begin, stop)
        for partition in lake.partitions(table.name)
        if account in (None, partition.account_id)
        and (begin is None or partition.day >= begin.date())
        and (stop is None or midnight(partition.day) < stop)
    ]
    by_name = {column.name: column for column in table.published}
    schema = arrow_schema([by_name[name] for name in names])
    return pa.concat_tables([schema.empty_table(), *(p.select(names).cast(schema) for p in parts)])


def _with_rates(lake: Lake, operations: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Operations with their own rates; `columns` are those that are kept."""
    counting = ask(
        lake,
        "SELECT account_id, reading, decided FROM counting WHERE question = 'opened_in_delivered'",
    )
    query = engine.render(
        engine.sql("pipeline.access", "operation_rates"),
        columns=", ".join(f"operations.{name}" for name in columns),
        is_rated=" AND ".join(
            f"coalesce({name} <= {MAX_PLAUSIBLE_COUNT}, false)" for name in RATED_COUNTS
        ),
    )
    with engine.connect(spill=lake.spill) as connection:
        connection.register("operations", operations)
        connection.register("counting", counting)
        return connection.sql(query).to_arrow_table()


def _known(lake: Lake, partition: Partition, as_of: datetime) -> pa.Table:
    """A partition's operations as they were known at a moment."""
    states = _keyed(partition, parquet.read(lake.part(HISTORY, partition), HISTORY.arrow))
    with engine.connect(spill=lake.spill) as connection:
        connection.register("history", states)
        connection.execute(f"CREATE TEMP MACRO known(ts) AS TABLE {operations_as_of()}")
        found = connection.sql("FROM known($ts) ORDER BY operation_id", params={"ts": as_of})
        return found.to_arrow_table()


def _keyed(partition: Partition, rows: pa.Table) -> pa.Table:
    """A partition's rows with its hive keys as columns."""
    for column, key in zip(HIVE_KEYS, (partition.account_id, partition.day), strict=True):
        rows = rows.append_column(
            column.name, pa.repeat(pa.scalar(key, column.type), rows.num_rows)
        )
    return rows


def _between(
    rows: pa.Table, time: Column | None, start: datetime | None, end: datetime | None
) -> pa.Table:
    """The rows of a range; all of them, if their table has no time but their day's."""
    if time and start is not None:
        rows = rows.filter(pc.greater_equal(rows[time.name], pa.scalar(start, TIMESTAMP)))
    if time and end is not None:
        rows = rows.filter(pc.less(rows[time.name], pa.scalar(end, TIMESTAMP)))
    return rows


def _moment(bound: Bound | None, name: str) -> datetime | None:
    if bound is None:
        return None
    try:
        if isinstance(bound, str):
            has_time = len(bound) > len("2026-11-20")
            bound = datetime.fromisoformat(bound) if has_time else date.fromisoformat(bound)
        if isinstance(bound, datetime):
            return require_utc(bound).astimezone(UTC)
        return midnight(bound)
    except ValueError as error:
        msg = f"expected a date or a time with a zone in {name}; got {bound!r} ({error})"
        raise UsageError(msg) from error
