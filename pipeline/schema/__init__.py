"""Every table and column, once: type, meaning, unit.

Parquet schemas, DuckDB comments, Dagster's column metadata and docs/tables.md are all made from
this package. What is not written here does not exist; a test compares it with what is materialized.

All times are UTC microseconds. All counts are nullable int64: a count that the API left out is NULL,
never 0. The hive keys ``account_id`` and ``created_date`` are folder names, not columns of the files.

`table` says what a table and a column are, `lake` has the facts and their coverage, `delivery` what is
derived from them.
"""

from pipeline.schema.delivery import (
    AGES,
    COMPLETENESS,
    COUNTING,
    COUNTING_EVIDENCE,
    DELIVERY_ANOMALIES,
    DELIVERY_BY_WEEKDAY_HOUR,
    DELIVERY_CURVE,
    DELIVERY_DAILY,
    DELIVERY_HOURLY,
    DELIVERY_HOURLY_COLUMNS,
    DELIVERY_MONTHLY,
    DELIVERY_WEEKLY,
    OPERATION_SIZES,
    PUBLISHED_CURVE,
    PUBLISHED_HOURLY,
    PUBLISHED_SIZES,
    SIZE_CLASSES,
)
from pipeline.schema.lake import (
    COVERAGE,
    COVERAGE_DAYS,
    COVERAGE_SLOTS,
    EXTRA,
    HISTORY,
    LOOKED_UP_AT,
    LOOKUPS,
    OBSERVED_AT,
    OPERATION_COLUMNS,
    OPERATION_ERRORS,
    OPERATION_ID_PATTERN,
    OPERATIONS,
    PENDING_LOOKUPS,
    RECORD_COLUMNS,
    RECORD_SCHEMA,
    REJECTS,
    SETTLED_STATUSES,
    SLOT_COVERAGE,
    STATUSES,
)
from pipeline.schema.table import (
    ACCOUNT_ID,
    COUNT_NAMES,
    COUNTS,
    CREATED_DATE,
    HIVE_KEYS,
    MAX_PLAUSIBLE_COUNT,
    TIMESTAMP,
    Column,
    Table,
    arrow_schema,
)

FORMAT_VERSION = 3
"""The version of the lake's layout and files; a lake with a higher one is refused.

1: operations, history, coverage and rejects. 2: slots, questions about single operations, and errors.
3: which states were fetched by id.
"""

FACTS = (OPERATIONS, HISTORY, COVERAGE, REJECTS, LOOKUPS, OPERATION_ERRORS)
LAKE_TABLES = (*FACTS, SLOT_COVERAGE)
MART_INPUTS = {
    DELIVERY_HOURLY: (OPERATIONS,),
    COUNTING_EVIDENCE: (OPERATIONS,),
    OPERATION_SIZES: (OPERATIONS,),
    DELIVERY_CURVE: (HISTORY,),
}
"""The registry of marts: each table, and those that ``marts/sql/<its name>.sql`` derives it from."""

MARTS = tuple(MART_INPUTS)
COVERAGE_VIEWS = (COVERAGE_SLOTS, COVERAGE_DAYS)
DELIVERY_TABLES = (
    PUBLISHED_HOURLY,
    DELIVERY_DAILY,
    DELIVERY_WEEKLY,
    DELIVERY_MONTHLY,
    DELIVERY_BY_WEEKDAY_HOUR,
    PUBLISHED_SIZES,
)
"""Sums of counts with their rates, by period or class."""

SHOWN_MARTS = tuple(mart for mart in MARTS if mart is not COUNTING_EVIDENCE)
"""Those that the warehouse and Dagster show; the evidence is summed up in `counting`."""
PLAIN_MARTS = tuple(
    mart
    for mart in SHOWN_MARTS
    if mart.name not in {table.name for table in (*DELIVERY_TABLES, PUBLISHED_CURVE)}
)
"""Those of them that the warehouse shows as they are."""

WAREHOUSE_TABLES = (*DELIVERY_TABLES, DELIVERY_ANOMALIES, COUNTING)
WAREHOUSE_VIEWS = (*LAKE_TABLES, *PLAIN_MARTS, *COVERAGE_VIEWS, PUBLISHED_CURVE)
PUBLISHED = (*WAREHOUSE_VIEWS, *WAREHOUSE_TABLES)

AS_OF_MEANING = (
    "The operations as they were known at a moment: the columns of operations, from the newest of the "
    "states in history that were first seen by then. observed_at is when the scan began that saw one: "
    "what a scan found that went on at the moment counts as known. A moment without a time zone is UTC's."
)
"""What the table macro ``operations_as_of(ts)`` gives."""

__all__ = [
    "ACCOUNT_ID",
    "AGES",
    "AS_OF_MEANING",
    "COMPLETENESS",
    "COUNTING",
    "COUNTING_EVIDENCE",
    "COUNTS",
    "COUNT_NAMES",
    "COVERAGE",
    "COVERAGE_DAYS",
    "COVERAGE_SLOTS",
    "COVERAGE_VIEWS",
    "CREATED_DATE",
    "DELIVERY_ANOMALIES",
    "DELIVERY_BY_WEEKDAY_HOUR",
    "DELIVERY_CURVE",
    "DELIVERY_DAILY",
    "DELIVERY_HOURLY",
    "DELIVERY_HOURLY_COLUMNS",
    "DELIVERY_MONTHLY",
    "DELIVERY_TABLES",
    "DELIVERY_WEEKLY",
    "EXTRA",
    "FACTS",
    "FORMAT_VERSION",
    "HISTORY",
    "HIVE_KEYS",
    "LAKE_TABLES",
    "LOOKED_UP_AT",
    "LOOKUPS",
    "MARTS",
    "MART_INPUTS",
    "MAX_PLAUSIBLE_COUNT",
    "OBSERVED_AT",
    "OPERATIONS",
    "OPERATION_COLUMNS",
    "OPERATION_ERRORS",
    "OPERATION_ID_PATTERN",
    "OPERATION_SIZES",
    "PENDING_LOOKUPS",
    "PLAIN_MARTS",
    "PUBLISHED",
    "PUBLISHED_CURVE",
    "PUBLISHED_HOURLY",
    "PUBLISHED_SIZES",
    "RECORD_COLUMNS",
    "RECORD_SCHEMA",
    "REJECTS",
    "SETTLED_STATUSES",
    "SHOWN_MARTS",
    "SIZE_CLASSES",
    "SLOT_COVERAGE",
    "STATUSES",
    "TIMESTAMP",
    "WAREHOUSE_TABLES",
    "WAREHOUSE_VIEWS",
    "Column",
    "Table",
    "arrow_schema",
]
