"""Why a file of the archive can't be read: a refusal or failure of the system, or damage.

A file that can't be read may be whole, so nobody is told to move it away. What is damaged stays so.
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
    """The system refuses or fails to read or write a file, which may be whole."""


class DamagedError(LakeError):
    """A file is damaged, or is not one of this archive."""


def of_file(
    path: Path, error: Exception, *, advice: str = "move it away and run again"
) -> LakeError:
    """The error of reading one file, by what Python or Arrow raised.

    Args:
        path: the file.
        error: what was raised: an OSError of the system has a number, one of Arrow's decoders has none.
        advice: what to do about a damaged file.
    """
    if os.path.isdir(path):  # noqa: PTH112 - Path's raises where a folder above it refuses
        error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableError(_cannot("read", error, path))
    return DamagedError(f"{path} is damaged or not a file of this archive; {advice}. ({error})")


@contextmanager
def refusals() -> Iterator[None]:
    """Make a refusal of the system an error of the lake: it is one day's, and stops no other day's work."""
    try:
        yield
    except PermissionError as error:
        raise UnreadableError(_cannot("use", error)) from error


def of_query(error: duckdb.Error) -> UnreadableError | None:
    """The error of a query that met the system's refusal or failure; None for any other.

    DuckDB puts the system's words behind the file's name: ``Cannot open file "x": Permission denied``.
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
