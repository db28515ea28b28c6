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

from pipeline.errors import UsageError
from pipeline.lake import engine, parquet
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COVERAGE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    HIVE_KEYS,
    OPERATION_SIZES,
    OPERATIONS,
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
            account_id: only rows of this account.

        Raises:
            UsageError: there is no archive, or an argument is invalid.
            LakeError: a file is damaged or foreign, or a newer version wrote the lake.
        """
        return _read(self, start, end, columns, account_id)


@dataclass(frozen=True)
class Archive:
    """An archive to read from.

    ``Archive("data").operations(start="2026-11-01", end="2026-12-01", columns=["status", "opened"])``

    All tables have the same arguments and return data frames with Arrow types:

    - ``start``, ``end``: a half-open range ``[start, end)`` in UTC. Each is a date (its midnight), a time
      with a time zone, or either as ISO 8601 text. None for no bound.
    - ``columns``: the columns, in order, ``account_id`` and ``created_date`` included; all by default.
    - ``account_id``: only rows of this account.

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
    ) -> pd.DataFrame:
        """The newest state of each operation created in the range; one row per operation.

        Args:
            start: the start of the range of creation times.
            end: its end, exclusive.
            columns: the columns.
            account_id: only rows of this account.
            as_of: the operations as they were known at that moment: each in the newest of the states that had
                been observed by then (R3). None for the present.
        """
        reader = TableReader(self.root, OPERATIONS)
        return _read(reader, start, end, columns, account_id, as_of=_moment(as_of, "as_of"))

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


def _read(
    reader: TableReader,
    start: Bound | None,
    end: Bound | None,
    columns: Sequence[str] | None,
    account_id: str | None,
    *,
    as_of: datetime | None = None,
) -> pd.DataFrame:
    table, lake = reader.table, Lake(Path(reader.root).expanduser()).must_exist()
    by_name = {column.name: column for column in table.published}
    names = list(by_name) if columns is None else list(columns)
    if unknown := [name for name in names if name not in by_name]:
        msg = f"expected columns of {table.name}: {', '.join(by_name)}; got {', '.join(unknown)}"
        raise UsageError(msg)
    begin, stop = _moment(start, "start"), _moment(end, "end")
    time = table.time_column if table.time_column in table.columns else None
    needed = [c.name for c in table.columns if c.name in names or c == time]

    def read(partition: Partition) -> pa.Table:
        if as_of is not None:
            return _known(lake, partition, as_of).select(needed)
        return parquet.read(lake.part(table, partition), table.arrow, needed)

    parts = [
        _between(_keyed(partition, read(partition)), time, begin, stop)
        for partition in lake.partitions(table.name)
        if account_id in (None, partition.account_id)
        and (begin is None or partition.day >= begin.date())
        and (stop is None or midnight(partition.day) < stop)
    ]
    schema = arrow_schema([by_name[name] for name in names])
    rows = pa.concat_tables([schema.empty_table(), *(p.select(names).cast(schema) for p in parts)])
    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


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
