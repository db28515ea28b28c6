"""The data of the report: rows queried from the published warehouse.

All of it is aggregated and limited, so that the page stays small.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import duckdb

from pipeline.access.curves import delivery_by_age
from pipeline.access.query import query_error
from pipeline.errors import UsageError
from pipeline.lake import engine
from pipeline.lake.accounts import KnownAccount, accounts_named
from pipeline.lake.layout import Lake
from pipeline.model.schema import AGES
from pipeline.outputs.counting import Reading
from pipeline.outputs.published import open_warehouse
from pipeline.outputs.warehouse import ANOMALY_DAYS, ANOMALY_FEWEST_DAYS
from pipeline.report.operations import Bands, Operations, by_period, read_bands
from pipeline.report.rows import PERIODS, Row, Rows, query, rows

MOST_DAYS: Final = 200
"""More days are shown by week."""

RECENT_DAYS: Final = 28
"""Days in the size classes."""

CURVE_DAYS: Final = 90
"""Days of creation in the delivery curves."""

CALENDAR_WEEKS: Final = 26
"""Weeks in the calendar of coverage; earlier days are only counted."""

MOST_ACCOUNTS: Final = 10
"""Accounts with a section: those with the most operations."""

ALL_ACCOUNTS: Final = "All accounts"

_STATES: Final = ["before", "final", "closed", "partial", "changing", "gaps"]
"""The completeness of a period, the best known first."""

_BEHIND: Final = timedelta(days=1)
"""An account whose latest scan is so much older than another's is named."""

_LAST_AGE: Final = AGES[-1][1]


@dataclass(frozen=True, slots=True)
class Account:
    """The data of one account, or of all together. A list has the rows of the SQL file of its name.

    Attributes:
        account_id: the account; empty for all together.
        name: its name in the configuration; its SID without one.
        operations: operations in the archive.
        first_day: the first UTC day with operations; None if there are none.
        last_day: the last one.
        as_of: the latest scan, UTC.
        newest: the latest scan of any account of the page: its day ends all periods.
        days: counts and rates by day.
        weeks: the same by week, if there are too many days for one chart; empty otherwise.
        periods: sums and rates by period, also of settled and settled_before if there are such weeks.
        chosen: by period, the largest and the worst operations, and why emails failed.
        is_retired: whether the account is not synced any more.
        behind: of all together, the names of the other accounts that were not scanned for a day.
        reading: the reading of the counts that the rates use; None if there is none.
        anomalies: unusual rates.
        anomalies_of_accounts: of all together, the unusual rates of each, with its name in `account`.
        judged_days: by rate, the number of days with an expected range.
        curve: bounds of what was delivered and opened, by age.
        weekday_hour: 168 rows.
        sizes: by size class, over those of the last 28 days without lost or unknown hours.
        coverage: the state of each day.
    """

    account_id: str
    name: str
    operations: int
    first_day: date | None
    last_day: date | None
    as_of: datetime | None
    newest: datetime | None
    days: Rows
    weeks: Rows
    periods: Mapping[str, Row]
    chosen: Mapping[str, Operations]
    is_retired: bool = False
    behind: Sequence[str] = ()
    reading: Reading | None = None
    anomalies: Rows = field(default_factory=list)
    anomalies_of_accounts: Rows = field(default_factory=list)
    judged_days: Mapping[str, int] = field(default_factory=dict)
    curve: Rows = field(default_factory=list)
    weekday_hour: Rows = field(default_factory=list)
    sizes: Rows = field(default_factory=list)
    coverage: Rows = field(default_factory=list)

    @property
    def is_behind(self) -> bool:
        """Whether another account was scanned a day after this one's latest scan."""
        return not self.is_retired and _is_behind(self.as_of, self.newest)

    def first_of(self, period: str) -> date:
        """The first day of a period."""
        if period == "all" or self.newest is None:
            return date.min
        return self.newest.date() - timedelta(days=int(period) - 1)

    def series(self, period: str) -> Rows:
        """The days of a period, or its weeks if there are too many days for a chart."""
        if period == "all" and self.weeks:
            return self.weeks
        return [row for row in self.days if row["period"] >= self.first_of(period)]


def read_accounts(lake: Lake, accounts: Collection[str] = ()) -> tuple[list[Account], list[str]]:
    """Query the published warehouse.

    Args:
        lake: the archive.
        accounts: only those with these SIDs or names; all if empty.

    Returns:
        All accounts together, if there are several, and then at most `MOST_ACCOUNTS`, the one with the most
        operations first; and the names of the others.

    Raises:
        UsageError: there is no archive, no warehouse, or no such account.
        ArchiveError: DuckDB can't read the warehouse.
    """
    wanted = {one.sid: one for one in accounts_named(lake.must_exist(), accounts)}
    try:
        with open_warehouse(lake) as connection:
            return _read(connection, wanted)
    except duckdb.CatalogException as error:
        msg = (
            f"the warehouse of {lake.root} is an older version's: make it with "
            "`email-archive publish`"
        )
        raise UsageError(msg) from error
    except duckdb.Error as error:
        raise query_error(error) from error


