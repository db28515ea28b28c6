"""A question to the published warehouse, read-only."""

import re
from typing import Final

import duckdb
import pyarrow as pa

from pipeline import engine
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake.layout import Lake

_EXPLAIN: Final = re.compile(r"\s*EXPLAIN\s*(ANALYZE\b|\([^()]*\))?", re.IGNORECASE)
_NO_FILES: Final = ("No files found", "Cannot open file")


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
        with engine.connect(str(lake.warehouse), spill=lake.spill, read_only=True) as connection:
            # What is explained may be carried out: it has to be a question itself.
            for question in (query, _EXPLAIN.sub("", query, count=1)):
                statements = connection.extract_statements(question)
                types = [one.type for one in statements]
                if types == [duckdb.StatementType.SELECT]:
                    break
                if types != [duckdb.StatementType.EXPLAIN] or question is not query:
                    msg = (
                        "expected one query that changes nothing: SELECT, FROM, DESCRIBE, SHOW, "
                        "or EXPLAIN of one"
                    )
                    raise UsageError(msg)
            return connection.sql(query).to_arrow_table()

    try:
        return engine.asking_again(asked)
    except duckdb.Error as error:
        raise unanswered(error) from error


def unanswered(error: duckdb.Error) -> ArchiveError:
    """What DuckDB says of a question to the warehouse, and what helps if its views find no files."""
    hint = ""
    if any(words in str(error) for words in _NO_FILES):
        hint = "\nWas the archive moved, or a file of it? `email-archive publish` mends its views"
    return ArchiveError(f"{error}{hint}")
