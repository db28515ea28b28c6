"""A user's SQL query on the published warehouse: one read-only query, of the archive's tables only."""

import errno
import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import engine
from pipeline.lake.accounts import accounts_named
from pipeline.lake.layout import Lake
from pipeline.model.schema import LAKE_TABLES, MARTS
from pipeline.outputs.published import open_warehouse, unreadable

_SELECT: Final = duckdb.StatementType.SELECT
_EXPLAIN: Final = duckdb.StatementType.EXPLAIN
_PIVOT: Final = duckdb.StatementType.MULTI
"""The statement type of a PIVOT without column names: DuckDB looks up the values in a first statement."""
_COMMENT: Final = duckdb.token_type.comment
_OPTIONS: Final = re.compile(r"[\w\s(),]*", re.ASCII)
"""The text allowed between EXPLAIN and its statement. DuckDB's parser treats spaces beyond ASCII as
separators, but its tokenizer does not: a statement after one would be overlooked."""

_NO_FILES: Final = ("No files found", f'": {os.strerror(errno.ENOENT)}')
_FORBIDDEN_FILE: Final = "Cannot access file"
_MOVED_COLUMN: Final = re.compile(
    r'column "(?:delivery|open)_rate_(?:cumulative|exclusive)" not found'
)


def ask(lake: Lake, query: str) -> pa.Table:
    """Run one query on the warehouse and return its result.

    Raises:
        UsageError: there is no archive or warehouse, or `query` is not one query that only reads.
        ArchiveError: DuckDB refuses the query; the message is DuckDB's.
    """
    with query_result(lake, query) as result:
        return result.to_arrow_table()


@contextmanager
def query_result(
    lake: Lake, query: str, accounts: Sequence[str] = ()
) -> Iterator[duckdb.DuckDBPyRelation]:
    """Run one query on the warehouse; its rows can be read while the block lasts.

    Args:
        lake: the archive.
        query: the query.
        accounts: the tables have the rows of these accounts alone, by SID or name; of all if empty.

    Raises:
        UsageError, ArchiveError: as of `ask`.
    """
    sids = [one.sid for one in accounts_named(lake.must_exist(), accounts)] if accounts else []

    def run() -> tuple[ExitStack, duckdb.DuckDBPyRelation]:
        with ExitStack() as stack:
            connection = stack.enter_context(open_warehouse(lake))
            if sids:
                _narrow(connection, sids)
            confine(connection, lake)
            result = _relation(connection, query).materialize()
            return stack.pop_all(), result

    try:
        opened, result = engine.retry_torn_reads(run)
    except duckdb.Error as error:
        raise query_error(error) from error
    with opened:
        yield result


def _narrow(connection: duckdb.DuckDBPyConnection, sids: Sequence[str]) -> None:
    """Hide each table and macro behind a temporary one with the rows of these accounts alone."""
    rows = f"WHERE account_id IN ({', '.join(map(engine.literal, sids))})"
    for (statement,) in connection.execute(engine.sql("pipeline.access", "narrow")).fetchall():
        connection.execute(f"{statement} {rows}")


def confine(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Restrict a connection permanently to the archive's tables.

    It can read no other file, network, extension or variable of this process. It could still write files in
    the tables' folders, but `query_result` runs no statement that writes.
    """
    folders = [str((lake.root / table.name).absolute()) for table in (*LAKE_TABLES, *MARTS)]
    # DuckDB also checks the pattern of a view, in which wildcards of the archive's path are escaped.
    folders += [glob.escape(folder) for folder in folders]
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET allowed_directories = ?", [folders])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _relation(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    try:
        query.encode()
    except UnicodeEncodeError as error:
        msg = "the query is not valid UTF-8"
        raise UsageError(msg) from error
    types = _statement_types(query)
    if types == [_EXPLAIN]:
        # EXPLAIN ANALYZE runs its statement, which must be read-only too.
        explained = _explained(query)
        if _statement_types(explained) == [_SELECT]:
            _subquery(connection, explained)
            return connection.sql(query)
    if types == [_PIVOT] and (pivot := _pivot(query)):
        return connection.sql(pivot)
    if types != [_SELECT]:
        raise UsageError(_refusal(types))
    return _subquery(connection, query)


def _refusal(types: Sequence[duckdb.StatementType]) -> str:
    """Why statements are not a query."""
    if not types:
        return "the query is empty: expected one, like FROM delivery_daily"
    if len(types) > 1:
        return f"expected one query; got {len(types)} statements"
    if types == [_PIVOT]:
        return "expected a PIVOT without a WITH clause: put the clause's query into parentheses"
    kind = "EXPLAIN of something else" if types == [_EXPLAIN] else types[0].name
    return (
        f"{kind} is refused, since the archive is only read here: expected a query, which is SELECT, FROM, "
        "PIVOT, DESCRIBE, SHOW or EXPLAIN of one"
    )


def _statement_types(text: str) -> list[duckdb.StatementType]:
    return [statement.type for statement in duckdb.extract_statements(text)]


def _subquery(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.DuckDBPyRelation:
    """The query as a subquery, where DuckDB refuses a WITH clause that writes (`WITH a AS (COPY ...)`)."""
    return connection.sql(f"FROM query({engine.literal(query)})")


def _pivot(query: str) -> str | None:
    """A PIVOT as a subquery, which can't write; None if the query is not a PIVOT, or has WITH.

    `query()` does not accept a PIVOT without column names. A PIVOT with a WITH clause is refused, because
    DuckDB runs the clause outside of the subquery too, where it could write.
    """
    if "with" in query.casefold():
        return None
    text = query.encode()
    positions = [position for position, kind in duckdb.tokenize(query) if kind != _COMMENT]
    end = positions[-1] if text[positions[-1] :].startswith(b";") else len(text)
    pivot = f"FROM ({text[:end].decode()}\n)"
    with suppress(duckdb.ParserException):
        if _statement_types(pivot) == [_PIVOT]:
            return pivot
    return None


def _explained(explain: str) -> str:
    """The statement of an EXPLAIN: the text from the first token at which another statement begins."""
    text = explain.encode()
    positions = [position for position, kind in duckdb.tokenize(explain) if kind != _COMMENT]
    for position in positions:
        statement = text[position:].decode()
        with suppress(duckdb.ParserException):
            if _statement_types(statement) != [_EXPLAIN]:
                before = text[positions[0] : position].decode()
                return statement if _OPTIONS.fullmatch(before) else ""
    return ""


def query_error(error: duckdb.Error) -> ArchiveError:
    """The error for a failed query, with advice if the warehouse's views find no files."""
    hint = ""
    if _MOVED_COLUMN.search(str(error)):
        hint = "\nThe rates under both readings are in delivery_readings, by day"
    if any(words in str(error) for words in _NO_FILES):
        hint = "\nWas the archive or a file of it moved? `email-archive publish` updates the views"
    if _FORBIDDEN_FILE in str(error):
        hint = (
            "\nA query reads the archive's tables and no other file. Was the archive moved? "
            "`email-archive publish` updates the views"
        )
    return ArchiveError(f"{error}{hint}") if hint else unreadable(error)
