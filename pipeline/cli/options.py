"""Options, checks and messages that several commands share."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli import logs
from pipeline.errors import UsageError
from pipeline.model.times import iso
from pipeline.terminal import say

if TYPE_CHECKING:
    from pipeline.settings import Settings

log = logging.getLogger(__name__)

FAILED: Final = 1
WRONG_USE: Final = 2
_CHECK_SECONDS: Final = 10.0


def moment(text: str) -> datetime:
    """A DATE of the command line: UTC, unless it has an offset."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"expected a day, as 2026-09-01, or a time, as 2026-09-01T14:30 (UTC); got {text!r}"
        raise typer.BadParameter(msg) from None


def date_option(about: str) -> Any:
    """An option that takes a DATE."""
    return typer.Option(help=about, parser=moment, metavar="DATE", show_default=False)


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The archive's folder; overrides EMAIL_ARCHIVE_DATA.",
        metavar="FOLDER",
        show_default=False,
    ),
]
AccountOption = Annotated[
    list[str] | None,
    typer.Option(
        "--account",
        help="Only this account, by name or SID; repeat it for several. By default all.",
        metavar="NAME",
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
        msg = f"expected --since before --until; got {iso(start)} and {iso(end)}"
        raise UsageError(msg)


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
    if logs.is_json() or logs.is_stamped():
        log.error("%s", message)
    else:
        say(message, err=True)


def is_stdout(to: str) -> bool:
    """Whether a path is stdout: if that is redirected to a file, the file must not be replaced."""
    return to in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def request_once(settings: "Settings") -> None:
    """Make one request, to see that the credentials and the address work. It is tried once.

    Raises:
        ApiError: it does not work.
    """
    from pipeline.twilio.client import OperationsClient

    short = {
        name: min(_CHECK_SECONDS, getattr(settings, name))
        for name in ("connect_timeout", "read_timeout", "response_timeout")
    }
    with OperationsClient(settings.model_copy(update={"retry_attempts": 1, **short})) as client:
        client.clock()
