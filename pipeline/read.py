"""The notebook's way in: pandas data frames with proper types, out of the lake.

Only the days that are asked for are opened, and each file once, so that a sync meanwhile is never
seen halfway (R6). Columns have Arrow types: counts stay integers where some are NULL, and times stay
UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import engine
from pipeline.errors import UsageError
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import (
    COVERAGE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    OPERATION_SIZES,
    OPERATIONS,
    REJECTS,
    TIMESTAMP,
    Table,
    arrow_schema,
)
from pipeline.views import operations_as_of
from pipeline.windows import midnight, require_utc

Bound: TypeAlias = date | datetime | str


@dataclass(frozen=True)
class Archive:
    """An archive to read from.

    ``Archive("data").operations(start="2026-11-01", end="2026-12-01", columns=["status", "opened"])``

    Every method takes the same arguments and gives a data frame with Arrow types:

    - ``start``, ``end``: a half-open range ``[start, end)`` of UTC; a date, a time with a zone, or
      either as ISO 8601 text; a date means its midnight. None leaves that side open.
    - ``columns``: which columns, in which order; ``account_id`` and ``created_date`` are two of
      them. All by default.
    - ``account_id``: one account's rows alone.

    Raises:
        UsageError: there is no archive at `root`, or an argument can't be meant.
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
            start: where the range of creation begins.
            end: before where it ends.
            columns: which columns.
            account_id: one account's rows alone.
            as_of: the operations as they were known at that moment: those that had been seen by then, each
                in the newest of the states that had been (R3). None for what is known now.
        """
        moment = _moment(as_of, "as_of")
        return self._read(
            OPERATIONS,
            "created_at",
            start=start,
            end=end,
            columns=columns,
            account_id=account_id,
            as_of=moment,
        )

    def history(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """Every distinct state of the operations created in the range, when it was first seen."""
        return self._read(
            HISTORY, "created_at", start=start, end=end, columns=columns, account_id=account_id
        )

    def coverage(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """The scans whose window begins in the range; one row per scan."""
        return self._read(
            COVERAGE, "window_start", start=start, end=end, columns=columns, account_id=account_id
        )

    def rejects(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """The records that could not be read, by the day they came for; bounds count as days."""
        return self._read(
            REJECTS, None, start=start, end=end, columns=columns, account_id=account_id
        )

    def delivery_hourly(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """Operations and sums of counts, as the API counts them, per hour of creation and status.

        Whether `rated_delivered` leaves out what was opened is in the warehouse's table `counting`.
        """
        return self._read(
            DELIVERY_HOURLY, "hour", start=start, end=end, columns=columns, account_id=account_id
        )

    def operation_sizes(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """Operations and sums of counts per day of creation and size class; bounds count as days."""
        return self._read(
            OPERATION_SIZES, None, start=start, end=end, columns=columns, account_id=account_id
        )

    def delivery_curve(
        self,
        start: Bound | None = None,
        end: Bound | None = None,
        columns: Sequence[str] | None = None,
        account_id: str | None = None,
    ) -> pd.DataFrame:
        """What was known per hour of creation and age; an age that is not reached yet has what is known.

        The warehouse's `delivery_curve` says when the hour was looked at, and leaves such ages out.
        """
        return self._read(
            DELIVERY_CURVE, "hour", start=start, end=end, columns=columns, account_id=account_id
        )

    def _read(
        self,
        table: Table,
        time_column: str | None,
        *,
        start: Bound | None,
        end: Bound | None,
        columns: Sequence[str] | None,
        account_id: str | None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        lake = Lake(Path(self.root).expanduser()).must_exist()
        names = [column.name for column in table.published] if columns is None else list(columns)
        by_name = {column.name: column for column in table.published}
        if unknown := [name for name in names if name not in by_name]:
            msg = (
                f"expected columns of {table.name}: {', '.join(by_name)}; got {', '.join(unknown)}"
            )
            raise UsageError(msg)
        begin, stop = _moment(start, "start"), _moment(end, "end")
        needed = [name for name in table.names if name in {*names, time_column}]

        def read(partition: Partition) -> pa.Table:
            if as_of is not None:
                return _known(lake, partition, as_of).select(needed)
            return parquet.read(lake.part(table, partition), table.arrow, needed)

        parts = [
            _between(_keyed(partition, read(partition)), time_column, begin, stop)
            for partition in lake.partitions(table.name)
            if account_id in (None, partition.account_id)
            and (begin is None or partition.day >= begin.date())
            and (stop is None or midnight(partition.day) < stop)
        ]
        schema = arrow_schema([by_name[name] for name in names])
        rows = pa.concat_tables(
            [schema.empty_table(), *(p.select(names).cast(schema) for p in parts)]
        )
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
    keys = {
        "account_id": pa.repeat(partition.account_id, rows.num_rows),
        "created_date": pa.repeat(pa.scalar(partition.day, pa.date32()), rows.num_rows),
    }
    for name, values in keys.items():
        rows = rows.append_column(name, values)
    return rows


def _between(
    rows: pa.Table, time_column: str | None, start: datetime | None, end: datetime | None
) -> pa.Table:
    if time_column is None:
        return rows
    if start is not None:
        rows = rows.filter(pc.greater_equal(rows[time_column], pa.scalar(start, TIMESTAMP)))
    if end is not None:
        rows = rows.filter(pc.less(rows[time_column], pa.scalar(end, TIMESTAMP)))
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
