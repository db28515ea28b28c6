"""The delivery tables: the marts of a day, and the tables that the warehouse makes of them."""

from dataclasses import replace
from typing import Final

from pipeline.model.schema.readings import READING
from pipeline.model.schema.table import (
    ACCOUNT_ID,
    COUNTS,
    HIVE_KEYS,
    Table,
    day,
    integer,
    number,
    text,
    timestamp,
)

_SUMS = tuple(
    replace(c, meaning=f"Sum over the operations: {c.meaning[0].lower()}{c.meaning[1:]}")
    for c in COUNTS
)
RATED_COUNTS: Final = (
    *("total", "canceled", "scheduled", "queued"),
    *("delivered", "opened", "undelivered", "failed"),
)
"""Counts that an operation must have to be included in rates."""

_OPERATIONS = integer("operations", "operations", "Operations.")
_RATED = (
    integer(
        "rated_operations",
        "operations",
        "Operations that have every count that the rates need, none of them above a billion. Only these are "
        "summed in the rated_ columns.",
    ),
    integer(
        "rated_attempted",
        "emails",
        "total - canceled - scheduled - queued of the rated operations: the rates' denominator.",
        nullable=True,
    ),
    integer(
        "rated_delivered",
        "emails",
        "delivered of the rated operations, as the API counts it. In the warehouse it is under "
        "the account's reading.",
        nullable=True,
    ),
    *(
        integer(f"rated_{name}", "emails", f"{name} of the rated operations.", nullable=True)
        for name in ("opened", "undelivered", "failed")
    ),
)
_HOUR = timestamp("hour", "Start of the hour of created_at: the slot.", unit="UTC")
_STATUS = text("status", "Status of the operations.")

AGES: Final = tuple(
    (f"{minutes} min" if minutes < 60 else f"{minutes // 60} h", minutes)  # noqa: PLR2004 - an hour
    for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 2880, 4320, 10080)
)
"""The ages of `delivery_curve`: label and minutes."""

SIZE_CLASSES: Final = (
    ("0", 0),
    ("1", 1),
    ("2-10", 2),
    ("11-100", 11),
    ("101-1,000", 101),
    ("1,001-10,000", 1001),
    ("over 10,000", 10001),
)
"""The classes of `operation_sizes`: label and smallest total. An operation has at most 10,000 recipients, and
0 emails before it is processed."""

COMPLETENESS: Final = {
    "final": "every slot has its final scan",
    "closed": "every slot is past its deadline, some without a final scan: late changes may be missing",
    "partial": "some slots were past their deadline before the archive began, and are not included",
    "changing": "some slots are still being scanned, or in the future",
    "gaps": "a slot is lost, or no slot was scanned in time; the rates are NULL",
}
"""The completeness of a period. Of those that apply, the last one holds."""

_STATES_OF_PERIOD: Final = "; ".join(f"{name}: {meaning}" for name, meaning in COMPLETENESS.items())
_COMPLETENESS = text("completeness", f"How far the period is known. {_STATES_OF_PERIOD}.")
_SLOTS = (
    integer("final_slots", "slots", "Slots that are final."),
    integer("closed_slots", "slots", "Slots that are closed."),
    integer("changing_slots", "slots", "Slots that are open, at_risk or in the future."),
    integer("gap_slots", "slots", "Slots that are lost."),
    integer(
        "before_archive_slots",
        "slots",
        "Slots that had passed their deadline before the archive began.",
    ),
)
_SUMMED = (_OPERATIONS, *_SUMS, *_RATED)

_PUBLISHED_SUMS = tuple(
    replace(
        column,
        meaning="Delivered emails of the rated operations under the account's reading: delivered, plus "
        "opened if the reading is exclusive. The Parquet files' column of this name is delivered as"
        " the API counts it.",
    )
    if column.name == "rated_delivered"
    else column
    for column in _SUMMED
)
"""The sums in the warehouse: each rate is one of them divided by another."""

DELIVERY_HOURLY_COLUMNS = (_HOUR, _STATUS, _OPERATIONS, *_SUMS, *_RATED)

_BOTH = (("cumulative", "includes"), ("exclusive", "does not include"))

