"""The largest and the worst operations of each period, and why emails failed.

The queries read each day once: their rows are of bands of days, and a period is the sum of its bands. All
accounts together are the sum of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import duckdb

from pipeline.model.schema import MAX_PLAUSIBLE_COUNT
from pipeline.report.rows import PERIODS, Row, Rows, query

MOST: Final = 5
"""Operations in a list."""

MOST_REASONS: Final = 8
"""Reasons in a list; the others are counted together."""

DAYS: Final = 366
"""Older operations are in no list: each day is a file."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What stands out in a period.

    Attributes:
        largest: the operations with the most emails.
        worst: those with the most undelivered and failed emails beyond the account's average of the period.
        reasons: codes and messages of errors, the most frequent first.
        with_failed: the number of operations with failed emails.
        with_reason: the number of those whose errors are known.
    """

    largest: Rows
    worst: Rows
    reasons: Rows
    with_failed: int
    with_reason: int


@dataclass(frozen=True, slots=True)
class Bands:
    """The rows of `operations` and `failures`, of all accounts."""

    operations: Rows
    failures: Rows


def read_bands(
    connection: duckdb.DuckDBPyConnection, names: Mapping[str, str], last_day: date
) -> Bands:
    """Query the operations and the errors of the periods that end with this day.

    Args:
        connection: the warehouse.
        names: of the accounts, by SID: each operation gets its account's.
        last_day: the day.
    """
    lengths = [DAYS if period == "all" else int(period) for period in PERIODS]
    values = {
        "accounts": list(names),
        "firsts": [last_day - timedelta(days=days - 1) for days in lengths],
    }
    rows = query(connection, "operations", most=MOST, largest=MAX_PLAUSIBLE_COUNT, **values)
    for row in rows:
        for one in (*(row["largest"] or ()), *(row["worst"] or ())):
            one["account"] = names[row["account_id"]]
    return Bands(rows, query(connection, "failures", **values))


def by_period(bands: Bands, accounts: Sequence[str]) -> dict[str, Operations]:
    """What stands out among some accounts, by period."""

    def of(rows: Rows, last_band: int) -> Rows:
        return [row for row in rows if row["account_id"] in accounts and row["band"] <= last_band]

    return {
        period: _operations(of(bands.operations, n), n, of(bands.failures, n))
        for n, period in enumerate(PERIODS, 1)
    }


def _operations(rows: Rows, period: int, failures: Rows) -> Operations:
    return Operations(
        largest=_first(rows, "largest", "emails"),
        worst=_first([row for row in rows if row["period"] == period], "worst", "excess"),
        reasons=_reasons(failures),
        with_failed=sum(row["with_failed"] for row in rows),
        with_reason=sum(row["with_reason"] for row in rows),
    )


def _first(rows: Rows, name: str, by: str) -> Rows:
    def order(one: Row) -> tuple[float, datetime, str]:
        return one[by], one["created_at"], one["operation_id"]

    return sorted((one for row in rows for one in row[name] or ()), key=order, reverse=True)[:MOST]


def _reasons(failures: Rows) -> Rows:
    found: dict[tuple[str, str], Row] = {}
    for row in failures:
        one = found.setdefault(
            (row["code"], row["reason"]), row | {"operations": 0, "occurrences": 0}
        )
        one["operations"] += row["operations"]
        one["occurrences"] += row["occurrences"]
        differ = row["message"] != one["message"]
        one["messages"] = max(one["messages"], row["messages"], 2 if differ else 1)
    return sorted(found.values(), key=lambda one: (-one["operations"], one["code"], one["reason"]))
