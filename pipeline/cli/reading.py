"""Commands that write what is in the archive to files: `export` and `report`."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import (
    AccountOption,
    DataOption,
    check_range,
    date_option,
    is_stdout,
    lake_at,
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
    table: Annotated[str, typer.Option(help="A table or view of the warehouse.", metavar="TABLE")],
    output: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="csv, parquet, json or arrow; json is newline-delimited, one object per line.",
        ),
    ] = ExportFormat.csv,
    since: Annotated[
        datetime | None,
        date_option("Only rows from this time on, by the table's time column."),
    ] = None,
    until: Annotated[datetime | None, date_option("... and before this.")] = None,
    to: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="The file to create or replace; - is stdout.", metavar="FILE"
        ),
    ] = "-",
    data: DataOption = None,
    account: AccountOption = None,
) -> None:
    """Export a table for other programs.

    Rows are streamed in batches, and a file is replaced when it is complete.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

    Example: email-archive export --table delivery_daily --since 2026-11-01 -f parquet -o daily.parquet
    """
    from pipeline.access.export import export as write

    if since and until:
        check_range(since, until)
    sink = sys.stdout.buffer if is_stdout(to) else Path(to)
    rows = write(
        lake_at(data), table, output.value, sink, since=since, until=until, accounts=account or []
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
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
) -> None:
    """Write the report: one HTML file with charts and tables.

    It needs no network.

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
