"""The command `email-archive`: a thin layer over the library.

Heavy modules are imported when a command runs, so that ``--help`` is fast. Exit codes: 0 success, 1 failure,
2 wrong usage, 130 and 143 stopped by Ctrl-C and SIGTERM. An expected error is printed as one message;
``--debug`` adds its traceback.
"""

import logging
import os
import sys
import traceback
from typing import Annotated

import typer

from pipeline.cli import accounts, archive, config, emulator, logs, reading, sql, sync
from pipeline.cli.logs import LogFormat
from pipeline.cli.options import FAILED, WRONG_USE
from pipeline.errors import ArchiveError, UsageError
from pipeline.interruption import StopSignals
from pipeline.oserrors import explain
from pipeline.terminal import say

log = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,
)


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
            metavar="FORMAT",
            help="Format of stderr, text or json; json is one object per line, progress included.",
        ),
    ] = LogFormat.text,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Archive Twilio email operations: the API deletes them after 7 days.

    Settings come from the environment or a .env file: email-archive init writes one.

    Example: email-archive sync && email-archive sql "SELECT * FROM delivery_daily"
    """
    logs.set_up(log_format, debug=debug)


_COMMANDS = (
    config.init,
    sync.sync,
    sql.sql,
    reading.export,
    reading.report,
    archive.publish,
    archive.status,
    sync.verify,
    archive.repair,
    emulator.emulate,
    emulator.demo,
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(accounts.app, name="accounts")
app.add_typer(config.app, name="config")


def main() -> None:
    """The entry point of the command: expected errors become one message and an exit code."""
    signals = StopSignals(_say_stopped)
    signals.install()
    try:
        app()
    except BaseException as error:
        signals.leave_if_stopped()
        if isinstance(error, SystemExit):
            raise
        sys.exit(_code_of(error))


def _say_stopped(name: str) -> None:
    message = f"stopped by {name}"
    if logs.is_json():
        log.error(message)
    else:  # not through the log: the signal may have come while its lock was held
        say(f"{logs.now()} {message}" if logs.is_stamped() else message, err=True)


def _code_of(error: BaseException) -> int:
    """Print an error; return its exit code."""
    if isinstance(error, BrokenPipeError):
        # The reader of stdout, such as `head`, has closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    is_brief = isinstance(error, ArchiveError | OSError) and not log.isEnabledFor(logging.DEBUG)
    message = explain(error) if isinstance(error, OSError) else str(error)
    if logs.is_json() or logs.is_stamped():
        log.error("%s", message, exc_info=None if is_brief else error)
    elif is_brief:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        say(message, err=True)
    else:
        say("".join(traceback.format_exception(error)).rstrip(), err=True)
    return WRONG_USE if isinstance(error, UsageError) else FAILED
