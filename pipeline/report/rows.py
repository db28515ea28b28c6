"""Rows of the warehouse, by the report's queries."""

from typing import Any, Final, TypeAlias

import duckdb

from pipeline.lake import engine

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[Row]

PERIODS: Final = ("7", "28", "90", "all")
"""The periods that a reader can choose: the last days, by their number, or all."""

CHOSEN: Final = "28"
"""The period that is chosen at first."""


def query(connection: duckdb.DuckDBPyConnection, name: str, **values: Any) -> Rows:
    """The rows of a query of ``sql/``."""
    return rows(connection, engine.sql("pipeline.report", name), **values)


def rows(connection: duckdb.DuckDBPyConnection, text: str, **values: Any) -> Rows:
    """The rows of a query."""
    found: Rows = connection.sql(text, params=values or None).to_arrow_table().to_pylist()
    return found
