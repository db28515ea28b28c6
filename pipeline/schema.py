"""Every table and column, once: type, meaning, unit.

Parquet schemas, DuckDB comments, Dagster's column metadata and the README's tables are all made from
this module. What is not written here does not exist; a test compares it with what is materialized.

All times are UTC microseconds. All counts are nullable int64: a count that the API left out is NULL,
never 0. The hive keys ``account_id`` and ``created_date`` are folder names, not columns of the files.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

FORMAT_VERSION = 2
"""The version of the lake's layout and files; a lake with a higher one is refused.

1: operations, history, coverage and rejects. 2: slots, questions about single operations, and errors.
"""

TIMESTAMP = pa.timestamp("us", tz="UTC")

STATUSES = ("SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED")
"""The statuses that the reference documents. Others are kept, and reported."""

OPERATION_ID_PATTERN = r"^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$"
"""The reference's pattern of an operation id. Ids that don't match are kept, and reported."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, what it means, its unit, and whether it may be NULL."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    nullable: bool = True

    @property
    def sql_type(self) -> str:
        """The column's type in DuckDB."""
        return _SQL_TYPES[self.type]

    @property
    def comment(self) -> str:
        """Meaning and unit in one sentence or two, as DuckDB and Dagster show it."""
        return f"{self.meaning} Unit: {self.unit}." if self.unit else self.meaning


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its grain (what one row is), what it is for, and its columns in order.

    `kind` is ``lake`` for a table of Parquet files (a view in the warehouse), ``mart`` for one that
    is derived per day and also kept as Parquet, ``warehouse`` for one that exists in DuckDB alone,
    ``internal`` for one that the archive keeps for itself, out of readers' sight.
    """

    name: str
    kind: Literal["lake", "mart", "warehouse", "internal"]
    grain: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def arrow(self) -> pa.Schema:
        """The schema of the table's Parquet files: without the hive keys."""
        return arrow_schema(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order, without the hive keys."""
        return tuple(column.name for column in self.columns)

    @property
    def published(self) -> tuple[Column, ...]:
        """The columns as the warehouse shows them: with the hive keys that the folders carry."""
        return self.columns if self.kind == "warehouse" else (*HIVE_KEYS, *self.columns)

    @property
    def comment(self) -> str:
        """Grain and meaning, as DuckDB and Dagster show it."""
        return f"{self.grain}. {self.meaning}"


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """An Arrow schema of `columns`."""
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in columns])


_SQL_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}

ACCOUNT_ID = Column(
    "account_id", pa.string(), "SID of the Twilio account that sent the emails.", nullable=False
)
CREATED_DATE = Column(
    "created_date", pa.date32(), "UTC date of created_at: the day.", nullable=False
)
HIVE_KEYS = (ACCOUNT_ID, CREATED_DATE)

COUNTS = (
    Column("total", pa.int64(), "Email resources created in the operation.", "emails"),
    Column("recipients", pa.int64(), "Recipients targeted in the operation.", "recipients"),
    Column("attempts", pa.int64(), "Sending attempts made by Twilio.", "attempts"),
    Column("queued", pa.int64(), "Emails queued in Twilio for sending.", "emails"),
    Column("sent", pa.int64(), "Emails that have been sent by Twilio.", "emails"),
    Column("scheduled", pa.int64(), "Emails scheduled to be sent in the future.", "emails"),
    Column("delivered", pa.int64(), "Emails successfully delivered to recipients.", "emails"),
    Column("opened", pa.int64(), "Emails opened by unique recipients.", "emails"),
    Column(
        "undelivered", pa.int64(), "Emails sent by Twilio that have not been delivered.", "emails"
    ),
    Column("failed", pa.int64(), "Emails that failed during processing by Twilio.", "emails"),
    Column("canceled", pa.int64(), "Emails canceled via API request.", "emails"),
)
COUNT_NAMES = tuple(column.name for column in COUNTS)

RECORD_COLUMNS = (
    Column("operation_id", pa.string(), "Twilio's id of the operation.", nullable=False),
    Column(
        "status",
        pa.string(),
        f"Status of the operation: {', '.join(STATUSES)}, or one the reference doesn't know yet.",
        nullable=False,
    ),
    *COUNTS,
    Column(
        "created_at",
        TIMESTAMP,
        "When the operation was created.",
        "UTC microseconds",
        nullable=False,
    ),
    Column(
        "updated_at",
        TIMESTAMP,
        "When the API says that the operation last changed.",
        "UTC microseconds",
        nullable=False,
    ),
)
EXTRA = Column(
    "extra",
    pa.string(),
    "JSON object of everything in the record that the other columns can't hold: unknown fields, "
    "unknown stats, explicit nulls, times finer than a microsecond. NULL when there is none.",
)
OBSERVED_AT = Column(
    "observed_at",
    TIMESTAMP,
    "When the archive first saw this state, by the API's clock.",
    "UTC microseconds",
    nullable=False,
)

RECORD_SCHEMA = arrow_schema((*RECORD_COLUMNS, EXTRA))
"""What a page is parsed into: an operation's columns without `observed_at`."""

OPERATION_COLUMNS = (*RECORD_COLUMNS, OBSERVED_AT, EXTRA)

OPERATIONS = Table(
    "operations",
    "lake",
    "One row per operation",
    "The newest state of each operation that the archive ever saw.",
    OPERATION_COLUMNS,
)

HISTORY = Table(
    "history",
    "lake",
    "One row per distinct state of an operation",
    "Every state that was ever seen, when it was first seen.",
    OPERATION_COLUMNS,
)

COVERAGE = Table(
    "coverage",
    "lake",
    "One row per scan",
    "What was asked, when, and with what result: the proof of what the archive can know.",
    (
        Column("scan_id", pa.string(), "Name of the scan: its landed file's.", nullable=False),
        Column(
            "window_start",
            TIMESTAMP,
            "First created_at that the scan listed.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "window_end",
            TIMESTAMP,
            "End of the listed window; itself not included.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "observed_at",
            TIMESTAMP,
            "When the scan began, by the API's clock: it covers its window up to this moment.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "completed_at",
            TIMESTAMP,
            "When the scan's last page was answered, by the API's clock.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "complete",
            pa.bool_(),
            "Whether every page of the window was read; only then does the scan cover it.",
            nullable=False,
        ),
        Column("pages", pa.int64(), "Pages read.", "pages", nullable=False),
        Column(
            "requests", pa.int64(), "Requests made, retries included.", "requests", nullable=False
        ),
        Column(
            "retries", pa.int64(), "Requests that had to be repeated.", "requests", nullable=False
        ),
        Column("records", pa.int64(), "Records in the answers.", "records", nullable=False),
        Column(
            "operations", pa.int64(), "Operations inside the window.", "operations", nullable=False
        ),
        Column(
            "outside",
            pa.int64(),
            "Records outside the window, dropped: the margin's.",
            "records",
            nullable=False,
        ),
        Column(
            "duplicates",
            pa.int64(),
            "Records that came again within the scan, dropped.",
            "records",
            nullable=False,
        ),
        Column("rejects", pa.int64(), "Records that could not be read.", "records", nullable=False),
    ),
)

REJECTS = Table(
    "rejects",
    "lake",
    "One row per distinct record that could not be read",
    "The record verbatim, and why; created_date is the day of the window that it came in.",
    (
        Column("reason", pa.string(), "What was expected and what came.", nullable=False),
        Column("raw", pa.string(), "The record as the API sent it.", nullable=False),
        Column("operation_id", pa.string(), "Its id, where that could be read."),
        Column(
            "created_at", TIMESTAMP, "Its creation, where that could be read.", "UTC microseconds"
        ),
        Column(
            "observed_at",
            TIMESTAMP,
            "When it first came, by the API's clock.",
            "UTC microseconds",
            nullable=False,
        ),
        Column("scan_id", pa.string(), "The scan that it first came in.", nullable=False),
    ),
)

_SUMS = tuple(
    Column(
        c.name, c.type, f"Sum over the operations: {c.meaning[0].lower()}{c.meaning[1:]}", c.unit
    )
    for c in COUNTS
)
_OPERATIONS = Column("operations", pa.int64(), "Operations.", "operations", nullable=False)
_RATED = (
    Column(
        "rated_operations",
        pa.int64(),
        "Operations that carry every count which the rates need; the rated_ columns sum these alone.",
        "operations",
        nullable=False,
    ),
    Column(
        "rated_attempted",
        pa.int64(),
        "total - canceled - scheduled - queued of the rated operations: what the rates divide by.",
        "emails",
    ),
    Column("rated_delivered", pa.int64(), "delivered of the rated operations.", "emails"),
    Column("rated_opened", pa.int64(), "opened of the rated operations.", "emails"),
    Column("rated_undelivered", pa.int64(), "undelivered of the rated operations.", "emails"),
    Column("rated_failed", pa.int64(), "failed of the rated operations.", "emails"),
)
_HOUR = Column(
    "hour", TIMESTAMP, "Start of the hour of created_at: the slot.", "UTC", nullable=False
)
_STATUS = Column("status", pa.string(), "Status of the operations.", nullable=False)

DELIVERY_HOURLY_COLUMNS = (_HOUR, _STATUS, _OPERATIONS, *_SUMS, *_RATED)

_RATES = (
    Column(
        "delivery_rate",
        pa.float64(),
        "Delivered emails / attempted emails, under the account's counting; NULL if none attempted.",
        "ratio",
    ),
    Column(
        "open_rate",
        pa.float64(),
        "Opened emails / delivered emails, under the account's counting; NULL if none delivered.",
        "ratio",
    ),
    Column(
        "undelivered_rate",
        pa.float64(),
        "Undelivered emails / attempted emails, the same under both countings.",
        "ratio",
    ),
    Column(
        "failure_rate",
        pa.float64(),
        "Failed emails / attempted emails, the same under both countings.",
        "ratio",
    ),
    Column(
        "delivery_rate_cumulative",
        pa.float64(),
        "delivery_rate if `delivered` still counts what has been opened.",
        "ratio",
    ),
    Column(
        "delivery_rate_exclusive",
        pa.float64(),
        "delivery_rate if `delivered` no longer counts what has been opened.",
        "ratio",
    ),
    Column(
        "open_rate_cumulative",
        pa.float64(),
        "open_rate if `delivered` still counts what has been opened.",
        "ratio",
    ),
    Column(
        "open_rate_exclusive",
        pa.float64(),
        "open_rate if `delivered` no longer counts what has been opened.",
        "ratio",
    ),
)

DELIVERY_HOURLY = Table(
    "delivery_hourly",
    "mart",
    "One row per account, hour of creation and status",
    "Operations and the sums of their counts, from the newest states.",
    DELIVERY_HOURLY_COLUMNS,
)

COUNTING_EVIDENCE = Table(
    "counting_evidence",
    "mart",
    "One row per account, day and question",
    "How many of the day's operations can only be read one way (see counting).",
    (
        Column(
            "question",
            pa.string(),
            "opened_in_delivered: does `delivered` still count what has been opened? "
            "delivered_in_sent: does `sent` still count what has been delivered?",
            nullable=False,
        ),
        Column(
            "cumulative_operations",
            pa.int64(),
            "Operations whose counts are only possible if it does.",
            "operations",
            nullable=False,
        ),
        Column(
            "exclusive_operations",
            pa.int64(),
            "Operations whose counts are only possible if it doesn't.",
            "operations",
            nullable=False,
        ),
        Column("cumulative_example", pa.string(), "The first such operation's id, for a look."),
        Column("exclusive_example", pa.string(), "The first such operation's id, for a look."),
    ),
)

SETTLED_STATUSES = ("COMPLETED", "CANCELED")
"""An operation of another status, or with anything scheduled or queued, is not settled."""

_SUBJECT = Column(
    "subject",
    pa.string(),
    "What was asked about it. operation: its state. errors: what failed in it.",
    nullable=False,
)

LOOKUPS = Table(
    "lookups",
    "lake",
    "One row per question about one operation",
    "What was asked about single operations by their id, and whether the API still knew them.",
    (
        RECORD_COLUMNS[0],
        _SUBJECT,
        Column(
            "asked_at",
            TIMESTAMP,
            "When it was asked, by the API's clock.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "failed",
            pa.int64(),
            "For errors: the operation's failed emails that led to the question.",
            "emails",
        ),
        Column(
            "gone_at",
            TIMESTAMP,
            "When the API answered 404: it does not know this any more. NULL if it does.",
            "UTC microseconds",
        ),
        Column("refusal", pa.string(), "Why it was not answered. NULL if it was."),
    ),
)

OPERATION_ERRORS = Table(
    "operation_errors",
    "lake",
    "One row per operation and distinct error",
    "Why emails failed: the answers of the operation's Errors, whose form is not documented.",
    (
        RECORD_COLUMNS[0],
        Column("code", pa.string(), "The error's code as text, where one could be found."),
        Column("message", pa.string(), "The error's message, where one could be found."),
        Column("raw", pa.string(), "The error as the API sent it: JSON.", nullable=False),
        Column(
            "occurrences",
            pa.int64(),
            "How often exactly this came in one answer.",
            "errors",
            nullable=False,
        ),
        Column(
            "observed_at",
            TIMESTAMP,
            "When it first came, by the API's clock.",
            "UTC microseconds",
            nullable=False,
        ),
    ),
)

WATCHED = Table(
    "watched",
    "internal",
    "One row per operation and subject to be asked about by its id",
    "Operations that are not settled, and failures whose errors have not been asked for.",
    (
        RECORD_COLUMNS[0],
        _SUBJECT,
        *(column for column in RECORD_COLUMNS if column.name == "created_at"),
        OBSERVED_AT,
        Column("failed", pa.int64(), "Its failed emails.", "emails"),
        Column("asked_at", TIMESTAMP, "When it was last asked about.", "UTC microseconds"),
    ),
)

SLOT_COVERAGE = Table(
    "slot_coverage",
    "lake",
    "One row per slot: account and UTC hour of creation",
    "How the scans together cover the slot; what that means is in coverage_slots.",
    (
        Column("slot", TIMESTAMP, "Start of the hour of created_at.", "UTC", nullable=False),
        Column(
            "first_scan_at",
            TIMESTAMP,
            "When a complete scan first covered any of it; NULL if none ever did.",
            "UTC microseconds",
        ),
        Column(
            "covered_at",
            TIMESTAMP,
            "Up to when it is covered: at this moment or later, complete scans that ended before the "
            "deadline listed every part of it. NULL if a part of it was never listed.",
            "UTC microseconds",
        ),
        Column(
            "scans", pa.int64(), "Complete scans that covered any of it.", "scans", nullable=False
        ),
        Column(
            "operations",
            pa.float64(),
            "Operations that the last scans found in it, estimated from their windows.",
            "operations",
            nullable=False,
        ),
    ),
)

COVERAGE_SLOTS = Table(
    "coverage_slots",
    "warehouse",
    "One row per slot: account and UTC hour of creation",
    "What was scanned of it, and whether anything of it can still be lost, as of the latest scan.",
    (
        *HIVE_KEYS,
        SLOT_COVERAGE.columns[0],
        Column(
            "state",
            pa.string(),
            "open: scans go on. at_risk: its deadline is near, and a scan is missing. final: scanned "
            "shortly before its deadline, nothing more will come. closed: scanned after its end, but "
            "not shortly before its deadline; late changes may be missing. gap: not scanned after its "
            "end; what came after the last scan is lost. never_asked: its deadline had passed before "
            "the archive began.",
            nullable=False,
        ),
        *SLOT_COVERAGE.columns[1:],
        Column(
            "deadline",
            TIMESTAMP,
            "From then on the API may have forgotten part of it.",
            "UTC microseconds",
            nullable=False,
        ),
        Column(
            "hours_left", pa.float64(), "Time from as_of to the deadline.", "hours", nullable=False
        ),
        Column(
            "as_of",
            TIMESTAMP,
            "The moment that the state is told for: the account's latest scan.",
            "UTC microseconds",
            nullable=False,
        ),
    ),
)

COVERAGE_DAYS = Table(
    "coverage_days",
    "warehouse",
    "One row per account and UTC day of creation",
    "How far the day's slots are, as of the latest scan.",
    (
        *HIVE_KEYS,
        Column(
            "sealed",
            pa.bool_(),
            "Whether every slot has its final scan or is past its deadline: nothing changes any more.",
            nullable=False,
        ),
        Column("final_share", pa.float64(), "Share of final slots.", "ratio", nullable=False),
        *(
            Column(
                f"{state}_slots", pa.int64(), f"Slots that are {state}.", "slots", nullable=False
            )
            for state in ("open", "at_risk", "final", "closed", "gap", "never_asked")
        ),
        Column(
            "last_scan_at",
            TIMESTAMP,
            "Up to when any of its slots is covered.",
            "UTC microseconds",
        ),
    ),
)

PUBLISHED_HOURLY = Table(
    "delivery_hourly",
    "warehouse",
    "One row per account, hour of creation and status",
    "Operations, the sums of their counts, and delivery rates, from the newest states.",
    (*HIVE_KEYS, *DELIVERY_HOURLY_COLUMNS, *_RATES),
)

DELIVERY_DAILY = Table(
    "delivery_daily",
    "warehouse",
    "One row per account and UTC day of creation",
    "Operations, the sums of their counts, and delivery rates; sums over sums.",
    (*HIVE_KEYS, _OPERATIONS, *_SUMS, *_RATED, *_RATES),
)

DELIVERY_MONTHLY = Table(
    "delivery_monthly",
    "warehouse",
    "One row per account and UTC month of creation",
    "Operations, the sums of their counts, and delivery rates; sums over sums.",
    (
        ACCOUNT_ID,
        Column("month", pa.date32(), "First day of the month of created_at.", nullable=False),
        Column(
            "days", pa.int64(), "Days of the month that have operations.", "days", nullable=False
        ),
        _OPERATIONS,
        *_SUMS,
        *_RATED,
        *_RATES,
    ),
)

COUNTING = Table(
    "counting",
    "warehouse",
    "One row per account and question",
    "Which reading of the counts holds for the account, and on what evidence.",
    (
        ACCOUNT_ID,
        *COUNTING_EVIDENCE.columns[:1],
        Column(
            "reading",
            pa.string(),
            "cumulative (it does) or exclusive (it doesn't): what delivery_rate and open_rate use.",
            nullable=False,
        ),
        Column(
            "decided",
            pa.bool_(),
            "Whether the account's own data decides; if not, cumulative is assumed, as in the "
            "reference's samples.",
            nullable=False,
        ),
        Column("evidence", pa.string(), "The evidence in one sentence.", nullable=False),
        *COUNTING_EVIDENCE.columns[1:],
    ),
)

LAKE_TABLES = (OPERATIONS, HISTORY, COVERAGE, REJECTS, LOOKUPS, OPERATION_ERRORS, SLOT_COVERAGE)
MARTS = (DELIVERY_HOURLY, COUNTING_EVIDENCE)
COVERAGE_VIEWS = (COVERAGE_SLOTS, COVERAGE_DAYS)
WAREHOUSE_TABLES = (PUBLISHED_HOURLY, DELIVERY_DAILY, DELIVERY_MONTHLY, COUNTING)
WAREHOUSE_VIEWS = (*LAKE_TABLES, *COVERAGE_VIEWS)
PUBLISHED = (*WAREHOUSE_VIEWS, *WAREHOUSE_TABLES)
