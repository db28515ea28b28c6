# ruff: noqa: I001 - isort would write one statement per name
"""Every table and column, with type, meaning and unit.

Parquet schemas, DuckDB comments, Dagster's column metadata and docs/tables.md are generated from it.

All times are UTC microseconds. All counts are nullable int64: a count that the API omits is NULL, never 0.
The hive keys ``account_id`` and ``created_date`` are in the names of folders, not in the files.

`table` defines tables and columns, `lake` has the archived tables and their coverage, `delivery` the
derived ones.
"""

from pipeline.model.schema.delivery import (
    AGES as AGES,
    DELIVERY_ANOMALIES as DELIVERY_ANOMALIES,
    DELIVERY_BY_WEEKDAY_HOUR as DELIVERY_BY_WEEKDAY_HOUR,
    DELIVERY_CURVE as DELIVERY_CURVE,
    DELIVERY_DAILY as DELIVERY_DAILY,
    DELIVERY_HOURLY as DELIVERY_HOURLY,
    DELIVERY_MONTHLY as DELIVERY_MONTHLY,
    DELIVERY_READINGS as DELIVERY_READINGS,
    DELIVERY_WEEKLY as DELIVERY_WEEKLY,
    OPERATION_SIZES as OPERATION_SIZES,
    PUBLISHED_CURVE as PUBLISHED_CURVE,
    PUBLISHED_HOURLY as PUBLISHED_HOURLY,
    PUBLISHED_SIZES as PUBLISHED_SIZES,
    RATED_COUNTS as RATED_COUNTS,
    SIZE_CLASSES as SIZE_CLASSES,
)
from pipeline.model.schema.lake import (
    COVERAGE as COVERAGE,
    COVERAGE_DAYS as COVERAGE_DAYS,
    COVERAGE_SLOTS as COVERAGE_SLOTS,
    HISTORY as HISTORY,
    LOOKUPS as LOOKUPS,
    OPERATION_ERRORS as OPERATION_ERRORS,
    OPERATION_ID_PATTERN as OPERATION_ID_PATTERN,
    OPERATIONS as OPERATIONS,
    PENDING_LOOKUPS as PENDING_LOOKUPS,
    RECORD_SCHEMA as RECORD_SCHEMA,
    REJECTS as REJECTS,
    RENAMED_COLUMNS as RENAMED_COLUMNS,
    SETTLED_STATUSES as SETTLED_STATUSES,
    SLOT_COVERAGE as SLOT_COVERAGE,
    STATUSES as STATUSES,
)
from pipeline.model.schema.readings import (
    COUNTING as COUNTING,
    COUNTING_EVIDENCE as COUNTING_EVIDENCE,
)
from pipeline.model.schema.table import (
    COUNT_NAMES as COUNT_NAMES,
    COUNTS as COUNTS,
    CREATED_DATE as CREATED_DATE,
    HIVE_KEYS as HIVE_KEYS,
    MAX_PLAUSIBLE_COUNT as MAX_PLAUSIBLE_COUNT,
    TIMESTAMP as TIMESTAMP,
    Column as Column,
    Table as Table,
    arrow_schema as arrow_schema,
)

FORMAT_VERSION = 4
"""The version of the lake's format. A lake with a higher one is refused.

1: operations, history, coverage and rejects. 2: slots, lookups by id, and errors. 3: `looked_up_at`.
4: `RENAMED_COLUMNS`.
"""

FACTS = (OPERATIONS, HISTORY, COVERAGE, REJECTS, LOOKUPS, OPERATION_ERRORS)
LAKE_TABLES = (*FACTS, SLOT_COVERAGE)
MART_INPUTS = {
    DELIVERY_HOURLY: (OPERATIONS,),
    COUNTING_EVIDENCE: (OPERATIONS,),
    OPERATION_SIZES: (OPERATIONS,),
    DELIVERY_CURVE: (HISTORY,),
}
"""The registry of marts: each table, with the tables that ``marts/sql/<name>.sql`` reads."""

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
"""The marts in the warehouse and in Dagster. `counting_evidence` is summed up in `counting`."""
PLAIN_MARTS = tuple(
    mart
    for mart in SHOWN_MARTS
    if mart.name not in {table.name for table in (*DELIVERY_TABLES, PUBLISHED_CURVE)}
)
"""The marts that the warehouse shows unchanged."""

WAREHOUSE_TABLES = (*DELIVERY_TABLES, DELIVERY_ANOMALIES, COUNTING)
WAREHOUSE_VIEWS = (*LAKE_TABLES, *PLAIN_MARTS, *COVERAGE_VIEWS, PUBLISHED_CURVE, DELIVERY_READINGS)
PUBLISHED = (*WAREHOUSE_VIEWS, *WAREHOUSE_TABLES)

AS_OF_MEANING = (
    "The operations as they were known at a moment: the columns of operations, from the newest states in "
    "history with an observed_at by then. observed_at is the start of a scan, so results of a scan that was "
    "under way at the moment are included. A moment without a time zone is in UTC."
)
"""The meaning of the table macro ``operations_as_of(ts)``."""
