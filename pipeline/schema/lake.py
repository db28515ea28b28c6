"""The tables of the lake's facts, and what their coverage amounts to."""

import pyarrow as pa

from pipeline.schema.table import COUNTS, HIVE_KEYS, TIMESTAMP, Column, Table, arrow_schema

STATUSES = ("SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED")
"""The statuses that the reference documents. Others are kept, and reported."""

OPERATION_ID_PATTERN = "^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$"
"""The reference's pattern of an operation id. Ids that do not match are kept, and reported."""

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

LOOKED_UP_AT = Column(
    "looked_up_at",
    TIMESTAMP,
    "When a fetch by id first returned this state, if no answer before the deadline had it. NULL otherwise. "
    "A fetch by id is complete; a listing after the deadline may not be.",
    "UTC microseconds",
)

RECORD_SCHEMA = arrow_schema((*RECORD_COLUMNS, EXTRA))
"""What a page is parsed into: an operation's columns without `observed_at` and `looked_up_at`."""

OPERATION_COLUMNS = (*RECORD_COLUMNS, OBSERVED_AT, EXTRA, LOOKED_UP_AT)

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

PENDING_LOOKUPS = Table(
    "pending_lookups",
    "internal",
    "One row per operation and subject to be looked up by id",
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
