"""What should hold of the archive's data: each check is a query that returns the failing rows.

The checks look at what the API said, not at our own code: a failing one means that the source
changed or erred, and names the operations. Each is one SQL file in ``sql/checks``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import duckdb
import pyarrow as pa

from pipeline import engine
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import (
    COUNT_NAMES,
    COVERAGE,
    DELIVERY_HOURLY,
    OPERATION_ID_PATTERN,
    OPERATIONS,
    REJECTS,
    STATUSES,
    Table,
)
from pipeline.views import ask_lake, slot_states
from pipeline.windows import RETENTION, RISK_WITHIN

_RISK_HOURS: Final = RISK_WITHIN / timedelta(hours=1)
_GRACE_HOURS: Final = 1.0
"""How late a final scan may come before somebody is told: an hour of ticks, or of an API that is down."""


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation.

    Attributes:
        name: its SQL file's.
        table: the table that it looks at.
        columns: those of its columns that the query needs: a day's are many to read.
        meaning: what is expected, in one sentence.
        is_error: whether a failing row is an error; otherwise somebody should look.
    """

    name: str
    table: Table
    columns: tuple[str, ...]
    meaning: str
    is_error: bool


CHECKS = (
    Check(
        "operation_ids",
        OPERATIONS,
        ("operation_id",),
        "Operation ids are unique and not empty.",
        is_error=True,
    ),
    Check(
        "parts_within_total",
        OPERATIONS,
        ("operation_id", *COUNT_NAMES),
        "The parts of an operation don't exceed its total.",
        is_error=True,
    ),
    Check(
        "known_to_reference",
        OPERATIONS,
        ("operation_id", "status", "extra"),
        "Statuses, fields and ids are those that the API's reference documents.",
        is_error=False,
    ),
    Check(
        "embedded_time",
        OPERATIONS,
        ("operation_id", "created_at"),
        "The time in an operation's id is that of its creation, to a minute.",
        is_error=False,
    ),
    Check(
        "rejects",
        REJECTS,
        ("operation_id", "reason", "raw", "observed_at"),
        "Every record could be read.",
        is_error=False,
    ),
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
    rows = parquet.read(lake.part(check.table, partition), check.table.arrow, check.columns)
    return rows.append_column("account_id", pa.repeat(partition.account_id, rows.num_rows))


def _empty(check: Check) -> pa.Table:
    fields = [check.table.arrow.field(name) for name in check.columns]
    return pa.schema([*fields, pa.field("account_id", pa.string())]).empty_table()


def _list(texts: Iterable[str]) -> str:
    return ", ".join(engine.literal(text) for text in texts)


# What should hold of the coverage, at the moment of the latest scan.


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check of the coverage found.

    Attributes:
        slots: the slots that are meant, as rows of `schema.COVERAGE_SLOTS`; none if all is well.
        is_error: whether something is lost or will be within hours; otherwise somebody should look.
    """

    slots: tuple[dict[str, Any], ...]
    is_error: bool


def lost_lately(lake: Lake) -> Findings:
    """The slots that were lost in the last 7 days: their deadline passed without a scan after their end.

    Older ones stay gaps for ever, in coverage_slots; but a check that fails for ever warns of nothing.
    """
    states = _states(lake)
    lost = [s for s in states if s["state"] == "gap" and s["deadline"] > s["as_of"] - RETENTION]
    return Findings(tuple(lost), is_error=True)


def deadlines_missed(lake: Lake, first_final_scan: timedelta) -> Findings:
    """The slots whose final scan is overdue: an error where little time is left.

    Args:
        lake: the archive.
        first_final_scan: how long before a slot's deadline its final scans begin.
    """
    latest = first_final_scan / timedelta(hours=1) - _GRACE_HOURS
    overdue = [
        slot
        for slot in _states(lake)
        if slot["state"] == "at_risk" or (slot["state"] == "open" and slot["hours_left"] < latest)
    ]
    return Findings(tuple(overdue), is_error=any(s["hours_left"] < _RISK_HOURS for s in overdue))


def silent_accounts(lake: Lake) -> pa.Table:
    """The accounts without a new operation for much longer than usual: one row each.

    Either nothing was sent, or the API or its filters have changed.
    """
    query = engine.sql("pipeline", "checks/newest_operation")
    return ask_lake(lake, (COVERAGE, DELIVERY_HOURLY), query)


def _states(lake: Lake) -> list[dict[str, Any]]:
    states: list[dict[str, Any]] = slot_states(lake, datetime.min.replace(tzinfo=UTC)).to_pylist()
    return states
