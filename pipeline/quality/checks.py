"""Data quality checks: each is a query that returns the failing rows.

The checks validate the API's data, not this package's code. If one fails, the API has changed or returned
wrong data; the rows name the operations. Each check is one SQL file in ``sql/checks``.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import engine, parquet
from pipeline.lake.accounts import known_accounts, retired_accounts
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import (
    COUNT_NAMES,
    COVERAGE,
    DELIVERY_HOURLY,
    MAX_PLAUSIBLE_COUNT,
    OPERATION_ID_PATTERN,
    OPERATIONS,
    REJECTS,
    STATUSES,
    Table,
)
from pipeline.model.windows import CLOCK_MARGIN, RETENTION, RISK_WITHIN
from pipeline.outputs.collected import SCANNED, scan_times, slot_states
from pipeline.outputs.views import ask_lake, read_without_damaged

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_RISK_HOURS: Final = RISK_WITHIN / timedelta(hours=1)
_ACCOUNT: Final = "account_id"
_ACCOUNTS: Final = pa.dictionary(pa.int32(), pa.string())
_AT_ONCE: Final = 2_000_000
"""Rows that are checked at once: about 300 MB."""

UNSYNCED_AFTER: Final = timedelta(days=1)
"""How old the latest scan of an active account may be: a sync is due every 10 minutes."""

_GRACE_HOURS: Final = 1.0
"""How late a final scan may be before it is reported: an hour of missed ticks, or of an API outage."""


@dataclass(frozen=True, slots=True)
class Check:
    """A data quality check.

    Attributes:
        name: its name, which is that of its SQL file.
        table: the table that it reads.
        columns: the columns that its query needs; only these are read.
        meaning: what is expected, in one sentence.
        is_error: whether a failing row is an error; otherwise it is a warning.
        is_across_days: whether the check compares rows of different days.
    """

    name: str
    table: Table
    columns: tuple[str, ...]
    meaning: str
    is_error: bool
    is_across_days: bool = False


CHECKS = (
    Check(
        "operation_ids",
        OPERATIONS,
        ("operation_id",),
        "Operation ids are unique and not empty.",
        is_error=True,
        is_across_days=True,
    ),
    Check(
        "parts_within_total",
        OPERATIONS,
        ("operation_id", *COUNT_NAMES),
        "The parts of an operation don't exceed its total.",
        is_error=True,
    ),
    Check(
        "plausible_counts",
        OPERATIONS,
        ("operation_id", *COUNT_NAMES),
        f"No count of an operation is above {MAX_PLAUSIBLE_COUNT:,}; delivery tables leave out one that is.",
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
        "Every record could be parsed.",
        is_error=False,
    ),
)


def failing_rows(
    lake: Lake, checks: Sequence[Check], partitions: Iterable[Partition]
) -> dict[str, pa.Table]:
    """The rows of some partitions that fail checks; each column is read once for all checks.

    Args:
        lake: the archive.
        checks: some of `CHECKS`.
        partitions: the partitions to check.

    Returns:
        By the check's name, its failing rows, with at least ``operation_id`` and ``problem``. The order of
        the rows that are checked at once is deterministic.

    Raises:
        LakeError: a file is damaged, or is not of this archive.
    """
    wanted = set(partitions)
    failing: dict[str, list[pa.Table]] = {check.name: [] for check in checks}
    with engine.connect(spill=lake.spill) as connection:
        for table in dict.fromkeys(check.table for check in checks):
            of_table = [check for check in checks if check.table == table]
            ids: dict[str, list[pa.Table]] = {c.name: [] for c in of_table if c.is_across_days}
            for rows in _rows(lake, table, {name for c in of_table for name in c.columns}, wanted):
                for check in of_table:
                    if check.is_across_days:
                        ids[check.name].append(rows.select([*check.columns, _ACCOUNT]))
                    else:
                        failing[check.name].append(_ask(connection, check, rows))
            for check in of_table:
                if check.is_across_days:
                    everything = pa.concat_tables(ids[check.name])
                    failing[check.name].append(_ask(connection, check, everything))
    return {name: pa.concat_tables(found) for name, found in failing.items()}


def _rows(
    lake: Lake, table: Table, columns: Container[str], wanted: Container[Partition]
) -> Iterator[pa.Table]:
    """The rows of some partitions, with their account, in batches of about `_AT_ONCE` rows."""
    names = [name for name in table.names if name in columns]
    fields = [table.arrow.field(name) for name in names]
    parts = [pa.schema([*fields, pa.field(_ACCOUNT, _ACCOUNTS)]).empty_table()]
    count = 0
    for partition in lake.partitions(table.name):
        if partition in wanted:
            rows = parquet.read(lake.part(table, partition), table.arrow, names)
            places = pa.repeat(pa.scalar(0, pa.int32()), rows.num_rows)
            accounts = pa.DictionaryArray.from_arrays(places, [partition.account_id])
            parts.append(rows.append_column(_ACCOUNT, accounts))
            count += rows.num_rows
            if count >= _AT_ONCE:
                yield pa.concat_tables(parts)
                parts, count = parts[:1], 0
    yield pa.concat_tables(parts)


def _ask(connection: duckdb.DuckDBPyConnection, check: Check, rows: pa.Table) -> pa.Table:
    query = engine.render(
        engine.sql("pipeline.quality", f"checks/{check.name}"),
        counts=_list(COUNT_NAMES),
        names=", ".join(COUNT_NAMES),
        most=str(MAX_PLAUSIBLE_COUNT),
        statuses=_list(STATUSES),
        pattern=engine.literal(OPERATION_ID_PATTERN),
    )
    connection.register(check.table.name, rows)
    return connection.sql(query).to_arrow_table()


def _list(texts: Iterable[str]) -> str:
    return ", ".join(engine.literal(text) for text in texts)


# Checks of the coverage, at the time of the latest scan.


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a check of the coverage.

    Attributes:
        slots: the failing slots, as rows of `schema.COVERAGE_SLOTS`; none if the check passes.
        is_error: whether slots are lost or will be within hours; otherwise it is a warning.
    """

    slots: tuple[Mapping[str, Any], ...]
    is_error: bool


