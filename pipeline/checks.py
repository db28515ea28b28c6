"""What should hold of the archive's data: each check is a query that returns the failing rows.

The checks look at what the API said, not at our own code: a failing one means that the source
changed or erred, and names the operations. Each is one SQL file in ``sql/checks``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from pipeline import engine
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import COUNT_NAMES, OPERATION_ID_PATTERN, OPERATIONS, REJECTS, STATUSES, Table


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation.

    Attributes:
        name: its SQL file's.
        table: the table that it looks at.
        meaning: what is expected, in one sentence.
        is_error: whether a failing row is an error; otherwise somebody should look.
    """

    name: str
    table: Table
    meaning: str
    is_error: bool


CHECKS = (
    Check("operation_ids", OPERATIONS, "Operation ids are unique and not empty.", is_error=True),
    Check(
        "parts_within_total",
        OPERATIONS,
        "The parts of an operation don't exceed its total.",
        is_error=True,
    ),
    Check(
        "known_to_reference",
        OPERATIONS,
        "Statuses, fields and ids are those that the API's reference documents.",
        is_error=False,
    ),
    Check(
        "embedded_time",
        OPERATIONS,
        "The time in an operation's id is that of its creation, to a minute.",
        is_error=False,
    ),
    Check("rejects", REJECTS, "Every record could be read.", is_error=False),
)


def failing_rows(lake: Lake, check: Check, days: Iterable[date]) -> pa.Table:
    """The rows of some days that fail a check; empty if it holds.

    Args:
        lake: the archive.
        check: one of `CHECKS`.
        days: the UTC days of creation to look at, of all accounts.

    Returns:
        At least ``operation_id`` and ``problem``, in a lasting order.
    """
    wanted = set(days)
    query = engine.render(
        engine.sql("pipeline", f"checks/{check.name}"),
        counts=_list(COUNT_NAMES),
        statuses=_list(STATUSES),
        pattern=engine.literal(OPERATION_ID_PATTERN),
    )
    parts = [
        _part(lake, check, partition)
        for partition in lake.partitions(check.table.name)
        if partition.day in wanted
    ]
    with engine.connect() as connection:
        return _ask(connection, check, pa.concat_tables(parts) if parts else _empty(check), query)


def _ask(
    connection: duckdb.DuckDBPyConnection, check: Check, rows: pa.Table, query: str
) -> pa.Table:
    connection.register(check.table.name, rows)
    return connection.sql(query).to_arrow_table()


def _part(lake: Lake, check: Check, partition: Partition) -> pa.Table:
    rows = parquet.read(lake.part(check.table, partition), check.table.arrow)
    return rows.append_column("account_id", pa.repeat(partition.account_id, rows.num_rows))


def _empty(check: Check) -> pa.Table:
    return check.table.arrow.append(pa.field("account_id", pa.string())).empty_table()


def _list(texts: Iterable[str]) -> str:
    return ", ".join(engine.literal(text) for text in texts)
