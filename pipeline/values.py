"""What the texts of settings mean; a ValueError says what was expected."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

_DURATION: Final = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MODES: Final = {"0600": 0o600, "0640": 0o640, "0644": 0o644}
_NOT_IN_PATH: Final = ("?", "\\")
"""DuckDB takes the first for the begin of a database's options, and the second for a separator."""

_LONGEST_BELOW: Final = 256
"""Bytes of the longest path below the archive's folder, rounded up: that of a landed file."""


def parse_tiers(text: str) -> list[tuple[timedelta, timedelta]]:
    """Ages and intervals out of a text like ``1h:10m,7d:1d``.

    Raises:
        ValueError: it is no such text.
    """
    pairs = [part.split(":") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - a pair
        msg = "expected age:interval pairs, like 1h:10m,7d:1d"
        raise ValueError(msg)
    return [(_duration(age), _duration(every)) for age, every in pairs]


def parse_durations(text: str) -> list[timedelta]:
    """Durations out of a text like ``12h,2h,30m``.

    Raises:
        ValueError: it is no such text.
    """
    return [_duration(part) for part in text.split(",")]


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = f"expected a duration in minutes, hours or days like 10m, 2h, 7d; got {text[:20]!r}"
        raise ValueError(msg)
    return int(match[1]) * _UNITS[match[2]]


def parse_mode(text: str) -> int:
    """A mode of files that their owner may write, out of a text like ``0640``.

    Raises:
        ValueError: it is no such text.
    """
    mode = _MODES.get(text.rjust(4, "0"))
    if mode is None:
        msg = "expected 0600 (its owner reads it), 0640 (and its group) or 0644 (and everybody)"
        raise ValueError(msg)
    return mode


def usable_folder(folder: Path) -> Path:
    """`folder`, if an archive can lie there.

    Raises:
        ValueError: Arrow or DuckDB can't open files in it.
    """
    path = os.fsencode(folder.absolute())
    longest = os.pathconf("/", "PC_PATH_MAX") - _LONGEST_BELOW
    if len(path) > longest:
        msg = f"expected a path of at most {longest} bytes; got one of {len(path)}"
        raise ValueError(msg)
    try:
        text = path.decode()
    except UnicodeDecodeError:
        msg = "expected a path in UTF-8: Arrow and DuckDB can't open another"
        raise ValueError(msg) from None
    if found := [character for character in _NOT_IN_PATH if character in text]:
        msg = f"expected a path without {found[0]}: DuckDB can't open a database in it"
        raise ValueError(msg)
    return folder
