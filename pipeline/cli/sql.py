"""The command `sql`: a query as argument, out of a file, piped, or typed at a prompt."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.options import AccountOption, DataOption, complain, is_stdout, lake_at, prepare
from pipeline.errors import UsageError
from pipeline.oserrors import explain
from pipeline.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from pipeline.lake.layout import Lake


class OutputFormat(StrEnum):
    """The format of a query's result."""

    table = "table"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    markdown = "markdown"
    parquet = "parquet"


_SUFFIXES: Final = {
    ".txt": OutputFormat.table,
    ".csv": OutputFormat.csv,
    ".json": OutputFormat.json,
    ".jsonl": OutputFormat.jsonl,
    ".ndjson": OutputFormat.jsonl,
    ".md": OutputFormat.markdown,
    ".parquet": OutputFormat.parquet,
}


QueryArgument = Annotated[
    str | None,
    typer.Argument(
        help="One query in DuckDB's SQL; - reads it from stdin.",
        metavar="QUERY",
        show_default=False,
    ),
]
FileOption = Annotated[
    str | None,
    typer.Option(
        "--file", "-f", help="Read the query from this file.", metavar="FILE", show_default=False
    ),
]
FormatOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format",
        help="Format of the result; by default that of the suffix of --output, or table.",
        metavar="FORMAT",
        show_default=False,
    ),
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="The file to create or replace; - is stdout.", metavar="FILE"
    ),
]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Show all columns of a table, however wide it is.")
]
RowsOption = Annotated[
    int,
    typer.Option(help="Rows that a table shows; other formats have all.", min=1, metavar="ROWS"),
]


def sql(
    query: QueryArgument = None,
    data: DataOption = None,
    file: FileOption = None,
    output: FormatOption = None,
    to: OutputOption = "-",
    wide: WideOption = False,
    max_rows: RowsOption = 200,
    account: AccountOption = None,
) -> None:
    """Query the warehouse, read-only.

    Without a query, an interactive prompt completes the names of tables and columns.
    Formats: table, csv, json, jsonl, markdown, parquet.
    A table shows the columns that fit and names the others.

    Example: email-archive sql "SELECT created_date, delivery_rate FROM delivery_daily" -o rates.csv
    """
    prepare()
    if query and file in list(OutputFormat):
        complain(f"WARNING -f is the file of a query now: use --format {file}")
        file, output = None, OutputFormat(str(file))
    output = output or _format_of(to)
    lake = lake_at(data)
    text = _query(query, file)

    def run(typed: str) -> None:
        run_query(lake, typed, output, to, account or [], max_rows=max_rows, is_wide=wide)

    if text is not None:
        run(text)
        return
    from pipeline.cli.prompt import ask_queries

    lake.must_exist()
    ask_queries(run)


def run_query(
    lake: "Lake",
    query: str,
    output: OutputFormat,
    to: str,
    accounts: "Sequence[str]",
    *,
    max_rows: int,
    is_wide: bool,
) -> None:
    """Write the result of a query to stdout, or to the file `to`."""
    from pipeline.access.query import query_result

    with query_result(lake, query, accounts) as result:
        with _opened(lake, to, output) as stream:
            _write(_with_text_intervals(result, output), output, stream, max_rows, is_wide=is_wide)
        if not is_stdout(to):
            rows = len(result) if output is not OutputFormat.table else min(len(result), max_rows)
            say(f"wrote {to}: {rows:,} {'row' if rows == 1 else 'rows'}", err=True)


def _format_of(to: str) -> OutputFormat:
    """The format that the name of the output file says."""
    if is_stdout(to):
        return OutputFormat.table
    found = _SUFFIXES.get(Path(to).suffix.lower())
    if found is None:
        msg = f"expected --format, or an --output that ends in {', '.join(_SUFFIXES)}; got {to}"
        raise UsageError(msg)
    return found


def _query(query: str | None, file: str | None) -> str | None:
    """The query's text; None if it is to be typed at a prompt."""
    if query not in (None, "-") and file is not None:
        msg = "expected a query or --file, got both"
        raise UsageError(msg)
    if file not in (None, "-"):
        return _read(Path(file))
    if query not in (None, "-"):
        return query
    if query is None and file is None and sys.stdin.isatty():
        if sys.stdout.isatty():
            return None
        msg = "expected a query, since the output is not a terminal"
        raise UsageError(msg)
    return _decoded(sys.stdin.buffer.read(), "stdin")


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        msg = f"there is no file {file}: expected one with a query"
        raise UsageError(msg) from None
    except IsADirectoryError:
        msg = f"{file} is a folder: give a file with a query"
        raise UsageError(msg) from None
    except OSError as error:
        msg = f"the query can't be read: {explain(error)}"
        raise UsageError(msg) from None
    return _decoded(content, str(file))


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        msg = f"expected a query in UTF-8 in {source}"
        raise UsageError(msg) from None


@contextmanager
def _opened(lake: "Lake", to: str, output: OutputFormat) -> Iterator[IO[bytes] | None]:
    """The file to write to, which is replaced when all is written; None for stdout."""
    if is_stdout(to):
        if output is OutputFormat.parquet and sys.stdout.isatty():
            msg = (
                "expected --output FILE, or a pipe: parquet is binary, and the output is a terminal"
            )
            raise UsageError(msg)
        yield None
        return
    from pipeline.access.sink import opened

    with opened(Path(to), lake.files) as stream:
        yield stream


def _with_text_intervals(
    result: "duckdb.DuckDBPyRelation", output: OutputFormat
) -> "duckdb.DuckDBPyRelation":
    """The result with intervals as DuckDB writes them, as 1 day 02:03:04; in JSON they are ISO 8601."""
    if output in (OutputFormat.json, OutputFormat.jsonl) or "interval" not in [
        one.id for one in result.types
    ]:
        return result
    texts = (
        f"#{place}::VARCHAR" if type_.id == "interval" else f"#{place}"
        for place, type_ in enumerate(result.types, start=1)
    )
    names = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in result.columns)
    columns = (f"{text} AS {name}" for text, name in zip(texts, names, strict=True))
    return result.project(", ".join(columns))


def _write(
    result: "duckdb.DuckDBPyRelation",
    output: OutputFormat,
    file: IO[bytes] | None,
    max_rows: int,
    *,
    is_wide: bool,
) -> None:
    from pipeline.cli import rendering

    if output is OutputFormat.parquet:
        rendering.write_parquet(result, file or sys.stdout.buffer)
        return
    if file is not None:
        with _as_text(file) as text:
            _write_text(result, output, text, max_rows, is_wide=True)
    else:
        _write_text(result, output, sys.stdout, max_rows, is_wide=is_wide)


@contextmanager
def _as_text(file: IO[bytes]) -> Iterator[IO[str]]:
    text = TextIOWrapper(file, "utf-8", newline="")
    yield text
    text.flush()
    text.detach()


def _write_text(
    result: "duckdb.DuckDBPyRelation",
    output: OutputFormat,
    stream: IO[str],
    max_rows: int,
    *,
    is_wide: bool,
) -> None:
    from pipeline.cli import rendering, tables

    match output:
        case OutputFormat.csv:
            rendering.write_csv(result, stream, on_terminal=stream.isatty())
        case OutputFormat.json:
            rendering.write_json(result, stream)
        case OutputFormat.jsonl:
            rendering.write_json_lines(result, stream)
        case OutputFormat.markdown:
            tables.write_markdown(result, stream)
        case _:
            tables.write_table(result, max_rows, stream, is_wide=is_wide)
