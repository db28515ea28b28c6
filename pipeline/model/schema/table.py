"""Tables, columns, and the columns that many tables share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
_TIMES: Final = (TIMESTAMP, pa.date32())
_TIME_NAMES: Final = ("created_at", "hour", "slot", "window_start", "created_date", "week", "month")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its Arrow type, meaning, unit, and whether it may be NULL."""

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
        """Meaning and unit, for the comments in DuckDB and Dagster."""
        return f"{self.meaning} Unit: {self.unit}." if self.unit else self.meaning


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its grain (what one row is), its meaning, and its columns in order.

    `kind` is ``lake`` for a table of Parquet files, which is a view in the warehouse; ``mart`` for one
    derived by day and stored as Parquet; ``warehouse`` for one that exists in DuckDB only; ``internal`` for
    one that is not shown to readers.
    """

    name: str
    kind: Literal["lake", "mart", "warehouse", "internal"]
    grain: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def arrow(self) -> pa.Schema:
        """The schema of the table's Parquet files, without the hive keys."""
        return arrow_schema(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, without the hive keys."""
        return tuple(column.name for column in self.columns)

    @property
    def published(self) -> tuple[Column, ...]:
        """The columns in the warehouse, with the hive keys."""
        return self.columns if self.kind == "warehouse" else (*HIVE_KEYS, *self.columns)

    @property
    def time_column(self) -> Column | None:
        """The column that a range of time selects by; None if there is none.

        It is never NULL. Of several, it is the finest time of creation.
        """
        found = {c.name: c for c in self.published if not c.nullable and c.type in _TIMES}
        return next((found[name] for name in _TIME_NAMES if name in found), None)

    @property
    def comment(self) -> str:
        """Grain and meaning, for the comments in DuckDB and Dagster."""
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


def text(name: str, meaning: str, *, nullable: bool = False) -> Column:
    """A column of text. Like those below, it is NOT NULL by default."""
    return Column(name, pa.string(), meaning, nullable=nullable)


def integer(name: str, unit: str, meaning: str, *, nullable: bool = False) -> Column:
    """A column of whole numbers."""
    return Column(name, pa.int64(), meaning, unit, nullable)


def number(name: str, unit: str, meaning: str, *, nullable: bool = False) -> Column:
    """A column of floating-point numbers."""
    return Column(name, pa.float64(), meaning, unit, nullable)


def flag(name: str, meaning: str) -> Column:
    """A column of booleans."""
    return Column(name, pa.bool_(), meaning, nullable=False)


def timestamp(
    name: str, meaning: str, *, unit: str = "UTC microseconds", nullable: bool = False
) -> Column:
    """A column of times in UTC."""
    return Column(name, TIMESTAMP, meaning, unit, nullable)


def day(name: str, meaning: str) -> Column:
    """A column of UTC dates."""
    return Column(name, pa.date32(), meaning, nullable=False)


ACCOUNT_ID = text("account_id", "SID of the Twilio account that sent the emails.")
CREATED_DATE = day("created_date", "UTC date of created_at: the day.")
HIVE_KEYS = (ACCOUNT_ID, CREATED_DATE)

COUNTS = tuple(
    integer(name, unit, meaning, nullable=True)
    for name, unit, meaning in (
        ("total", "emails", "Email resources created in the operation."),
        ("recipients", "recipients", "Recipients targeted in the operation."),
        ("attempts", "attempts", "Sending attempts made by Twilio."),
        ("queued", "emails", "Emails queued in Twilio for sending."),
        ("sent", "emails", "Emails that have been sent by Twilio."),
        ("scheduled", "emails", "Emails scheduled to be sent in the future."),
        ("delivered", "emails", "Emails successfully delivered to recipients."),
        ("opened", "emails", "Emails opened by unique recipients."),
        ("undelivered", "emails", "Emails sent by Twilio that have not been delivered."),
        ("failed", "emails", "Emails that failed during processing by Twilio."),
        ("canceled", "emails", "Emails canceled via API request."),
    )
)
COUNT_NAMES = tuple(column.name for column in COUNTS)

MAX_PLAUSIBLE_COUNT: Final = 1_000_000_000
"""The largest plausible count of one operation: 100,000 times the reference's most recipients.

Delivery tables treat larger counts as absent, so that one record can't distort a sum or a rate; `operations`
and `history` keep them. Nine billion counts of this size can be summed in 64 bits.
"""
