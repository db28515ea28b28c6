"""What a table and a column are, and the columns that many tables share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")


_TIMES: Final = (TIMESTAMP, pa.date32())
_TIME_NAMES: Final = (
    "created_at",
    "hour",
    "slot",
    "window_start",
    "created_date",
    "week",
    "month",
)


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
    def time_column(self) -> Column | None:
        """The column that tells when a row is of: what a range of time selects by; None if none does.

        It is never NULL; of several, it is the finest of the creation's time.
        """
        found = {c.name: c for c in self.published if not c.nullable and c.type in _TIMES}
        return next((found[name] for name in _TIME_NAMES if name in found), None)

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

MAX_PLAUSIBLE_COUNT: Final = 1_000_000_000
"""The largest count of one operation that is believed: 100,000 times the reference's most recipients.

Delivery tables take a larger one for absent, so that one record falsifies no sum and no rate; `operations`
and `history` keep it. Nine billion counts of this size add up within 64 bits."""
