"""A question to the published warehouse, read-only."""

import duckdb
import pyarrow as pa

from pipeline import engine
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake.layout import Lake

_QUESTIONS = (
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.PRAGMA,
)


def ask(lake: Lake, query: str) -> pa.Table:
    """Run one query on the warehouse and return its result.

    Raises:
        UsageError: there is no archive or warehouse, or `query` is not one question.
        ArchiveError: DuckDB refuses the query; the message is DuckDB's.
    """
    lake.must_exist()
    if not lake.warehouse.exists():
        msg = f"no warehouse in {lake.root}: make it with `email-archive publish`"
        raise UsageError(msg)

    def asked() -> pa.Table:
        with engine.connect(str(lake.warehouse), read_only=True) as connection:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type not in _QUESTIONS:
                msg = (
                    "expected one query that changes nothing: SELECT, FROM, DESCRIBE, SHOW, EXPLAIN"
                )
                raise UsageError(msg)
            return connection.sql(query).to_arrow_table()

    try:
        return engine.asking_again(asked)
    except duckdb.Error as error:
        raise ArchiveError(str(error)) from error
