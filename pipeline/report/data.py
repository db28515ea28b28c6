"""The data of the report: rows queried from the published warehouse.

All of it is aggregated and limited, so that the page stays small.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

import duckdb

from pipeline.access.curves import delivery_by_age
from pipeline.access.query import query_error
from pipeline.errors import UsageError
from pipeline.lake import engine
from pipeline.lake.accounts import known_as
from pipeline.lake.layout import Lake
from pipeline.model.schema import AGES
from pipeline.outputs.counting import Reading
from pipeline.outputs.published import open_warehouse
from pipeline.outputs.warehouse import ANOMALY_DAYS, ANOMALY_FEWEST_DAYS

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[Row]

MOST_DAYS: Final = 200
"""A longer archive is shown by week."""

RECENT_DAYS: Final = 28
"""Days in the headline and the size classes."""

CURVE_DAYS: Final = 90
"""Days of creation in the delivery curves."""

CALENDAR_WEEKS: Final = 26
"""Weeks in the calendar of coverage; earlier days are only counted."""

MOST_ACCOUNTS: Final = 8
"""Accounts on one page: those with the most operations."""

_LAST_AGE: Final = AGES[-1][1]


@dataclass(frozen=True, slots=True)
class Account:
    """The data of one account. A list has the rows of the SQL file of its name.

    Attributes:
        account_id: the account.
        operations: operations in the archive.
        first_day: the first UTC day with operations; None if there are none.
        last_day: the last one.
        as_of: the account's latest scan, UTC.
        is_weekly: whether `series` has weeks instead of days.
        headline: sums and rates by period: recent and, if there are such days, settled and settled_before.
        reading: the reading of the counts that the rates use; None if there is none.
        series: volume and rates over time.
        anomalies: unusual rates within the time of `series`.
        judged_days: by rate, the number of days with an expected range.
        curve: bounds of what was delivered and opened, by age.
        weekday_hour: 168 rows.
        sizes: by size class, over those of the last 28 days without lost or unknown hours.
        coverage: the state of each day.
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


def read_accounts(lake: Lake, accounts: Collection[str] = ()) -> tuple[list[Account], list[str]]:
    """Query the published warehouse.

    Args:
        lake: the archive.
        accounts: only those with these SIDs or names; all if empty. The one with the most operations comes
            first.

    Returns:
        At most `MOST_ACCOUNTS` accounts, and the ids of the others.

    Raises:
        UsageError: there is no archive, no warehouse, or no such account.
        ArchiveError: DuckDB can't read the warehouse.
    """
    wanted = {one.sid for one in known_as(lake.must_exist(), accounts)}
    try:
        with open_warehouse(lake) as connection:
            _copy_coverage(connection)
            found = _query(connection, "accounts")
            if accounts:
                found = [row for row in found if row["account_id"] in wanted]
            shown = found[:MOST_ACCOUNTS]
            since = _copy_curves(connection, [row["account_id"] for row in shown])
            read = [_read(connection, row, since.get(row["account_id"])) for row in shown]
            return read, [row["account_id"] for row in found[MOST_ACCOUNTS:]]
    except duckdb.CatalogException as error:
        msg = (
            f"the warehouse of {lake.root} is an older version's: make it with "
            "`email-archive publish`"
        )
        raise UsageError(msg) from error
    except duckdb.Error as error:
        raise query_error(error) from error


def _copy_coverage(connection: duckdb.DuckDBPyConnection) -> None:
    """Copy the two coverage views into temporary tables of the same names.

    A query of such a view opens the files of every account. With one query per account, the cost would grow
    with the square of their number.
    """
    connection.execute("CREATE TEMP TABLE coverage_slots AS FROM coverage_slots")
    days = engine.sql("pipeline.outputs", "coverage_days")
    connection.execute(f"CREATE TEMP TABLE coverage_days AS {days}")


def _copy_curves(
    connection: duckdb.DuckDBPyConnection, accounts: Sequence[str]
) -> dict[str, datetime]:
    """Copy the newest days of delivery_curve into the temporary table recent_curves.

    Returns:
        By account, the hour after which its curves begin. Accounts without a final hour have none.
    """
    since: dict[str, datetime] = {
        row["account_id"]: row["newest_hour"] - timedelta(days=CURVE_DAYS)
        for row in _query(connection, "newest_known", last_age=_LAST_AGE)
        if row["account_id"] in accounts
    }
    if since:
        curves = engine.sql("pipeline.report", "recent_curves")
        first = {"since": min(since.values()).date()}
        connection.execute(f"CREATE TEMP TABLE recent_curves AS {curves}", first)
    return since


def _read(connection: duckdb.DuckDBPyConnection, row: Row, since: datetime | None) -> Account:
    account = row["account_id"]
    series = _query(connection, "daily", account=account)
    is_weekly = len(series) > MOST_DAYS
    if is_weekly:
        series = _query(connection, "weekly", account=account)
    first = series[0]["period"] if series else None
    anomalies = _query(connection, "anomalies", account=account)
    curve = delivery_by_age("FROM recent_curves WHERE account_id = $account AND hour > $since")
    return Account(
        **row,
        is_weekly=is_weekly,
        headline={
            one["period"]: one
            for one in _query(connection, "headline", account=account, days=RECENT_DAYS)
        },
        reading=next((one for one in _readings(connection) if one.account_id == account), None),
        series=series,
        anomalies=[one for one in anomalies if first is not None and one["created_date"] >= first],
        judged_days={
            one["rate"]: one["days"]
            for one in _query(
                connection,
                "judged_days",
                account=account,
                days_before=ANOMALY_DAYS,
                fewest_days=ANOMALY_FEWEST_DAYS,
            )
        },
        curve=_rows(connection, curve, account=account, since=since) if since else [],
        weekday_hour=_query(connection, "weekday_hour", account=account),
        sizes=_query(connection, "sizes", account=account, days=RECENT_DAYS),
        coverage=_query(connection, "coverage", account=account),
    )


def _readings(connection: duckdb.DuckDBPyConnection) -> list[Reading]:
    found = connection.sql(engine.sql("pipeline.outputs", "readings")).to_arrow_table().to_pylist()
    return [Reading(**row) for row in found]


def _query(connection: duckdb.DuckDBPyConnection, name: str, **values: Any) -> Rows:
    return _rows(connection, engine.sql("pipeline.report", name), **values)


def _rows(connection: duckdb.DuckDBPyConnection, query: str, **values: Any) -> Rows:
    rows: Rows = connection.sql(query, params=values or None).to_arrow_table().to_pylist()
    return rows
