"""The delivery tables: the marts of a day, and what the warehouse makes of them."""

from typing import Final

import pyarrow as pa

from pipeline.schema.table import (
    ACCOUNT_ID,
    COUNTS,
    HIVE_KEYS,
    TIMESTAMP,
    Column,
    Table,
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
        "Operations that carry every count which the rates need, none of them above a billion; the rated_ "
        "columns sum these alone.",
        "operations",
        nullable=False,
    ),
    Column(
        "rated_attempted",
        pa.int64(),
        "total - canceled - scheduled - queued of the rated operations: what the rates divide by.",
        "emails",
    ),
    Column(
        "rated_delivered",
        pa.int64(),
        "delivered of the rated operations, as the API counts it. In the warehouse it is under "
        "the account's reading.",
        "emails",
    ),
    Column("rated_opened", pa.int64(), "opened of the rated operations.", "emails"),
    Column("rated_undelivered", pa.int64(), "undelivered of the rated operations.", "emails"),
    Column("rated_failed", pa.int64(), "failed of the rated operations.", "emails"),
)
_HOUR = Column(
    "hour", TIMESTAMP, "Start of the hour of created_at: the slot.", "UTC", nullable=False
)
_STATUS = Column("status", pa.string(), "Status of the operations.", nullable=False)

AGES: Final = (
    ("1 min", 1),
    ("5 min", 5),
    ("15 min", 15),
    ("1 h", 60),
    ("3 h", 180),
    ("6 h", 360),
    ("12 h", 720),
    ("24 h", 1440),
    ("48 h", 2880),
    ("72 h", 4320),
    ("168 h", 10080),
)
"""The ages of `delivery_curve`: as they are shown, and in minutes."""

SIZE_CLASSES: Final = (
    ("0", 0),
    ("1", 1),
    ("2-10", 2),
    ("11-100", 11),
    ("101-1,000", 101),
    ("1,001-10,000", 1001),
    ("over 10,000", 10001),
)
"""The classes of `operation_sizes`: as they are shown, and their smallest total. The reference's most
recipients are 10,000; an operation of 0 emails has not been processed yet."""

COMPLETENESS: Final = {
    "final": "every slot has its final scan",
    "closed": "every slot is past its deadline, some without a final scan: late changes may be missing",
    "partial": "some slots lie before the archive's time: it tells of those that it has",
    "changing": "some slots are still scanned, or still to come",
    "gaps": "a slot is lost, or none was ever asked in time; the rates are NULL",
}
"""What a period of a delivery table can be. The worst that is true of it counts, from the last one up."""

_STATES_OF_PERIOD: Final = "; ".join(f"{name}: {meaning}" for name, meaning in COMPLETENESS.items())
_COMPLETENESS = Column(
    "completeness",
    pa.string(),
    f"How far the period is known. {_STATES_OF_PERIOD}.",
    nullable=False,
)
_SLOTS = (
    Column("final_slots", pa.int64(), "Slots that are final.", "slots", nullable=False),
    Column("closed_slots", pa.int64(), "Slots that are closed.", "slots", nullable=False),
    Column(
        "changing_slots",
        pa.int64(),
        "Slots that are open, at_risk or still to come.",
        "slots",
        nullable=False,
    ),
    Column("gap_slots", pa.int64(), "Slots that are lost.", "slots", nullable=False),
    Column(
        "never_asked_slots",
        pa.int64(),
        "Slots that had passed their deadline before the archive began.",
        "slots",
        nullable=False,
    ),
)
_SUMMED = (_OPERATIONS, *_SUMS, *_RATED)

_READING = (
    Column(
        "reading",
        pa.string(),
        "How the account's counts are read: cumulative (`delivered` still counts what has been opened) or "
        "exclusive (it does not). From counting, which has the evidence.",
        nullable=False,
    ),
    Column(
        "reading_decided",
        pa.bool_(),
        "Whether the account's own counts show this reading. If not, it is assumed, as in the reference's "
        "samples; under the other one the rates would differ.",
        nullable=False,
    ),
)
_PUBLISHED_SUMS = tuple(
    Column(
        "rated_delivered",
        pa.int64(),
        "Delivered emails of the rated operations under the account's reading: delivered, plus opened if the "
        "reading is exclusive. The Parquet files' column of this name is delivered as the API counts it.",
        "emails",
    )
    if column.name == "rated_delivered"
    else column
    for column in _SUMMED
)
"""The sums as the warehouse has them: each rate is one of them divided by another."""

