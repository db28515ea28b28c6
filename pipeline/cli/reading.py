"""Commands that read the archive: `sql`, `export` and `report`."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    TIMES,
    AccountOption,
    DataOption,
    check_range,
    lake_at,
    prepare,
    utc,
)
from pipeline.extras import optional_imports
from pipeline.terminal import say


class OutputFormat(StrEnum):
    """The format of a query's result."""

    table = "table"
    csv = "csv"
    json = "json"


class ExportFormat(StrEnum):
    """The format of an export."""

    csv = "csv"
    parquet = "parquet"
    json = "json"
    arrow = "arrow"


def sql(
    query: Annotated[str, typer.Argument(help="One SQL query, in DuckDB's dialect.")],
    data: DataOption = None,
    output: Annotated[
        OutputFormat, typer.Option("--format", "-f", help="Format of the result.")
    ] = OutputFormat.table,
    max_rows: Annotated[
        int,
        typer.Option(help="Rows of the result that a table shows; csv and json have all.", min=1),
    ] = 200,
    account: AccountOption = None,
) -> None:
    """Query the warehouse, read-only.

    Example: email-archive sql "SELECT created_date, delivery_rate FROM delivery_daily" -f csv
    """
    prepare()
    from pipeline.access.query import query_result
    from pipeline.cli import rendering

    with query_result(lake_at(data), query, account or []) as result:
        match output:
            case OutputFormat.csv:
                rendering.write_csv(result)
            case OutputFormat.json:
                rendering.write_json(result)
            case OutputFormat.table:
                rendering.write_table(result, max_rows)


def export(
    table: Annotated[str, typer.Option(help="A table or view of the warehouse.")],
    output: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            "-f",
            help="Format of the file; json is newline-delimited, one object per line.",
        ),
    ] = ExportFormat.csv,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Only rows from this time on (UTC), by the table's time column.", formats=TIMES
        ),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="... and before this.", formats=TIMES)
    ] = None,
    to: Annotated[
        str, typer.Option("--output", "-o", help="The file to create or replace; - is stdout.")
    ] = "-",
    data: DataOption = None,
    account: AccountOption = None,
) -> None:
    """Export a table for other programs, in batches; a file is replaced atomically.

    Example: email-archive export --table delivery_daily --since 2026-11-01 -f parquet -o daily.parquet
    """
    from pipeline.access.export import export as write

    start, end = utc(since), utc(until)
    if start and end:
        check_range(start, end)
    sink = sys.stdout.buffer if _is_stdout(to) else Path(to)
    rows = write(
        lake_at(data), table, output.value, sink, since=start, until=end, accounts=account or []
    )
    if not _is_stdout(to):
        say(f"exported {table} to {to}: {rows:,} rows")


def report(
    data: DataOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to create or replace; - is stdout. By default report.html in the archive's "
            "folder, and report-NAME.html with --account.",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
) -> None:
    """Write the report: one HTML file with charts and tables, which needs no network.

    Example: email-archive report -o /srv/www/email.html
    """
    with optional_imports():
        from pipeline.report.write import draw
        from pipeline.report.write import report as write

    if to is not None and _is_stdout(to):
        sys.stdout.buffer.write(draw(lake_at(data), accounts=account or []).content)
        return
    written = write(lake_at(data), None if to is None else Path(to), accounts=account or [])
    done = "wrote" if written.is_new else "nothing new in"
    say(f"{done} {written.path}: {written.size / 1e6:.1f} MB")


def _is_stdout(to: str) -> bool:
    """Whether a path is stdout: if that is redirected to a file, the file must not be replaced."""
    return to in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
