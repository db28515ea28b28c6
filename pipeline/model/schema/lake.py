"""The tables of archived data and of its coverage."""

from pipeline.model.schema.table import (
    COUNTS,
    HIVE_KEYS,
    Table,
    arrow_schema,
    flag,
    integer,
    number,
    text,
    timestamp,
)

STATUSES = ("SCHEDULED", "PROCESSING", "COMPLETED", "CANCELED")
"""The documented statuses. Others are kept and reported."""

OPERATION_ID_PATTERN = "^comms_operation_[0-7][a-hjkmnpqrstv-z0-9]{25,34}$"
"""The documented pattern of an operation id. Other ids are kept and reported."""

RECORD_COLUMNS = (
    text("operation_id", "Twilio's id of the operation."),
    text(
        "status",
        f"Status of the operation: {', '.join(STATUSES)}, or an undocumented one.",
    ),
    *COUNTS,
    timestamp("created_at", "When the operation was created."),
    timestamp("updated_at", "When the operation last changed, according to the API."),
)
EXTRA = text(
    "extra",
    "JSON object of everything in the record that has no column: unknown fields, unknown stats, explicit "
    "nulls, times finer than a microsecond. NULL if there is none.",
    nullable=True,
)
OBSERVED_AT = timestamp("observed_at", "When this state was first observed, by the API's clock.")

LOOKED_UP_AT = timestamp(
    "looked_up_at",
    "When a fetch by id first returned this state, if no response before the deadline had it. NULL "
    "otherwise. A fetch by id is complete; a listing after the deadline may not be.",
    nullable=True,
)

RECORD_SCHEMA = arrow_schema((*RECORD_COLUMNS, EXTRA))
"""The schema of a parsed page: an operation's columns without `observed_at` and `looked_up_at`."""

OPERATION_COLUMNS = (*RECORD_COLUMNS, OBSERVED_AT, EXTRA, LOOKED_UP_AT)

OPERATIONS = Table(
    "operations",
    "lake",
    "One row per operation",
    "The newest observed state of each operation.",
    OPERATION_COLUMNS,
)

HISTORY = Table(
    "history",
    "lake",
    "One row per distinct state of an operation",
    "Every observed state, with the time of its first observation.",
    OPERATION_COLUMNS,
)

COVERAGE = Table(
    "coverage",
    "lake",
    "One row per scan",
    "What was listed, when, and with what result: the proof of what the archive has.",
    (
        text("scan_id", "Name of the scan: the name of its landed file."),
        timestamp("window_start", "Start of the listed window of created_at."),
        timestamp("window_end", "End of the listed window, exclusive."),
        timestamp(
            "observed_at",
            "When the scan began, by the API's clock: it covers its window up to this moment.",
        ),
        timestamp(
            "completed_at", "When the API returned the scan's last page, by the API's clock."
        ),
        flag(
            "complete",
            "Whether every page of the window was read; only then does the scan cover it.",
        ),
        integer("pages", "pages", "Pages read."),
        integer("requests", "requests", "Requests made, retries included."),
        integer("retries", "requests", "Requests that were retries."),
        integer("records", "records", "Records in the responses."),
        integer("operations", "operations", "Operations inside the window."),
        integer(
            "outside", "records", "Records outside the window, in the margin of the query: dropped."
        ),
        integer(
            "duplicates", "records", "Records returned more than once within the scan: dropped."
        ),
        integer("rejects", "records", "Records that could not be parsed."),
    ),
)

REJECTS = Table(
    "rejects",
    "lake",
    "One row per distinct record that could not be parsed",
    "The record verbatim, and the reason. created_date is the day of the window that returned it.",
    (
        text("reason", "What was expected, and what the record has."),
        text("raw", "The record as the API sent it."),
        text("operation_id", "Its id, if that could be parsed.", nullable=True),
        timestamp("created_at", "Its creation, if that could be parsed.", nullable=True),
        timestamp("observed_at", "When it was first observed, by the API's clock."),
        text("scan_id", "The scan that first returned it."),
    ),
)

SETTLED_STATUSES = ("COMPLETED", "CANCELED")
"""An operation is settled if it has one of these statuses and no scheduled or queued emails."""

_SUBJECT = text(
    "subject", "What was requested. operation: its state. errors: the errors of its failed emails."
)