DELIVERY_HOURLY_COLUMNS = (_HOUR, _STATUS, _OPERATIONS, *_SUMS, *_RATED)

_RATES = (
    Column(
        "delivery_rate",
        pa.float64(),
        "Delivered emails / attempted emails, under the account's reading; NULL if none attempted, "
        "or on gaps.",
        "ratio",
    ),
    Column(
        "open_rate",
        pa.float64(),
        "Opened emails / delivered emails, under the account's reading; NULL if none delivered, or on "
        "gaps.",
        "ratio",
    ),
    Column(
        "undelivered_rate",
        pa.float64(),
        "Undelivered emails / attempted emails, the same under both readings; NULL if none "
        "attempted, or on gaps.",
        "ratio",
    ),
    Column(
        "failure_rate",
        pa.float64(),
        "Failed emails / attempted emails, the same under both readings; NULL if none "
        "attempted, or on gaps.",
        "ratio",
    ),
    Column(
        "delivery_rate_cumulative",
        pa.float64(),
        "delivery_rate if `delivered` still counts what has been opened; NULL on gaps.",
        "ratio",
    ),
    Column(
        "delivery_rate_exclusive",
        pa.float64(),
        "delivery_rate if `delivered` no longer counts what has been opened; NULL on gaps.",
        "ratio",
    ),
    Column(
        "open_rate_cumulative",
        pa.float64(),
        "open_rate if `delivered` still counts what has been opened; NULL on gaps.",
        "ratio",
    ),
    Column(
        "open_rate_exclusive",
        pa.float64(),
        "open_rate if `delivered` no longer counts what has been opened; NULL on gaps.",
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

_SIZE_CLASS = (
    Column(
        "size_class",
        pa.string(),
        "Emails of an operation, its total: "
        f"{', '.join(name for name, _ in SIZE_CLASSES)}, or unknown where it is absent.",
        nullable=False,
    ),
    Column("smallest", pa.int64(), "The smallest total of the class: what to order by.", "emails"),
)

OPERATION_SIZES = Table(
    "operation_sizes",
    "mart",
    "One row per account, UTC day of creation and size class",
    "Operations and the sums of their counts, from the newest states.",
    (*_SIZE_CLASS, *_SUMMED),
)

_CURVE = (
    _HOUR,
    Column("age_minutes", pa.int64(), "The age: time since creation.", "minutes", nullable=False),
    Column(
        "operations",
        pa.int64(),
        "Operations that a scan had seen by that age; NULL if none had.",
        "operations",
    ),
    Column("rated_operations", pa.int64(), "Those of them whose counts are summed.", "operations"),
    Column("emails", pa.int64(), "total, as known by that age.", "emails"),
    Column(
        "attempted",
        pa.int64(),
        "total - canceled - scheduled - queued, as known by that age.",
        "emails",
    ),
    Column(
        "delivered", pa.int64(), "delivered as the API counts it, as known by that age.", "emails"
    ),
    Column("opened", pa.int64(), "opened, as known by that age.", "emails"),
    Column("undelivered", pa.int64(), "undelivered, as known by that age.", "emails"),
    Column("failed", pa.int64(), "failed, as known by that age.", "emails"),
    Column(
        "hour_operations",
        pa.int64(),
        "Operations of the hour in all, whenever they were seen.",
        "operations",
        nullable=False,
    ),
)

_PUBLISHED_CURVE = tuple(
    Column(
        "delivered",
        pa.int64(),
        "Delivered emails under the account's reading, as known by that age: delivered, plus opened if the "
        "reading is exclusive.",
        "emails",
    )
    if column.name == "delivered"
    else column
    for column in _CURVE
)

DELIVERY_CURVE = Table(
    "delivery_curve",
    "mart",
    "One row per account, hour of creation and age",
    "What the archive knew of the hour's operations when they were of that age, from their history: "
    "sums over the operations that carry every count which the rates need.",
    _CURVE,
)

COUNTING_EVIDENCE = Table(
    "counting_evidence",
    "mart",
    "One row per account, day and set of models that explain an operation's counts",
    "How many operations can be read in some ways only (see counting). Those that every model explains "
    "are left out, and so are those that lack a count.",
    (
        Column(
            "models",
            pa.string(),
            "The models that explain the counts, separated by spaces; empty if none does. cumulative: each "
            "count keeps what it has counted. opened_apart: opened emails leave delivered. "
            "delivered_apart: delivered and undelivered emails leave sent. exclusive: both.",
            nullable=False,
        ),
        Column(
            "operations", pa.int64(), "Operations of such counts.", "operations", nullable=False
        ),
        Column("example", pa.string(), "The first such operation's id.", nullable=False),
    ),
)

PUBLISHED_HOURLY = Table(
    "delivery_hourly",
    "warehouse",
    "One row per account, hour of creation and status",
    "Operations, the sums of their counts, and delivery rates, from the newest states.",
    (*HIVE_KEYS, _HOUR, _STATUS, _COMPLETENESS, *_PUBLISHED_SUMS, *_READING, *_RATES),
)

PUBLISHED_SIZES = Table(
    "operation_sizes",
    "warehouse",
    "One row per account, UTC day of creation and size class",
    "Operations, the sums of their counts, and delivery rates, from the newest states.",
    (*HIVE_KEYS, *_SIZE_CLASS, _COMPLETENESS, *_PUBLISHED_SUMS, *_READING, *_RATES),
)

PUBLISHED_CURVE = Table(
    "delivery_curve",
    "warehouse",
    "One row per account, hour of creation and age",
    "How deliveries and opens came in: what was known of the hour's operations at each age. Counts are "
    "those of the last scan by that age, so the truth lies between them and those of the next scan, if "
    "there was one; all are NULL where no scan had seen the hour by then, or where its operations are "
    "not all of that age yet. The rates are NULL too where they can't be those of the age: if the hour "
    "is lost, or if scan_before_minutes is less than half of the age.",
    (
        *HIVE_KEYS,
        _HOUR,
        _COMPLETENESS,
        Column("age", pa.string(), "The age as it is shown: 5 min, 24 h.", nullable=False),
        *_PUBLISHED_CURVE[1:],
        Column(
            "scan_before_minutes",
            pa.float64(),
            "How old an operation from the middle of the hour was at its last scan by that age; NULL if "
            "there was none.",
            "minutes",
        ),
        Column(
            "scan_after_minutes",
            pa.float64(),
            "How old it was at its next scan; NULL if there is none before the deadline.",
            "minutes",
        ),
        *_READING,
        *_RATES[:4],
    ),
)

_EVERY_PERIOD: Final = (
    "From the first day with operations to the latest scan, also where there was no operation or all is "
    "lost: there operations is 0, and completeness says which."
)

DELIVERY_DAILY = Table(
    "delivery_daily",
    "warehouse",
    "One row per account and UTC day of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (*HIVE_KEYS, _COMPLETENESS, *_PUBLISHED_SUMS, *_READING, *_RATES, *_SLOTS),
)

_DAYS = Column(
    "days", pa.int64(), "Days of the period that have operations.", "days", nullable=False
)

DELIVERY_WEEKLY = Table(
    "delivery_weekly",
    "warehouse",
    "One row per account and UTC week of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (
        ACCOUNT_ID,
        Column("week", pa.date32(), "Monday of the ISO week of created_at.", nullable=False),
        _COMPLETENESS,
        _DAYS,
        *_PUBLISHED_SUMS,
        *_READING,
        *_RATES,
        *_SLOTS,
    ),
)

DELIVERY_MONTHLY = Table(
    "delivery_monthly",
    "warehouse",
    "One row per account and UTC month of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (
        ACCOUNT_ID,
        Column("month", pa.date32(), "First day of the month of created_at.", nullable=False),
        _COMPLETENESS,
        _DAYS,
        *_PUBLISHED_SUMS,
        *_READING,
        *_RATES,
        *_SLOTS,
    ),
)

