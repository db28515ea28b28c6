"""Options, checks and messages that several commands share."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pipeline.cli import logs
from pipeline.errors import UsageError
from pipeline.terminal import say

log = logging.getLogger(__name__)

FAILED: Final = 1
WRONG_USE: Final = 2
TIMES = [f"%Y-%m-%d{time}" for time in ("", "T%H:%M", "T%H:%MZ", "T%H:%M:%S", "T%H:%M:%SZ")]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The archive's folder; overrides EMAIL_ARCHIVE_DATA.", show_default=False
    ),
]
AccountOption = Annotated[
    list[str] | None,
    typer.Option(
        "--account",
        help="Only this account, by name or SID; repeat it for several. By default all.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the figures as JSON.")]


def prepare() -> None:
    """Set up Arrow for this process; called before imports of modules that create Arrow values."""
    from pipeline import process

    process.prepare()


def check_range(start: datetime, end: datetime) -> None:
    """Raise UsageError for an empty or reversed range."""
    if start >= end:
        msg = f"expected --since before --until; got {start.isoformat()} and {end.isoformat()}"
        raise UsageError(msg)


def utc(moment: datetime | None) -> datetime | None:
    """A time from the command line as UTC."""
    return moment.replace(tzinfo=UTC) if moment else None


def data_setting(data: Path | None) -> dict[str, Any]:
    """``--data`` as an argument of the settings; empty if it is not given."""
    return {} if data is None else {"data": data}


def lake_at(data: Path | None) -> Any:
    """The archive in the folder of ``--data`` or of the settings."""
    from pipeline.lake.layout import Lake
    from pipeline.settings import ArchiveSettings

    return Lake.of(ArchiveSettings.load(**data_setting(data)))


def complain(message: str) -> None:
    """Print an error on stderr, in the format of the log."""
    if logs.is_json():
        log.error("%s", message)
    else:
        say(message, err=True)


def is_stdout(to: str) -> bool:
    """Whether a path is stdout: if that is redirected to a file, the file must not be replaced."""
    return to in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