_RATES = (
    *(
        number(
            f"{name}_rate",
            "ratio",
            f"{emails} emails / {base} emails, {readings}; NULL if none {base}, or on gaps.",
            nullable=True,
        )
        for name, emails, base, readings in (
            ("delivery", "Delivered", "attempted", "under the account's reading"),
            ("open", "Opened", "delivered", "under the account's reading"),
            ("undelivered", "Undelivered", "attempted", "the same under both readings"),
            ("failure", "Failed", "attempted", "the same under both readings"),
        )
    ),
)
_SUMS_AND_RATES = (_OPERATIONS, *_RATES, *_PUBLISHED_SUMS[1:], *READING)
"""Operations and their rates first: what a terminal shows if not all columns fit."""

DELIVERY_HOURLY = Table(
    "delivery_hourly",
    "mart",
    "One row per account, hour of creation and status",
    "Operations and the sums of their counts, from the newest states.",
    DELIVERY_HOURLY_COLUMNS,
)

_SIZE_CLASS = (
    text(
        "size_class",
        "Emails of an operation, its total: "
        f"{', '.join(name for name, _ in SIZE_CLASSES)}, or unknown where it is absent.",
    ),
    integer(
        "smallest", "emails", "The smallest total of the class: what to order by.", nullable=True
    ),
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
    integer("age_minutes", "minutes", "The age: time since creation."),
    integer(
        "operations",
        "operations",
        "Operations seen in a scan by that age; NULL if there was no scan.",
        nullable=True,
    ),
    integer("rated_operations", "operations", "Those whose counts are summed.", nullable=True),
    *(
        integer(name, "emails", f"{meaning}, as known by that age.", nullable=True)
        for name, meaning in (
            ("emails", "total"),
            ("attempted", "total - canceled - scheduled - queued"),
            ("delivered", "delivered as the API counts it"),
            ("opened", "opened"),
            ("undelivered", "undelivered"),
            ("failed", "failed"),
        )
    ),
    integer(
        "hour_operations", "operations", "All operations of the hour, whenever they were seen."
    ),
)

_PUBLISHED_CURVE = tuple(
    replace(
        column,
        meaning="Delivered emails under the account's reading, as known by that age: delivered, plus opened "
        "if the reading is exclusive.",
    )
    if column.name == "delivered"
    else column
    for column in _CURVE
)

DELIVERY_CURVE = Table(
    "delivery_curve",
    "mart",
    "One row per account, hour of creation and age",
    "What was known of the hour's operations at that age, from their history: sums over the operations "
    "that have every count that the rates need.",
    _CURVE,
)

PUBLISHED_HOURLY = Table(
    "delivery_hourly",
    "warehouse",
    "One row per account, hour of creation and status",
    "Operations, the sums of their counts, and delivery rates, from the newest states.",
    (*HIVE_KEYS, _HOUR, _STATUS, *_SUMS_AND_RATES, _COMPLETENESS),
)

PUBLISHED_SIZES = Table(
    "operation_sizes",
    "warehouse",
    "One row per account, UTC day of creation and size class",
    "Operations, the sums of their counts, and delivery rates, from the newest states.",
    (*HIVE_KEYS, *_SIZE_CLASS, *_SUMS_AND_RATES, _COMPLETENESS),
)

PUBLISHED_CURVE = Table(
    "delivery_curve",
    "warehouse",
    "One row per account, hour of creation and age",
    "Deliveries and opens by age. Counts are those of the last scan by that age: the true value lies "
    "between them and those of the next scan, if there was one. All are NULL if the hour had no scan by "
    "that age, or if some of its operations are younger. The rates are also NULL if the hour is lost, or if "
    "scan_before_minutes is less than half of the age.",
    (
        *HIVE_KEYS,
        _HOUR,
        _COMPLETENESS,
        text("age", "The age as a label: 5 min, 24 h."),
        *_PUBLISHED_CURVE[1:],
        number(
            "scan_before_minutes",
            "minutes",
            "Age of an operation from the middle of the hour at its last scan by that age; NULL if there was "
            "none.",
            nullable=True,
        ),
        number(
            "scan_after_minutes",
            "minutes",
            "Its age at the next scan; NULL if there is none before the deadline.",
            nullable=True,
        ),
        *READING,
        *_RATES,
    ),
)