DELIVERY_BY_WEEKDAY_HOUR = Table(
    "delivery_by_weekday_hour",
    "warehouse",
    "One row per account, weekday and hour of creation, 168 in all",
    "Operations, the sums of their counts, and delivery rates over all weeks; sums over sums. Only "
    "slots that are final or closed are summed: the last 7 days would lower the opens, and what is lost "
    "would bend the rest.",
    (
        ACCOUNT_ID,
        Column("weekday", pa.int64(), "ISO weekday: 1 Monday to 7 Sunday, UTC.", nullable=False),
        Column("hour", pa.int64(), "Hour of the day: 0 to 23, UTC.", nullable=False),
        Column(
            "completeness",
            pa.string(),
            "Of the slots that are summed: final or closed; changing if there is none yet.",
            nullable=False,
        ),
        *_PUBLISHED_SUMS,
        *_READING,
        *_RATES,
        *_SLOTS,
    ),
)

DELIVERY_ANOMALIES = Table(
    "delivery_anomalies",
    "warehouse",
    "One row per account, UTC day of creation and rate that left its band",
    "Days whose delivery, open, undelivered or failure rate is not what the 28 days before let expect. "
    "A day that still changes is judged only by what can't get smaller: too many undelivered, failed or "
    "opened. Nor is a closed one judged by what may have come after its last scan: few delivered or "
    "opened. Where two or more of the same weekdays are known, the day has to leave the same band around "
    "their median too: what every weekend is like is usual.",
    (
        *HIVE_KEYS,
        Column(
            "rate",
            pa.string(),
            "Which: delivery_rate, open_rate, undelivered_rate, failure_rate.",
            nullable=False,
        ),
        Column("direction", pa.string(), "above or below the band.", nullable=False),
        Column("value", pa.float64(), "The day's rate.", "ratio", nullable=False),
        Column("expected", pa.float64(), "The median of the days before.", "ratio", nullable=False),
        Column("low", pa.float64(), "The band's lower end.", "ratio", nullable=False),
        Column("high", pa.float64(), "The band's upper end.", "ratio", nullable=False),
        Column("emails", pa.int64(), "What the rate divides by.", "emails", nullable=False),
        Column(
            "days_before",
            pa.int64(),
            "Days that the band is made of: 14 to 28, none of them changing or with gaps; for delivery_rate "
            "and open_rate none closed either.",
            "days",
            nullable=False,
        ),
        _COMPLETENESS,
        *_READING,
    ),
)

