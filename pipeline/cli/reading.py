"""Commands that write what is in the archive to files: `export` and `report`."""

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
    is_stdout,
    lake_at,
    utc,
)
from pipeline.extras import optional_imports
from pipeline.terminal import say


class ExportFormat(StrEnum):
    """The format of an export."""

    csv = "csv"
    parquet = "parquet"
    json = "json"
    arrow = "arrow"


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
    sink = sys.stdout.buffer if is_stdout(to) else Path(to)
    rows = write(
        lake_at(data), table, output.value, sink, since=start, until=end, accounts=account or []
    )
    if not is_stdout(to):
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

    if to is not None and is_stdout(to):
        sys.stdout.buffer.write(draw(lake_at(data), accounts=account or []).content)
        return
    written = write(lake_at(data), None if to is None else Path(to), accounts=account or [])
    done = "wrote" if written.is_new else "nothing new in"
    say(f"{done} {written.path}: {written.size / 1e6:.1f} MB")
