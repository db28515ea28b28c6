"""The target of an export or a report: a file, replaced atomically, or a stream."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from pipeline.errors import UsageError
from pipeline.lake.files import Files

_MAX_PREFIX: Final = 40
"""Characters of the file's name in that of its temporary file, since a name has at most 255 bytes."""


@contextmanager
def opened(sink: IO[bytes] | Path, files: Files | None = None) -> Iterator[IO[bytes]]:
    """A stream to write to. A file is created or replaced when the block ends without an exception.

    Args:
        sink: an open binary stream, or a path. A symbolic link's target is replaced; a pipe or device is
            written to. If two processes write to one file, the last to finish wins.
        files: writes the file; to the local disk by default.

    Raises:
        UsageError: the path is a folder, or its folder does not exist.
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
    name = f".{target.name[:_MAX_PREFIX]}.{secrets.token_hex(4)}.tmp"
    with (files or Files()).replacing(target, target.with_name(name)) as file:
        yield file


def is_stream(path: Path) -> bool:
    """Whether the path is a pipe, a terminal or a device."""
    return path.exists() and not (path.is_file() or path.is_dir())
