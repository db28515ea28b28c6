"""The lake's tables as SQL, and the views that join them with what its coverage amounts to."""

import glob
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

import duckdb
import pyarrow as pa

from pipeline import engine, sources
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.columns import are_uniform
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.statements import newest_first
from pipeline.schema import AGES, COVERAGE, DELIVERY_CURVE, HISTORY, SLOT_COVERAGE, Table
from pipeline.windows import FINAL_WITHIN, RETENTION, RISK_WITHIN

MOST_YEARS = 50
"""How many years of slots an account has at the most, whatever its scans are dated."""

_HOUR = timedelta(hours=1)
_CURVE = ("delivered", "opened", "undelivered", "failed")


def select(
    lake: Lake, table: Table, since: date = date.min, without: Collection[Partition] = ()
) -> str:
    """All rows of a lake table with the hive keys as proper types; none if it has no file yet.

    Args:
        lake: the archive.
        table: the table.
        since: only days from then on.
        without: partitions to leave out. With either, the files are listed; by default they are whatever
            there is when the query runs.
    """
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    partitions = lake.partitions(table.name)
    found = (lake.part(table, p) for p in partitions if p.day >= since and p not in without)
    if path := next((path for path in found if path.exists()), None):
        files = engine.literal(lake.glob(table))
        if since > date.min or without:
            listed = [path, *(other for other in found if other.exists())]
            files = f"[{', '.join(engine.literal(glob.escape(str(p.absolute()))) for p in listed)}]"
        rows = "rows_by_path" if "=" in str(lake.root.absolute()) else "rows"
        return engine.render(
            engine.sql("pipeline", "view"),
            columns=columns,
            nothing=_nulls(table),
            rows=engine.render(
                engine.sql("pipeline", rows),
                files=files,
                differ="false" if are_uniform(lake, table) else "true",
            ),
        )
    return nothing(table)


def nothing(table: Table) -> str:
    """No rows, with a table's columns."""
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    return engine.render(
        engine.sql("pipeline", "empty_view"), columns=columns, nothing=_nulls(table)
    )


def _nulls(table: Table) -> str:
    return ", ".join(f"NULL::{c.sql_type} AS {c.name}" for c in table.published)


def coverage_slots(moments: str) -> str:
    """The query of coverage_slots, as of the moments that another query gives."""
    return engine.render(
        engine.sql("pipeline", "coverage_slots"),
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
        engine.sql("pipeline", "delivery_curve"),
        curve=select(lake, DELIVERY_CURVE),
        ages=" ".join(f"WHEN {minutes} THEN {engine.literal(age)}" for age, minutes in AGES),
        known=known,
        retention_hours=str(RETENTION // _HOUR),
    )


def operations_as_of() -> str:
    """The query of the table macro operations_as_of, whose argument is ``ts``."""
    return engine.render(
        engine.sql("pipeline", "operations_as_of"),
        columns=", ".join(column.name for column in HISTORY.published),
        moment=f"\n{engine.sql('pipeline', 'moment')}",
        newest_first=newest_first(),
    )


def slot_states(lake: Lake, now: datetime, without: Collection[Partition] = ()) -> pa.Table:
    """What the scans of every slot amount to at `now`, or at the latest scan if that is later.

    Args:
        lake: the archive.
        now: the moment; UTC.
        without: partitions whose files are not read: what is told of their slots means nothing.

    Returns:
        Rows of `schema.COVERAGE_SLOTS`, by account and slot.

    Raises:
        LakeError: a file is damaged or foreign.
    """
    moments = engine.render(engine.sql("pipeline", "asked_at"), now=engine.literal(now.isoformat()))
    with engine.connect(spill=lake.spill) as connection:
        connection.register(COVERAGE.name, scan_times(lake, without))
        connection.register(SLOT_COVERAGE.name, _collected(lake, SLOT_COVERAGE, without))
        return connection.sql(coverage_slots(moments)).to_arrow_table()


def scan_times(lake: Lake, without: Collection[Partition] = ()) -> pa.Table:
    """When each scan began and ended, with the hive keys.

    Args:
        lake: the archive.
        without: partitions whose files are not read.

    Raises:
        LakeError: a file is damaged or foreign.
    """
    return _collected(lake, COVERAGE, without, sources.SCAN_TIMES)


def _collected(
    lake: Lake,
    table: Table,
    without: Collection[Partition],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    # As publishing kept them: opening the files of thousands of days would take most of the time.
    stamps = sources.stamps(lake, table).items()
    stamped = {partition: stamp for partition, stamp in stamps if partition not in without}
    return sources.collect(lake, table, columns, stamped, keep=False)


def ask_lake(
    lake: Lake, tables: Iterable[Table], query: str, without: Collection[Partition] = ()
) -> pa.Table:
    """What a query of ours finds in some tables of the lake, by their names.

    Raises:
        LakeError: a file of theirs is damaged or foreign.
    """

    def asked() -> pa.Table:
        with engine.connect(spill=lake.spill) as connection:
            for table in tables:
                connection.execute(
                    f"CREATE VIEW {table.name} AS {select(lake, table, without=without)}"
                )
            return connection.sql(query).to_arrow_table()

    try:
        return engine.asking_again(asked)
    except duckdb.Error as error:
        # DuckDB does not always name the file.
        for found in unreadable(lake, tables).values():
            raise found from error
        msg = f"the archive can't be read: {error}"
        raise LakeError(msg) from error


def unreadable(lake: Lake, tables: Iterable[Table]) -> dict[Partition, LakeError]:
    """The partitions of which a file of some tables can't be read, and why; every file is read for it."""
    found = {}
    for table in tables:
        for partition in lake.partitions(table.name):
            try:
                parquet.read(lake.part(table, partition), table.arrow)
            except LakeError as error:
                found[partition] = error
    return found