_EVERY_PERIOD: Final = (
    "From the first day with operations to the latest scan. A period without operations has a row with "
    "0 operations; its completeness says whether it is known or lost."
)

DELIVERY_DAILY = Table(
    "delivery_daily",
    "warehouse",
    "One row per account and UTC day of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (*HIVE_KEYS, *_SUMS_AND_RATES, *_SLOTS, _COMPLETENESS),
)

_DAYS = integer("days", "days", "Days of the period that have operations.")

DELIVERY_WEEKLY = Table(
    "delivery_weekly",
    "warehouse",
    "One row per account and UTC week of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (
        ACCOUNT_ID,
        day("week", "Monday of the ISO week of created_at."),
        _DAYS,
        *_SUMS_AND_RATES,
        *_SLOTS,
        _COMPLETENESS,
    ),
)

DELIVERY_MONTHLY = Table(
    "delivery_monthly",
    "warehouse",
    "One row per account and UTC month of creation",
    f"Operations, the sums of their counts, and delivery rates; sums over sums. {_EVERY_PERIOD}",
    (
        ACCOUNT_ID,
        day("month", "First day of the month of created_at."),
        _DAYS,
        *_SUMS_AND_RATES,
        *_SLOTS,
        _COMPLETENESS,
    ),
)

DELIVERY_BY_WEEKDAY_HOUR = Table(
    "delivery_by_weekday_hour",
    "warehouse",
    "One row per account, weekday and hour of creation, 168 in all",
    "Operations, the sums of their counts, and delivery rates over all weeks; sums over sums. Only "
    "slots that are final or closed are summed: in the last 7 days opens are still missing, and lost slots "
    "would distort the rest.",
    (
        ACCOUNT_ID,
        integer("weekday", "", "ISO weekday: 1 Monday to 7 Sunday, UTC."),
        integer("hour", "", "Hour of the day: 0 to 23, UTC."),
        *_SUMS_AND_RATES,
        *_SLOTS,
        text(
            "completeness",
            "final or closed, of the slots that are summed; changing if there is none yet.",
        ),
    ),
)

DELIVERY_ANOMALIES = Table(
    "delivery_anomalies",
    "warehouse",
    "One row per account, UTC day of creation and rate outside its band",
    "Days whose delivery, open, undelivered or failure rate is outside the range expected from the 28 days "
    "before. A changing day is compared only by what can't become smaller: too many undelivered, failed or "
    "opened. A closed day is not compared by what may have come after its last scan: too few delivered or "
    "opened. If the same weekday is known at least twice, the rate must also be outside the band around "
    "their median, so that ordinary weekends are not reported.",
    (
        *HIVE_KEYS,
        text("rate", "delivery_rate, open_rate, undelivered_rate or failure_rate."),
        text("direction", "above or below the band."),
        number("value", "ratio", "The day's rate."),
        number("expected", "ratio", "The median of the days before."),
        number("low", "ratio", "The band's lower end."),
        number("high", "ratio", "The band's upper end."),
        integer("emails", "emails", "The denominator of the rate."),
        integer(
            "days_before",
            "days",
            "Days that the band is computed from: 14 to 28, none of them changing or with gaps; for "
            "delivery_rate and open_rate none closed either.",
        ),
        _COMPLETENESS,
        *READING,
    ),
)

DELIVERY_READINGS = Table(
    "delivery_readings",
    "warehouse",
    "One row per account and UTC day of creation",
    "The delivery rates under both readings of the counts, and the sums that they divide, for accounts whose "
    "reading is undecided. delivery_daily has the rates under the account's reading.",
    (
        *HIVE_KEYS,
        *(
            number(
                f"{rate}_{reading}",
                "ratio",
                f"{rate} if `delivered` {includes} opened emails; NULL on gaps.",
                nullable=True,
            )
            for rate in ("delivery_rate", "open_rate")
            for reading, includes in _BOTH
        ),
        *(column for column in _RATED if column.name in ("rated_attempted", "rated_opened")),
        *(
            integer(
                f"rated_delivered_{reading}",
                "emails",
                f"Delivered emails of the rated operations if `delivered` {includes} opened ones.",
                nullable=True,
            )
            for reading, includes in _BOTH
        ),
        *READING,
        _COMPLETENESS,
    ),
)
