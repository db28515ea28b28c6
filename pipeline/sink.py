"""Where what was asked for goes: a file that somebody named, or a stream.

A file appears under its name when it is whole, or not at all. What is there and is no regular file, as a
pipe or a device, is written to and never replaced.
"""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pipeline.errors import UsageError
from pipeline.lake.files import Files

_MOST_OF_NAME: Final = 40
"""So much of a file's name is in that of its temporary file: a name may have 255 bytes in all."""


@contextmanager
def opened(sink: IO[bytes] | Path, files: Files | None = None) -> Iterator[IO[bytes]]:
    """Write to a stream, or to a file that is made or replaced when the block ends without an exception.

    Args:
        sink: an open binary stream, or a path; of a symbolic link, what it leads to. Of two that write to
            one file, the one that ends last stays.
        files: what writes the file; that of a local disk by default.

    Raises:
        UsageError: the path is a folder's, or its folder does not exist.
    """
    if not isinstance(sink, Path):
        yield sink
        return
    if is_stream(sink):
        with sink.open("wb") as stream:
            yield stream
        return
    target = sink.resolve()
    if not target.parent.is_dir() or target.is_dir():
        msg = f"expected a file in a folder that exists, got {sink}"
        raise UsageError(msg)
    files = files or Files()
    ours = f".{target.name[:_MOST_OF_NAME]}.{socket.gethostname()}"
    for left in _left_behind(target.parent, ours):
        files.discard(left)
    temporary = target.with_name(f"{ours}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    with files.replacing(target, temporary) as file:
        yield file


def is_stream(path: Path) -> bool:
    """Whether there is something that takes bytes and is no file: a pipe, a terminal, a device."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _left_behind(folder: Path, ours: str) -> list[Path]:
    """The temporary files of this machine's processes that were killed while they wrote one."""
    named = [path for path in folder.iterdir() if path.name.startswith(f"{ours}.")]
    return [path for path in named if path.suffix == ".tmp" and not _lives(path)]


def _lives(temporary: Path) -> bool:
    """Whether the process that writes a temporary file is there; one that can't be told is."""
    process = temporary.name.split(".")[-3]
    if not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