LOOKUPS = Table(
    "lookups",
    "lake",
    "One row per request about one operation",
    "Requests for single operations by id, and whether the API still had them.",
    (
        RECORD_COLUMNS[0],
        _SUBJECT,
        timestamp("requested_at", "When it was requested, by the API's clock."),
        integer(
            "failed",
            "emails",
            "For errors: the operation's failed emails at the time of the request.",
            nullable=True,
        ),
        timestamp(
            "not_found_at",
            "When the API answered 404: it no longer has the operation. NULL otherwise.",
            nullable=True,
        ),
        text("error", "The error message, if the request failed. NULL otherwise.", nullable=True),
    ),
)

RENAMED_COLUMNS = {"asked_at": "requested_at", "gone_at": "not_found_at", "refusal": "error"}
"""Columns of `lookups`: their names in files of formats 2 and 3, and their names now. Both are read."""

OPERATION_ERRORS = Table(
    "operation_errors",
    "lake",
    "One row per operation and distinct error",
    "Why emails failed: the contents of the operation's Errors, whose form is not documented.",
    (
        RECORD_COLUMNS[0],
        text("code", "The error's code as text, if one was found.", nullable=True),
        text("message", "The error's message, if one was found.", nullable=True),
        text("raw", "The error as the API sent it: JSON."),
        integer("occurrences", "errors", "How often this error occurs in one response."),
        timestamp("observed_at", "When it was first observed, by the API's clock."),
    ),
)

PENDING_LOOKUPS = Table(
    "pending_lookups",
    "internal",
    "One row per operation and subject to be looked up by id",
    "Operations that are not settled, and failures whose errors have not been requested.",
    (
        RECORD_COLUMNS[0],
        _SUBJECT,
        *(column for column in RECORD_COLUMNS if column.name == "created_at"),
        OBSERVED_AT,
        integer("failed", "emails", "Its failed emails.", nullable=True),
        timestamp("requested_at", "When it was last requested.", nullable=True),
    ),
)

SLOT_COVERAGE = Table(
    "slot_coverage",
    "lake",
    "One row per slot: account and UTC hour of creation",
    "How the scans together cover the slot. coverage_slots has the resulting state.",
    (
        timestamp("slot", "Start of the hour of created_at.", unit="UTC"),
        timestamp(
            "first_scan_at",
            "When a complete scan first covered any of it; NULL if none did.",
            nullable=True,
        ),
        timestamp(
            "covered_at",
            "The slot is covered up to this moment: at this moment or later, complete scans that ended "
            "before the deadline listed every part of it. NULL if a part was never listed.",
            nullable=True,
        ),
        integer("scans", "scans", "Complete scans that covered any of it."),
        number(
            "operations",
            "operations",
            "Operations in it according to the last scans, estimated from their windows.",
        ),
    ),
)

COVERAGE_SLOTS = Table(
    "coverage_slots",
    "warehouse",
    "One row per slot: account and UTC hour of creation",
    "What was scanned, and whether anything can still be lost, as of the latest scan.",
    (
        *HIVE_KEYS,
        SLOT_COVERAGE.columns[0],
        text(
            "state",
            "open: scans continue. at_risk: its deadline is near, and it is not covered by a recent scan. "
            "final: scanned shortly before its deadline. closed: scanned after its end, but not shortly "
            "before its deadline; late changes may be missing. gap: not scanned after its end; operations "
            "created after the last scan are lost. before_archive: its deadline had passed before the "
            "archive began.",
        ),
        *SLOT_COVERAGE.columns[1:],
        timestamp("deadline", "From then on the API may have deleted part of it."),
        number("hours_left", "hours", "Time from as_of to the deadline."),
        timestamp("as_of", "The moment that the state refers to: the account's latest scan."),
    ),
)

COVERAGE_DAYS = Table(
    "coverage_days",
    "warehouse",
    "One row per account and UTC day of creation",
    "The states of the day's slots, as of the latest scan.",
    (
        *HIVE_KEYS,
        flag(
            "compacted",
            "Whether every slot has its final scan or is past its deadline, so that nothing changes any "
            "more.",
        ),
        number("final_share", "ratio", "Share of final slots."),
        *(
            integer(f"{state}_slots", "slots", f"Slots that are {state}.")
            for state in ("open", "at_risk", "final", "closed", "gap", "before_archive")
        ),
        timestamp(
            "last_scan_at",
            "The latest moment that any of its slots is covered up to.",
            nullable=True,
        ),
    ),
)
