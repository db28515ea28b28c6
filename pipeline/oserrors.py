"""Messages for errors of the operating system about files: which file, what is wrong, and what to do."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

_HINTS: Final = {
    errno.EIO: "The disk or its file system fails: see the system's log",
    errno.ESTALE: "The network file system has lost it: try again, or mount it again",
    errno.ENOENT: "It was removed by another process: try again",
    errno.EISDIR: "It is a folder and should be a file: move it away",
    errno.ENOTDIR: "A file is where one of its folders should be: move that file away",
    errno.ENOSPC: "Make room",
    errno.EDQUOT: "Make room, or raise the quota",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "The machine has too many files open: try again",
    errno.EROFS: "The file system is mounted read-only",
}
REFUSALS: Final = (errno.EACCES, errno.EPERM)

KNOWN: Final = (*REFUSALS, *_HINTS, errno.EFBIG, errno.ENAMETOOLONG)
"""The error numbers about files. DuckDB's messages are searched for their texts."""


def explain(error: OSError, path: Path | None = None) -> str:
    """A message that names the file and the error, and says what to do or who owns the file.

    Args:
        error: the error.
        path: the file, if the error does not name it.
    """
    if error.errno is None:
        return str(error)
    if path is None and isinstance(error.filename, str | bytes):
        path = Path(os.fsdecode(error.filename))
    reason = os.strerror(error.errno)
    hint = _HINTS.get(error.errno)
    if path is None:
        return str(error)
    if error.errno in REFUSALS:
        hint = _owner_of(path)
    return f"{path}: {reason}. {hint}" if hint else f"{path}: {reason}"


def _owner_of(path: Path) -> str | None:
    """The owner and mode of the file, or of the folder above it, that refuses access; None if none does."""
    for one in (path, *path.parents):
        try:
            found = one.stat()
        except OSError:
            continue  # it does not exist, or a folder above it refuses access
        wanted = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0)
        if os.access(one, wanted):
            continue
        what = "It" if one == path else str(one)
        owner, user = _name(found.st_uid), _name(os.geteuid())
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        if owner == user:
            return f"{what} has the mode {mode}"
        return f"{what} belongs to {owner} and has the mode {mode}, and this runs as {user}"
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
