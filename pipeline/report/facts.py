"""What the report tells of an account: the answers of the warehouse, as rows.

The page stays small because everything here is an aggregate, and bounded: days become weeks where there
are too many of them, and calendars end after half a year.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

import duckdb

from pipeline import engine
from pipeline.counting import Reading
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.published import open_warehouse
from pipeline.query import unanswered
from pipeline.schema import AGES
from pipeline.warehouse import ANOMALY_DAYS, ANOMALY_FEWEST_DAYS

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[Row]

MOST_DAYS: Final = 200
"""A longer archive is shown by weeks."""

RECENT_DAYS: Final = 28
"""The most days that the headline and the size classes are of."""

CURVE_DAYS: Final = 90
"""The days of creation that the delivery curves are of."""

CALENDAR_WEEKS: Final = 26
"""The weeks that the calendar of coverage has; earlier days are counted."""

MOST_ACCOUNTS: Final = 8
"""Accounts on one page; those with the most operations."""

_LAST_AGE: Final = AGES[-1][1]


@dataclass(frozen=True, slots=True)
class Account:
    """What is shown of one account; each list is the answer of the SQL file of its name.

    Attributes:
        account_id: the account.
        operations: operations in the archive.
        first_day: the first UTC day with operations; None if there are none.
        last_day: the last one.
        as_of: the account's latest scan, UTC: what the report is true for.
        is_weekly: whether `series` is of weeks, and not of days.
        headline: sums and rates by the period's name: recent, and where there are any settled and
            settled_before.
        reading: how the counts are read for the rates; None if nothing says so.
        series: volume and rates over time.
        anomalies: days and rates that left their band, in the time of `series`.
        judged_days: the days that have an expected range, by rate.
        curve: what was delivered and opened by each age, between two bounds.
        weekday_hour: 168 rows.
        sizes: by size class, over those of the last 28 days that are known whole so far.
        coverage: how far each day is known.
    """

    account_id: str
    operations: int
    first_day: date | None
    last_day: date | None
    as_of: datetime | None
    is_weekly: bool
    headline: dict[str, Row]
    reading: Reading | None
    series: Rows
    anomalies: Rows
    judged_days: dict[str, int]
    curve: Rows
    weekday_hour: Rows
    sizes: Rows
    coverage: Rows


def read_accounts(lake: Lake, account_id: str | None = None) -> tuple[list[Account], list[str]]:
    """Ask the published warehouse about its accounts.

    Args:
        lake: the archive.
        account_id: this account alone; None for all, the one with the most operations first.

    Returns:
        The accounts that one page has room for, and the ids of those that it has not.

    Raises:
        UsageError: there is no archive, no warehouse, or no such account.
        ArchiveError: DuckDB can't read the warehouse.
    """
    try:
        with open_warehouse(lake) as connection:
            _keep_slots(connection)
            found = _ask(connection, "accounts")
            known = [row["account_id"] for row in found]
            if account_id is not None:
                if account_id not in known:
                    msg = f"expected one of the accounts {', '.join(known) or '(none)'}; got {account_id}"
                    raise UsageError(msg)
                found = [row for row in found if row["account_id"] == account_id]
            shown = found[:MOST_ACCOUNTS]
            since = _keep_curves(connection, [row["account_id"] for row in shown])
            accounts = [_read(connection, row, since.get(row["account_id"])) for row in shown]
            return accounts, [row["account_id"] for row in found[MOST_ACCOUNTS:]]
    except duckdb.CatalogException as error:
        msg = (
            f"the warehouse of {lake.root} is an older version's: make it with "
            "`email-archive publish`"
        )
        raise UsageError(msg) from error
    except duckdb.Error as error:
        raise unanswered(error) from error


def _keep_slots(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the two coverage views of all accounts as temporary tables of the same names.

    Each query of such a view opens every day's files: one for each account would make the report's cost grow
    with the square of their number.
    """
    connection.execute("CREATE TEMP TABLE coverage_slots AS FROM coverage_slots")
    days = engine.sql("pipeline", "coverage_days")
    connection.execute(f"CREATE TEMP TABLE coverage_days AS {days}")


def _keep_curves(
    connection: duckdb.DuckDBPyConnection, accounts: Sequence[str]
) -> dict[str, datetime]:
    """Keep the newest days of delivery_curve of all accounts as the temporary table recent_curves.

    Returns:
        The hour after which an account's curves begin; none for an account without a final hour.
    """
    since: dict[str, datetime] = {
        row["account_id"]: row["newest_hour"] - timedelta(days=CURVE_DAYS)
        for row in _ask(connection, "newest_known", last_age=_LAST_AGE)
        if row["account_id"] in accounts
    }
    if since:
        curves = engine.sql("pipeline.report", "recent_curves")
        first = {"since": min(since.values()).date()}
        connection.execute(f"CREATE TEMP TABLE recent_curves AS {curves}", first)
    return since


def _read(connection: duckdb.DuckDBPyConnection, row: Row, since: datetime | None) -> Account:
    account = row["account_id"]
    series = _ask(connection, "daily", account=account)
    is_weekly = len(series) > MOST_DAYS
    if is_weekly:
        series = _ask(connection, "weekly", account=account)
    first = series[0]["period"] if series else None
    anomalies = _ask(connection, "anomalies", account=account)
    curve = {"account": account, "since": since, "last_age": _LAST_AGE}
    return Account(
        **row,
        is_weekly=is_weekly,
        headline={
            one["period"]: one
            for one in _ask(connection, "headline", account=account, days=RECENT_DAYS)
        },
        reading=next((one for one in _readings(connection) if one.account_id == account), None),
        series=series,
        anomalies=[one for one in anomalies if first is not None and one["created_date"] >= first],
        judged_days={
            one["rate"]: one["days"]
            for one in _ask(
                connection,
                "judged_days",
                account=account,
                days_before=ANOMALY_DAYS,
                fewest_days=ANOMALY_FEWEST_DAYS,
            )
        },
        curve=_ask(connection, "curve", **curve) if since else [],
        weekday_hour=_ask(connection, "weekday_hour", account=account),
        sizes=_ask(connection, "sizes", account=account, days=RECENT_DAYS),
        coverage=_ask(connection, "coverage", account=account),
    )


def _readings(connection: duckdb.DuckDBPyConnection) -> list[Reading]:
    found = connection.sql(engine.sql("pipeline", "readings")).to_arrow_table().to_pylist()
    return [Reading(**row) for row in found]


def _ask(connection: duckdb.DuckDBPyConnection, name: str, **values: Any) -> Rows:
    query = engine.sql("pipeline.report", name)
    rows: Rows = connection.sql(query, params=values or None).to_arrow_table().to_pylist()
    return rows