def recent_states(lake: Lake, now: datetime = _NEVER) -> list[dict[str, Any]]:
    """The states of the slots whose deadline is still to come or was in the last 7 days.

    They are as of `now`, or of the account's latest scan if that is later.

    Returns:
        Rows of `schema.COVERAGE_SLOTS`, without retired accounts and days with damaged files. A damaged
        file must not hide other accounts (R12); publishing reports it.
    """
    states, _ = read_without_damaged(lake, SCANNED, partial(slot_states, lake, now))
    is_recent = pc.greater(states["deadline"], pc.subtract(states["as_of"], pa.scalar(RETENTION)))
    retired = retired_accounts(lake)
    return [row for row in states.filter(is_recent).to_pylist() if row["account_id"] not in retired]


def last_scans(lake: Lake) -> dict[str, datetime]:
    """When the latest scan of each account began, by SID. Damaged files are left out."""
    scans, _ = read_without_damaged(lake, (COVERAGE,), partial(scan_times, lake))
    latest = scans.group_by("account_id").aggregate([("observed_at", "max")]).to_pylist()
    return {row["account_id"]: row["observed_at_max"] for row in latest}


def is_unsynced(last_scan_at: datetime | None, now: datetime) -> bool:
    """Whether an active account is not synced any more, or was never.

    Args:
        last_scan_at: when its latest scan began; None without any.
        now: this machine's time: an account that is not scanned has no later time of its own.
    """
    return last_scan_at is None or now - last_scan_at > UNSYNCED_AFTER


def unsynced_accounts(lake: Lake, now: datetime) -> dict[str, str]:
    """The active accounts that are not synced, by SID, and when the latest scan of each began, or "never".

    Args:
        lake: the archive.
        now: this machine's time.
    """
    latest = last_scans(lake)
    active = (one.sid for one in known_accounts(lake).values() if one.retired_at is None)
    late = {sid: latest.get(sid) for sid in active if is_unsynced(latest.get(sid), now)}
    return {sid: "never" if moment is None else moment.isoformat() for sid, moment in late.items()}


def lost_lately(states: Iterable[Mapping[str, Any]]) -> Findings:
    """The slots that were lost in the last 7 days: their deadline passed without a scan after their end.

    Older ones remain gaps in coverage_slots, but a check that fails for ever would hide new losses.

    Args:
        states: the result of `recent_states`.
    """
    lost = [slot for slot in states if slot["state"] == "gap"]
    return Findings(tuple(lost), is_error=True)


def deadlines_missed(states: Iterable[Mapping[str, Any]], first_final_scan: timedelta) -> Findings:
    """The slots whose final scan is overdue: an error if little time is left.

    Args:
        states: the result of `recent_states`.
        first_final_scan: how long before a slot's deadline its final scans begin.
    """
    latest = first_final_scan / timedelta(hours=1) - _GRACE_HOURS
    overdue = [
        slot
        for slot in states
        if slot["state"] == "at_risk" or (slot["state"] == "open" and slot["hours_left"] < latest)
    ]
    return Findings(tuple(overdue), is_error=any(s["hours_left"] < _RISK_HOURS for s in overdue))


def scanned_after(states: Iterable[Mapping[str, Any]], moment: datetime) -> dict[str, str]:
    """The accounts whose latest scan is later than a time plus the clock margin, with that scan's time.

    Args:
        states: the result of `recent_states`.
        moment: the time, usually this machine's.
    """
    latest = {state["account_id"]: state["as_of"] for state in states}
    return {
        account_id: as_of.isoformat()
        for account_id, as_of in latest.items()
        if as_of > moment + CLOCK_MARGIN
    }


def silent_accounts(lake: Lake) -> pa.Table:
    """The active accounts without a new operation for much longer than usual: one row each.

    Either there was no operation, or the API or its filters have changed.
    """
    query = engine.sql("pipeline.quality", "checks/newest_operation")
    silent = ask_lake(lake, (COVERAGE, DELIVERY_HOURLY), query)
    is_retired = pc.is_in(silent["account_id"], pa.array(retired_accounts(lake), pa.string()))
    return silent.filter(pc.invert(is_retired))
