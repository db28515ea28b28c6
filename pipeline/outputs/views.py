"""Queries of the lake's tables, and of the views on top of them."""

import glob
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import duckdb
import pyarrow as pa

from pipeline.lake import engine, parquet
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.statements import newest_first
from pipeline.model.records import Partition
from pipeline.model.schema import AGES, DELIVERY_CURVE, HISTORY, RENAMED_COLUMNS, Column, Table
from pipeline.model.windows import FINAL_WITHIN, RETENTION, RISK_WITHIN

MOST_YEARS = 50
"""The most years of slots that an account can have, even if a wrong clock dated a scan."""

_HOUR = timedelta(hours=1)
_OLD_NAMES = {name: old for old, name in RENAMED_COLUMNS.items()}
_CURVE = ("delivered", "opened", "undelivered", "failed")

T = TypeVar("T")


def select(lake: Lake, table: Table, partitions: Collection[Partition] | None = None) -> str:
    """A query of a lake table with the hive keys; without rows if the table has no file.

    Args:
        lake: the archive.
        table: the table.
        partitions: the partitions to read; by default all that exist when the query runs.
    """
    found = partitions if partitions is not None else lake.partitions(table.name)
    paths = (path for p in found if (path := lake.part(table, p)).exists())
    first = next(paths, None)
    if first is None:
        return nothing(table)
    files = engine.literal(lake.glob(table))
    if partitions is not None:
        listed = (engine.literal(glob.escape(str(p.absolute()))) for p in (first, *paths))
        files = f"[{', '.join(listed)}]"
    return engine.render(
        engine.sql("pipeline.outputs", "rows"),
        columns=", ".join(map(_value, table.published)),
        files=files,
        schema=", ".join(field for column in table.columns for field in _in_file(column)),
    )


def _value(column: Column) -> str:
    """A column's value, whichever name it has in the file."""
    if column.name not in _OLD_NAMES:
        return column.name
    return f"coalesce({column.name}, {_OLD_NAMES[column.name]}) AS {column.name}"


def _in_file(column: Column) -> Iterator[str]:
    type_ = engine.literal(column.sql_type)
    for stored in filter(None, (column.name, _OLD_NAMES.get(column.name))):
        name = engine.literal(stored)
        yield f"{name}: {{name: {name}, type: {type_}, default_value: NULL}}"


def nothing(table: Table) -> str:
    """A query without rows, with a table's columns."""
    nulls = ", ".join(f"NULL::{c.sql_type} AS {c.name}" for c in table.published)
    return engine.render(engine.sql("pipeline.outputs", "empty_view"), nothing=nulls)


def coverage_slots(moments: str) -> str:
    """The query of coverage_slots, as of the moments that the query `moments` returns."""
    return engine.render(
        engine.sql("pipeline.outputs", "coverage_slots"),
        moments=moments,
        retention_hours=str(RETENTION // _HOUR),
        final_hours=str(FINAL_WITHIN // _HOUR),
        risk_hours=str(RISK_WITHIN // _HOUR),
        most_years=str(MOST_YEARS),
    )


def delivery_curve(lake: Lake) -> str:
    """The query of delivery_curve, as of the moments of coverage_slots."""
    counts = ("operations", "rated_operations", "emails", "attempted", *_CURVE)
    known = ", ".join(f"CASE WHEN is_reached THEN known.{name} END AS {name}" for name in counts)
    return engine.render(
        engine.sql("pipeline.outputs", "delivery_curve"),
        curve=select(lake, DELIVERY_CURVE),
        ages=" ".join(f"WHEN {minutes} THEN {engine.literal(age)}" for age, minutes in AGES),
        known=known,
        retention_hours=str(RETENTION // _HOUR),
    )


def operations_as_of() -> str:
    """The query of the table macro operations_as_of, whose argument is ``ts``."""
    return engine.render(
        engine.sql("pipeline.outputs", "operations_as_of"),
        columns=", ".join(column.name for column in HISTORY.published),
        moment=f"\n{engine.sql('pipeline.outputs', 'moment')}",
        newest_first=newest_first(),
    )


def ask_lake(
    lake: Lake, tables: Collection[Table], query: str, without: Collection[Partition] = ()
) -> pa.Table:
    """The result of a query on some tables of the lake, by their names.

    Args:
        lake: the archive.
        tables: the tables.
        query: the query.
        without: partitions whose files are not read.

    Raises:
        LakeError: a file of these tables is damaged or foreign.
    """

    def ask() -> pa.Table:
        with engine.connect(spill=lake.spill) as connection:
            for table in tables:
                wanted = set(lake.partitions(table.name)) - set(without) if without else None
                connection.execute(f"CREATE VIEW {table.name} AS {select(lake, table, wanted)}")
            return connection.sql(query).to_arrow_table()

    return reading(lake, tables, ask)


def reading(lake: Lake, tables: Iterable[Table], ask: Callable[[], pa.Table]) -> pa.Table:
    """The result of `ask`, which reads some tables. It is repeated if a file was replaced meanwhile.

    Raises:
        LakeError: a file of these tables is damaged or foreign.
    """
    try:
        return engine.retry_torn_reads(ask)
    except duckdb.Error as error:
        # DuckDB does not always name the file.
        for found in unreadable(lake, tables).values():
            raise found from error
        msg = f"the archive can't be read: {error}"
        raise LakeError(msg) from error


def read_without_damaged(
    lake: Lake, tables: Collection[Table], read: Callable[[Collection[Partition]], T]
) -> tuple[T, dict[Partition, LakeError]]:
    """What `read` finds in some tables, called without the partitions that can't be read, and their errors.

    Raises:
        LakeError: none of these partitions explains why they can't be read.
    """
    try:
        return read(()), {}
    except LakeError:
        found = unreadable(lake, tables)
        if not found:
            raise
    return read(found), found


def unreadable(lake: Lake, tables: Iterable[Table]) -> dict[Partition, LakeError]:
    """The partitions with an unreadable file of some tables, and the errors. Reads every file."""
    found = {}
    for table in tables:
        for partition in lake.partitions(table.name):
            try:
                parquet.read(lake.part(table, partition), table.arrow)
            except LakeError as error:
                found[partition] = error
    return found
