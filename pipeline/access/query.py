"""A user's question to the published warehouse: one query that only reads, and only the archive's tables."""

import errno
import glob
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.schema import LAKE_TABLES, MARTS
from pipeline.outputs.published import open_warehouse, unreadable

_SELECT: Final = duckdb.StatementType.SELECT
_EXPLAIN: Final = duckdb.StatementType.EXPLAIN
_PIVOT: Final = duckdb.StatementType.MULTI
"""What DuckDB makes of a PIVOT that does not name its columns: it looks the values up first."""
_COMMENT: Final = duckdb.token_type.comment
_OPTIONS: Final = re.compile(r"[\w\s(),]*", re.ASCII)
"""What may stand before that which an EXPLAIN explains. Spaces beyond ASCII separate words for DuckDB's
parser, but not for its tokenizer: a statement could begin there unseen."""

_NO_FILES: Final = ("No files found", f'": {os.strerror(errno.ENOENT)}')
_FORBIDDEN_FILE: Final = "Cannot access file"


def ask(lake: Lake, question: str) -> pa.Table:
    """Run one query on the warehouse and return its result.

    Raises:
        UsageError: there is no archive or warehouse, or `question` is not one query that only reads.
        ArchiveError: DuckDB refuses the query; the message is DuckDB's.
    """
    with answered(lake, question) as result:
        return result.to_arrow_table()


@contextmanager
def answered(lake: Lake, question: str) -> Iterator[duckdb.DuckDBPyRelation]:
    """Run one query on the warehouse; its rows can be read while the block lasts.

    Raises:
        UsageError, ArchiveError: as of `ask`.
    """

    def run() -> tuple[ExitStack, duckdb.DuckDBPyRelation]:
        with ExitStack() as stack:
            connection = stack.enter_context(open_warehouse(lake))
            confine(connection, lake)
            result = _relation(connection, question).materialize()
            return stack.pop_all(), result

    try:
        opened, result = engine.retry_torn_reads(run)
    except duckdb.Error as error:
        raise unanswered(error) from error
    with opened:
        yield result


def confine(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Leave a connection nothing to read but the archive's tables, for good.

    No other file, no network, no extension, no variable of this process. Files can still be written in
    the tables' folders: `answered` runs no statement that does.
    """
    folders = [str((lake.root / table.name).absolute()) for table in (*LAKE_TABLES, *MARTS)]
    # A view's pattern is checked as it is, too: with what are wildcards in the archive's path escaped.
    folders += [glob.escape(folder) for folder in folders]
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET allowed_directories = ?", [folders])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _relation(connection: duckdb.DuckDBPyConnection, question: str) -> duckdb.DuckDBPyRelation:
    try:
        question.encode()
    except UnicodeEncodeError as error:
        msg = "the query is not valid UTF-8"
        raise UsageError(msg) from error
    types = _statement_types(question)
    if types == [_EXPLAIN]:
        # EXPLAIN ANALYZE runs what it explains: that has to be a question too.
        explained = _explained(question)
        if _statement_types(explained) == [_SELECT]:
            _subquery(connection, explained)
            return connection.sql(question)
    if types == [_PIVOT] and (pivot := _pivot(question)):
        return connection.sql(pivot)
    if types != [_SELECT]:
        msg = "expected one query that changes nothing: SELECT, FROM, PIVOT, DESCRIBE, SHOW or EXPLAIN of one"
        raise UsageError(msg)
    return _subquery(connection, question)


def _statement_types(text: str) -> list[duckdb.StatementType]:
    return [statement.type for statement in duckdb.extract_statements(text)]


def _subquery(connection: duckdb.DuckDBPyConnection, question: str) -> duckdb.DuckDBPyRelation:
    """The question as a subquery: there DuckDB refuses a WITH clause that writes (`WITH a AS (COPY ...)`)."""
    return connection.sql(f"FROM query({engine.literal(question)})")


def _pivot(question: str) -> str | None:
    """A PIVOT as a subquery, where nothing that writes can stand; None if the question is none.

    `query()` does not take a PIVOT without its columns. DuckDB runs a WITH clause of a PIVOT outside of the
    subquery too, so that it could write: one with WITH is refused.
    """
    if "with" in question.casefold():
        return None
    text = question.encode()
    positions = [position for position, kind in duckdb.tokenize(question) if kind != _COMMENT]
    end = positions[-1] if text[positions[-1] :].startswith(b";") else len(text)
    pivot = f"FROM ({text[:end].decode()}\n)"
    with suppress(duckdb.ParserException):
        if _statement_types(pivot) == [_PIVOT]:
            return pivot
    return None


def _explained(explain: str) -> str:
    """What an EXPLAIN explains: the text from the first token at which another statement begins."""
    text = explain.encode()
    positions = [position for position, kind in duckdb.tokenize(explain) if kind != _COMMENT]
    for position in positions:
        statement = text[position:].decode()
        with suppress(duckdb.ParserException):
            if _statement_types(statement) != [_EXPLAIN]:
                before = text[positions[0] : position].decode()
                return statement if _OPTIONS.fullmatch(before) else ""
    return ""


def unanswered(error: duckdb.Error) -> ArchiveError:
    """What DuckDB says of a question to the warehouse, and what helps if its views find no files."""
    hint = ""
    if any(words in str(error) for words in _NO_FILES):
        hint = "\nWas the archive moved, or a file of it? `email-archive publish` mends its views"
    if _FORBIDDEN_FILE in str(error):
        hint = (
            "\nA query reads the archive's tables and no other file. Was the archive moved? "
            "`email-archive publish` mends its views"
        )
    return ArchiveError(f"{error}{hint}") if hint else unreadable(error)
