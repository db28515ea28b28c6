"""The command `email-archive`: a thin rim around the library.

Nothing heavy is imported until a command runs, so that ``--help`` is immediate. Exit codes: 0 done,
1 failed, 2 wrong use, 130 and 143 stopped by Ctrl-C and SIGTERM. An expected error is one message
without a traceback; ``--debug`` shows it.
"""

import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import logs
from pipeline.cli.logs import LogFormat
from pipeline.errors import ArchiveError, UsageError
from pipeline.extras import optional_imports
from pipeline.interruption import StopSignals
from pipeline.oserrors import explain
from pipeline.terminal import say

log = logging.getLogger(__name__)

FAILED, WRONG_USE = 1, 2
TIMES = [f"%Y-%m-%d{time}" for time in ("", "T%H:%M", "T%H:%MZ", "T%H:%M:%S", "T%H:%M:%SZ")]


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,
)


class OutputFormat(StrEnum):
    """How a query's result is written."""

    table = "table"
    csv = "csv"
    json = "json"


class ExportFormat(StrEnum):
    """How a table is exported."""

    csv = "csv"
    parquet = "parquet"
    json = "json"
    arrow = "arrow"


class Counting(StrEnum):
    """The two readings of the counts."""

    cumulative = "cumulative"
    exclusive = "exclusive"


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The archive's folder; overrides EMAIL_ARCHIVE_DATA.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the figures as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.version import installed

        say(f"email-archive {installed()}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Log every request, and show tracebacks of errors.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            "--log-format",
            help="How stderr is written; json is one object a line, progress included.",
        ),
    ] = LogFormat.text,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keep Twilio email operations, which the API forgets after 7 days, for ever.

    Settings come from the environment or a .env file.

    Example: email-archive sync && email-archive sql "SELECT * FROM delivery_daily"
    """
    logs.set_up(log_format, debug=debug)


@app.command()
def sync(
    data: DataOption = None,
    as_json: JsonOption = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Scan all that the API may still know, due or not.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(help="Scan what was created from then on (UTC), due or not.", formats=TIMES),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="... and before this; by default up to now.", formats=TIMES),
    ] = None,
    publish: Annotated[
        bool, typer.Option(help="Derive the delivery tables and the warehouse too.")
    ] = True,
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock", help="Go by the API's clock, though this machine's shows another time."
        ),
    ] = False,
) -> None:
    """Scan what is due and bring the archive up to date.

    Young operations are scanned often, old ones rarely, and all once more before the API forgets them:
    so run it often, every 10 minutes say. It makes one request when nothing is due.
    Exits with 1 if a window could not be scanned or a day not merged; the rest is done all the same.

    Example: email-archive sync --json | jq .new
    """
    _prepare()
    from pipeline.cli.console import observing
    from pipeline.cli.rendering import json_figures
    from pipeline.settings import Settings
    from pipeline.sync import sync as run

    trusting = {"trust_clock": True} if trust_clock else {}
    settings = Settings.load(**_data(data), **trusting)
    scope = _scope(everything, since, until)
    with observing() as observer:
        report = run(settings, scope=scope, observer=observer, publishing=publish)
    summary = report.summary()
    if as_json:
        typer.echo(json_figures(summary))
    else:
        say(
            f"{report.account_id}: {summary['operations_seen']} operations seen: {summary['new']} new, "
            f"{summary['changed']} changed, {summary['unchanged']} unchanged; "
            f"{summary['rejects']} rejects; {summary['requests']} requests, "
            f"{summary['retries']} retries; {summary['seconds']} s"
        )
    for failure in report.extraction.failures:
        _complain(f"window {failure.window} failed and stays due: {failure.error}")
    for unanswered in report.lookups.failures:
        what = f"{unanswered.watched.subject} of {unanswered.watched.operation_id}"
        _complain(
            f"{what} could not be asked for and stays due, at growing intervals: {unanswered.error}"
        )
    for error in report.errors:
        _complain(f"not done: {error}")
    if not report.ok:
        raise typer.Exit(FAILED)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SQL query, in DuckDB's dialect.")],
    data: DataOption = None,
    output: Annotated[
        OutputFormat, typer.Option("--format", "-f", help="How the result is written.")
    ] = OutputFormat.table,
    max_rows: Annotated[
        int, typer.Option(help="Rows that a table shows; csv and json write all.", min=1)
    ] = 200,
) -> None:
    """Ask the warehouse a question; nothing can be changed.

    Example: email-archive sql "SELECT created_date, delivery_rate FROM delivery_daily" -f csv
    """
    _prepare()
    from pipeline.access.query import answered
    from pipeline.cli import rendering

    with answered(_lake(data), query) as result:
        match output:
            case OutputFormat.csv:
                rendering.write_csv(result)
            case OutputFormat.json:
                rendering.write_json(result)
            case OutputFormat.table:
                rendering.write_table(result, max_rows)


@app.command()
def export(
    table: Annotated[str, typer.Option(help="A table or view of the warehouse.")],
    output: Annotated[
        ExportFormat,
        typer.Option("--format", "-f", help="json is newline-delimited: one object a line."),
    ] = ExportFormat.csv,
    since: Annotated[
        datetime | None,
        typer.Option(help="Only rows from then on (UTC), by the table's time.", formats=TIMES),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="... and before this.", formats=TIMES)
    ] = None,
    to: Annotated[
        str, typer.Option("--output", "-o", help="The file to make or to replace; - is stdout.")
    ] = "-",
    data: DataOption = None,
) -> None:
    """Write a table for other programs, in batches: a file is there whole, or not at all.

    Example: email-archive export --table delivery_daily --since 2026-11-01 -f parquet -o daily.parquet
    """
    from pipeline.access.export import export as write

    start, end = _utc(since), _utc(until)
    if start and end:
        _check_range(start, end)
    sink = sys.stdout.buffer if _is_stdout(to) else Path(to)
    rows = write(_lake(data), table, output.value, sink, since=start, until=end)
    if not _is_stdout(to):
        say(f"exported {table} to {to}: {rows:,} rows")


@app.command()
def report(
    data: DataOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to make or to replace; - is stdout. By default report.html in the archive's "
            "folder.",
            show_default=False,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(help="This account alone; by default a section each.", show_default=False),
    ] = None,
) -> None:
    """Write the report: one HTML file of pictures and figures, which needs no network.

    Example: email-archive report -o /srv/www/email.html
    """
    with optional_imports():
        from pipeline.report.write import draw
        from pipeline.report.write import report as write

    if to is not None and _is_stdout(to):
        sys.stdout.buffer.write(draw(_lake(data), account_id=account).content)
        return
    written = write(_lake(data), None if to is None else Path(to), account_id=account)
    done = "wrote" if written.is_new else "nothing new in"
    say(f"{done} {written.path}: {written.size / 1e6:.1f} MB")


@app.command()
def publish(data: DataOption = None) -> None:
    """Rebuild the delivery tables and the warehouse.

    Everything is derived from the lake anew: do it after moving the archive's folder.

    Example: email-archive publish --data /srv/archive
    """
    _prepare()
    from pipeline.sync import rebuild

    lake = _lake(data)
    days, errors = rebuild(lake.must_exist())
    say(f"published {lake.warehouse.absolute()}: {days} days")
    for error in errors:
        _complain(f"not done: {error}")
    if errors:
        raise typer.Exit(FAILED)


@app.command()
def status(
    data: DataOption = None,
    as_json: JsonOption = False,
    at: Annotated[
        datetime | None,
        typer.Option(help="Judge deadlines at this time (UTC); by default now.", formats=TIMES),
    ] = None,
) -> None:
    """Show what the archive holds, and whether anything is about to be lost.

    Exits with 1 if something is at risk, was lost since the last sync, or if a wrong clock has dated scans:
    let somebody know.

    Example: email-archive status --json | jq .accounts[].at_risk
    """
    _prepare()
    from pipeline.cli import console
    from pipeline.cli.rendering import json_figures
    from pipeline.extract.api_clock import machine_time
    from pipeline.lake.layout import Lake
    from pipeline.quality.status import status as look
    from pipeline.settings import ArchiveSettings

    settings = ArchiveSettings.load(**_data(data))
    now = _utc(at) or machine_time()
    # Scans after a moment of the past are none of the future.
    trust_clock = settings.trust_clock or at is not None
    found = look(Lake.of(settings), now, trust_clock=trust_clock)
    if as_json:
        typer.echo(json_figures(found.as_json()))
    else:
        console.write_status(found)
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command()
def verify(
    data: DataOption = None,
    as_json: JsonOption = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Compare what was created from then on (UTC); by default 7 days ago.",
            formats=TIMES,
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="... and before this; by default up to now.", formats=TIMES),
    ] = None,
) -> None:
    """List the API again and compare it with the archive; nothing is changed.

    Exits with 1 if an operation is missing in the archive, or a window could not be listed.

    Example: email-archive verify --since 2026-11-20 --until 2026-11-21
    """
    _prepare()
    from pipeline.cli import console
    from pipeline.cli.rendering import json_figures
    from pipeline.quality.verify import verify as compare
    from pipeline.settings import Settings

    settings = Settings.load(**_data(data))
    start, end = _utc(since), _utc(until)
    if start and end:
        _check_range(start, end)
    with console.observing() as observer:
        found = compare(settings, start=start, end=end, observer=observer)
    if as_json:
        typer.echo(json_figures(found.as_json()))
    else:
        console.write_verification(found)
    for failure in found.failures:
        _complain(f"window {failure.window} failed: {failure.error}")
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command()
def repair(
    data: DataOption = None,
    as_json: JsonOption = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without, only show what would be done.")
    ] = False,
    after: Annotated[
        datetime | None,
        typer.Option(
            help="Times after this (UTC) can't be right; by default an hour after this machine's clock.",
            formats=TIMES,
        ),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(help="... nor times before this; by default any may be.", formats=TIMES),
    ] = None,
) -> None:
    """Set aside scans that a wrong clock has dated.

    Such scans are taken out of the coverage. The operations that they returned stay, dated by when they
    were updated. All rows as they were are kept in .set-aside in the archive's folder.
    Exits with 1 if there is something to do and it was not done.

    Example: email-archive repair && email-archive repair --apply
    """
    _prepare()
    from pipeline.cli.rendering import json_figures
    from pipeline.extract.api_clock import machine_time
    from pipeline.model.times import iso_compact
    from pipeline.quality.repair import (
        Bounds,
        Repair,
        find,
        require_some_possible,
        summary_lines,
    )
    from pipeline.quality.repair import repair as mend

    lake, now = _lake(data), machine_time()
    bounds = Bounds.by(now, _utc(after), _utc(before))
    done = Repair(find(lake, bounds))
    if apply:
        if after is None and before is None:
            require_some_possible(done.found, lake)
        done = mend(lake, bounds, iso_compact(now))
    if as_json:
        typer.echo(json_figures(done.as_json()))
    else:
        for line in summary_lines(done):
            say(line)
    for error in done.errors:
        _complain(f"not done: {error}")
    if done.errors or (done.found and not apply):
        raise typer.Exit(FAILED)


@app.command()
def emulate(
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.")] = 8790,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option(help="Allow an address that other machines can reach.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The world's seed: the same seed, the same world.")] = 1,
    per_day: Annotated[float, typer.Option(help="Operations per day, on average.", min=0)] = 400,
    start: Annotated[
        datetime | None,
        typer.Option(help="Where the world begins (UTC); by default 30 days before the clock."),
    ] = None,
    now: Annotated[
        datetime | None, typer.Option(help="What the clock shows first (UTC); by default the time.")
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            help="Simulated seconds per second; 0 stops the clock. A sync takes a clock that gets more than "
            "10 minutes ahead meanwhile for a wrong one.",
            min=0,
        ),
    ] = 1.0,
    counting: Annotated[
        Counting, typer.Option(help="Whether `delivered` still counts what was opened.")
    ] = Counting.cumulative,
    faults: Annotated[
        str, typer.Option(help="What goes wrong, as 429=0.05,reset=0.01,seed=7.")
    ] = "",
    outage: Annotated[
        datetime | None,
        typer.Option(help="A UTC day on which little is delivered and opened.", formats=TIMES[:1]),
    ] = None,
) -> None:
    """Serve the API on this machine, for a computed account.

    The clock can be set over POST /emulator/clock, from this machine alone.

    Example: email-archive emulate --port 8790 --per-day 2000 --rate 60
    """
    with optional_imports():
        from pipeline.emulator.command import run

    run(
        host=host,
        port=port,
        allow_remote=allow_remote,
        seed=seed,
        per_day=per_day,
        start=_utc(start),
        now=_utc(now) or datetime.now(UTC),
        rate=rate,
        counting=counting.value,
        faults=faults,
        outage=outage.date() if outage else None,
        say=say,
    )


@app.command()
def demo(
    data: Annotated[
        Path, typer.Option("--data", help="Where the demo's archive goes; emptied first.")
    ] = Path("data/demo"),
    per_day: Annotated[float, typer.Option(help="Operations per day, on average.", min=1)] = 400,
    dagster: Annotated[bool, typer.Option(help="Run the last sync as the Dagster job.")] = True,
) -> None:
    """Play 30 days in fast time and compare with the truth.

    Needs no credentials and no network: an emulator serves the API on this machine.

    Example: email-archive demo && email-archive sql "FROM delivery_daily" --data data/demo
    """
    with optional_imports():
        from pipeline.cli.demo import play

    if not play(data, per_day=per_day, with_dagster=dagster):
        raise typer.Exit(FAILED)


def _prepare() -> None:
    """Before anything heavy is imported: modules that use Arrow make values of theirs then."""
    from pipeline import process

    process.prepare()


def _scope(everything: bool, since: datetime | None, until: datetime | None) -> Any:
    """What a sync is asked to scan."""
    from pipeline.sync import DUE, EVERYTHING, Range

    if since is None and until is None:
        return EVERYTHING if everything else DUE
    if everything or since is None:
        msg = "expected --all, or --since with or without --until"
        raise UsageError(msg)
    start = since.replace(tzinfo=UTC)
    end = _utc(until) or datetime.max.replace(tzinfo=UTC)
    _check_range(start, end)
    return Range(start, end)


def _check_range(start: datetime, end: datetime) -> None:
    if start >= end:
        msg = f"expected --since before --until; got {start.isoformat()} and {end.isoformat()}"
        raise UsageError(msg)


def _utc(moment: datetime | None) -> datetime | None:
    """A time of the command line, which is UTC."""
    return moment.replace(tzinfo=UTC) if moment else None


def _is_stdout(to: str) -> bool:
    """Whatever stdout is: one that leads to a file must not be replaced under what is written to it."""
    return to in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _data(data: Path | None) -> dict[str, Any]:
    return {} if data is None else {"data": data}


def _lake(data: Path | None) -> Any:
    from pipeline.lake.layout import Lake
    from pipeline.settings import ArchiveSettings

    return Lake.of(ArchiveSettings.load(**_data(data)))


def _complain(message: str) -> None:
    """Say on stderr what went wrong, in the format of the log."""
    if logs.is_json():
        log.error("%s", message)
    else:
        say(message, err=True)


def main() -> None:
    """The entry point of the command: expected errors become one message and an exit code."""
    signals = StopSignals(lambda name: _complain(f"stopped by {name}"))
    signals.install()
    try:
        app()
    except BaseException as error:
        signals.leave_if_stopped()
        if isinstance(error, SystemExit):
            raise
        sys.exit(_code_of(error))


def _code_of(error: BaseException) -> int:
    """Tell of an error, and say what the process ends with."""
    if isinstance(error, BrokenPipeError):
        # The reader of our output, `head` for one, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    is_brief = isinstance(error, ArchiveError | OSError) and not log.isEnabledFor(logging.DEBUG)
    message = explain(error) if isinstance(error, OSError) else str(error)
    if logs.is_json():
        log.error("%s", message, exc_info=None if is_brief else error)
    elif is_brief:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        say(message, err=True)
    else:
        say("".join(traceback.format_exception(error)).rstrip(), err=True)
    return WRONG_USE if isinstance(error, UsageError) else FAILED