COUNTING = Table(
    "counting",
    "warehouse",
    "One row per account and question",
    "How the account's counts are read, and on what evidence: how many operations have counts that only one "
    "reading explains.",
    (
        ACCOUNT_ID,
        Column(
            "question",
            pa.string(),
            "opened_in_delivered: does `delivered` still count what has been opened? "
            "delivered_in_sent: does `sent` still count what has been delivered?",
            nullable=False,
        ),
        Column(
            "reading",
            pa.string(),
            "cumulative (it does) or exclusive (it doesn't): what delivery_rate and open_rate use.",
            nullable=False,
        ),
        Column(
            "decided",
            pa.bool_(),
            "Whether the account's own counts decide, by a clear majority; if not, cumulative is assumed, "
            "as in the reference's samples.",
            nullable=False,
        ),
        Column("evidence", pa.string(), "The evidence in one sentence.", nullable=False),
        Column(
            "cumulative_operations",
            pa.int64(),
            "Operations whose counts are possible if cumulative, and not if exclusive.",
            "operations",
            nullable=False,
        ),
        Column(
            "exclusive_operations",
            pa.int64(),
            "Operations whose counts are possible if exclusive, and not if cumulative.",
            "operations",
            nullable=False,
        ),
        Column(
            "majority",
            pa.float64(),
            "Share of the two that speaks for the likelier reading; NULL if no operation tells them apart.",
            "ratio",
        ),
        Column(
            "unexplained_operations",
            pa.int64(),
            "Operations whose counts contradict the likeliest answers to both questions.",
            "operations",
            nullable=False,
        ),
        Column("cumulative_example", pa.string(), "The id of one that speaks for cumulative."),
        Column("exclusive_example", pa.string(), "The id of one that speaks for exclusive."),
    ),
)
