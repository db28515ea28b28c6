"""Work done by another user, so that the system refuses what it would refuse them. Needs to be root."""

import os
import pickle
import pwd
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

NOBODY = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
_T = TypeVar("_T")


def as_nobody(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises in a process of the user nobody; it must be picklable."""
    user = pwd.getpwnam(NOBODY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            answer: object = work()
        except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
            error.add_note(traceback.format_exc())
            answer = error
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pickle.load(pipe)  # noqa: S301 - our own bytes
    os.waitpid(child, 0)
    if isinstance(told, BaseException):
        raise told
    return told


def give_to_nobody(folder: Path) -> None:
    """Make everything in a folder nobody's, and let them reach it."""
    user = pwd.getpwnam(NOBODY)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    reachable(folder)


def reachable(folder: Path) -> None:
    """Let everybody reach a folder."""
    for above in folder.parents:
        if above.owner() == "root" and above.stat().st_mode & 0o001 == 0:
            above.chmod(0o711)


def take_from_nobody(*paths: Path) -> None:
    """Make files and folders root's again."""
    for path in paths:
        os.chown(path, 0, 0)