def _read(
    connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, KnownAccount]
) -> tuple[list[Account], list[str]]:
    _copy_coverage(connection, wanted)
    found = [
        row | {"name": known.name, "is_retired": known.retired_at is not None}
        for row in query(connection, "accounts")
        if (known := wanted.get(row["account_id"]))
    ]
    if not found:
        return [], []
    names = {row["account_id"]: row["name"] for row in found}
    newest = max((row["as_of"] for row in found if row["as_of"]), default=None)
    bands = read_bands(connection, names, newest.date()) if newest else Bands([], [])
    since = _copy_curves(connection, [*names][:MOST_ACCOUNTS])
    read = [
        _account(connection, row, newest, bands, since.get(row["account_id"]))
        for row in found[:MOST_ACCOUNTS]
    ]
    if len(found) > 1:
        read.insert(0, _total(connection, found, newest, bands))
    return read, [row["name"] for row in found[MOST_ACCOUNTS:]]


def _is_behind(as_of: datetime | None, newest: datetime | None) -> bool:
    return newest is not None and (as_of is None or newest - as_of > _BEHIND)


def _copy_coverage(connection: duckdb.DuckDBPyConnection, accounts: Iterable[str]) -> None:
    """Copy the two coverage views into temporary tables of the same names, for some accounts.

    A query of such a view opens the files of every account. With one query per account, the cost would grow
    with the square of their number.
    """
    # With literals, DuckDB opens no file of another account, which may be damaged (R12).
    sids = ", ".join(engine.literal(sid) for sid in accounts)
    slots = f"FROM coverage_slots WHERE account_id IN ({sids})"
    connection.execute(f"CREATE TEMP TABLE coverage_slots AS {slots}")
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
        for row in query(connection, "newest_known", last_age=_LAST_AGE)
        if row["account_id"] in accounts
    }
    if since:
        curves = engine.sql("pipeline.report", "recent_curves")
        first = {"since": min(since.values()).date()}
        connection.execute(f"CREATE TEMP TABLE recent_curves AS {curves}", first)
    return since


def _total(
    connection: duckdb.DuckDBPyConnection, found: Rows, newest: datetime | None, bands: Bands
) -> Account:
    """All accounts together: what can be added up."""
    names = {row["account_id"]: row["name"] for row in found}
    return Account(
        account_id="",
        name=ALL_ACCOUNTS,
        operations=sum(row["operations"] for row in found),
        first_day=min((row["first_day"] for row in found if row["first_day"]), default=None),
        last_day=max((row["last_day"] for row in found if row["last_day"]), default=None),
        as_of=newest,
        newest=newest,
        behind=[
            row["name"]
            for row in found
            if not row["is_retired"] and _is_behind(row["as_of"], newest)
        ],
        anomalies_of_accounts=[
            row | {"account": names[row["account_id"]]}
            for row in query(connection, "anomalies", accounts=[*names])
        ],
        **_sums(connection, [*names], newest, bands),
    )


def _account(
    connection: duckdb.DuckDBPyConnection,
    row: Row,
    newest: datetime | None,
    bands: Bands,
    since: datetime | None,
) -> Account:
    account = row["account_id"]
    judged = {
        "account": account,
        "days_before": ANOMALY_DAYS,
        "fewest_days": ANOMALY_FEWEST_DAYS,
    }
    curve = delivery_by_age("FROM recent_curves WHERE account_id = $account AND hour > $since")
    return Account(
        **row,
        newest=newest,
        **_sums(connection, [account], newest, bands),
        reading=next((one for one in _readings(connection) if one.account_id == account), None),
        anomalies=query(connection, "anomalies", accounts=[account]),
        judged_days={
            one["rate"]: one["days"] for one in query(connection, "judged_days", **judged)
        },
        curve=rows(connection, curve, account=account, since=since) if since else [],
        weekday_hour=query(connection, "weekday_hour", account=account),
        sizes=query(connection, "sizes", account=account, days=RECENT_DAYS),
        coverage=query(connection, "coverage", account=account),
    )


def _sums(
    connection: duckdb.DuckDBPyConnection,
    accounts: list[str],
    newest: datetime | None,
    bands: Bands,
) -> dict[str, Any]:
    """What is summed over accounts: one, or all together."""
    days = query(connection, "days", accounts=accounts, states=_STATES)
    is_long = len(days) > MOST_DAYS
    values = {"accounts": accounts, "last_day": newest and newest.date(), "periods": [*PERIODS]}
    return {
        "days": days,
        "weeks": query(connection, "weeks", accounts=accounts, states=_STATES) if is_long else [],
        "periods": {one["period"]: one for one in query(connection, "periods", **values)},
        "chosen": by_period(bands, accounts),
    }


def _readings(connection: duckdb.DuckDBPyConnection) -> list[Reading]:
    found = connection.sql(engine.sql("pipeline.outputs", "readings")).to_arrow_table().to_pylist()
    return [Reading(**row) for row in found]
