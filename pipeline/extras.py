"""Optional dependencies and the extras that install them, for errors that name the extra."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.errors import UsageError

_EXTRAS: Final = {
    "altair": "report",
    "jinja2": "report",
    "vl_convert": "report",
    "starlette": "emulator",
    "uvicorn": "emulator",
}
"""Top-level modules, each with the extra of pyproject.toml that installs it."""


class MissingExtraError(UsageError):
    """A command needs an extra that is not installed; the message says how to install it."""


@contextmanager
def optional_imports() -> Iterator[None]:
    """Raise an error that names the extra if an import in the block misses an optional dependency.

    Raises:
        MissingExtraError: a module of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        extra = _EXTRAS[module]
        msg = (
            f"this needs the extra `{extra}` ({module} is not installed): "
            f"pip install 'twilio-email-archive[{extra}]'"
        )
        raise MissingExtraError(msg) from error
