"""What the operating system refuses, as a sentence that says why and what to do."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

_HINTS: Final = {
    errno.EIO: "The disk or its file system fails: see the system's log",
    errno.ESTALE: "The network file system no longer knows it: try again, or mount it again",
    errno.ENOENT: "Something removed it meanwhile: try again",
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
"""The error numbers of files: what a message of another program is searched for."""


def explain(error: OSError, path: Path | None = None) -> str:
    """One sentence or two: the file, what happened, and what to do; for a refusal, whose the file is.

    Args:
        error: what was raised.
        path: the file, where the error does not name it.
    """
    if error.errno is None:
        return str(error)
    if path is None and isinstance(error.filename, str | bytes):
        path = Path(os.fsdecode(error.filename))
    said = os.strerror(error.errno)
    hint = _HINTS.get(error.errno)
    if path is None:
        return str(error)
    if error.errno in REFUSALS:
        hint = _whose(path)
    return f"{path}: {said}. {hint}" if hint else f"{path}: {said}"


def _whose(path: Path) -> str | None:
    """Whose the file or folder is that this process may not use; None if there is none."""
    for one in (path, *path.parents):
        try:
            found = one.stat()
        except OSError:
            continue  # the folder above it refuses, or it does not exist
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
