"""Errors of the archive's files: unreadable ones, and damaged ones.

An unreadable file (permissions, an I/O error) may be intact, so its message does not advise to move it away.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from pipeline.lake.layout import LakeError
from pipeline.oserrors import KNOWN, REFUSALS, explain

_ADVICE: Final = (
    ". One user has to run all syncs: give the archive back to them (chown -R). Others may read it if "
    "EMAIL_ARCHIVE_FILE_MODE says so"
)
_QUOTED: Final = re.compile(r'"(.+?)": ', re.DOTALL)


class UnreadableError(LakeError):
    """The operating system refused or failed to read or write a file, which may be intact."""


class DamagedError(LakeError):
    """A file is damaged, or is not a file of this archive."""


def of_file(
    path: Path, error: Exception, *, advice: str = "move it away and run again"
) -> LakeError:
    """The `LakeError` for an exception of Python or Arrow that was raised while a file was read.

    Args:
        path: the file.
        error: the exception. An OSError of the operating system has an errno, one of Arrow's decoders not.
        advice: what to do about a damaged file.
    """
    if os.path.isdir(path):  # noqa: PTH112 - Path's raises where a folder above it refuses
        error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableError(_cannot("read", error, path))
    return DamagedError(f"{path} is damaged or not a file of this archive; {advice}. ({error})")


@contextmanager
def refusals() -> Iterator[None]:
    """Raise a PermissionError as a LakeError, so that it fails one day and not the run."""
    try:
        yield
    except PermissionError as error:
        raise UnreadableError(_cannot("use", error)) from error


def of_query(error: duckdb.Error) -> UnreadableError | None:
    """The error for a query that failed on an operating system error; None for any other error.

    DuckDB's messages end with the system's: ``Cannot open file "x": Permission denied``.
    """
    text = str(error)
    for number in KNOWN:
        said = os.strerror(number)
        if f'": {said}' in text:
            found = _QUOTED.search(text)
            verb = "write" if "write" in text.partition('"')[0].lower() else "read"
            path = Path(found[1]) if found else None
            return UnreadableError(_cannot(verb, OSError(number, said), path))
    return None


def _cannot(verb: str, error: OSError, path: Path | None = None) -> str:
    advice = _ADVICE if error.errno in REFUSALS else ""
    return f"can't {verb} {explain(error, path)}{advice}"
