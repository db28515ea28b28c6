"""Parsing and validation of settings. A ValueError says what was expected."""

import ipaddress
import os
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

ACCOUNT_SID: Final = re.compile(r"AC[0-9a-f]{32}")
KEY_SID: Final = re.compile(r"SK[0-9a-f]{32}")
DEFAULT_REFRESH: Final = "1h:10m,6h:30m,24h:2h,3d:8h,7d:1d"
DEFAULT_FINAL_SCANS: Final = "12h,2h,30m"

_DURATION: Final = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_MODES: Final = {"0600": 0o600, "0640": 0o640, "0644": 0o644}
_NOT_IN_PATH: Final = ("?", "\\")
"""In a database's path, DuckDB takes ``?`` for the beginning of options and the backslash for a separator."""

_LONGEST_BELOW: Final = 256
"""The length of the longest path below the archive's folder, a landed file's, rounded up. In bytes."""


def parse_tiers(text: str) -> tuple[tuple[timedelta, timedelta], ...]:
    """Parse pairs of age and interval, like ``1h:10m,7d:1d``.

    Raises:
        ValueError: the text has another form.
    """
    pairs = [part.split(":") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):  # noqa: PLR2004 - a pair
        msg = "expected age:interval pairs, like 1h:10m,7d:1d"
        raise ValueError(msg)
    return tuple((_duration(age), _duration(every)) for age, every in pairs)


def parse_durations(text: str) -> tuple[timedelta, ...]:
    """Parse durations, like ``12h,2h,30m``.

    Raises:
        ValueError: the text has another form.
    """
    return tuple(_duration(part) for part in text.split(","))


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = f"expected a duration in minutes, hours or days like 10m, 2h, 7d; got {text[:20]!r}"
        raise ValueError(msg)
    return int(match[1]) * _UNITS[match[2]]


def parse_mode(text: str) -> int:
    """Parse the mode of the archive's files: 0600, 0640 or 0644.

    Raises:
        ValueError: the text is another mode.
    """
    mode = _MODES.get(text.rjust(4, "0"))
    if mode is None:
        msg = "expected 0600 (its owner reads it), 0640 (and its group) or 0644 (and everybody)"
        raise ValueError(msg)
    return mode


def usable_mode(text: str) -> str:
    """`text`, if it is a mode for `parse_mode`.

    Raises:
        ValueError: it is not.
    """
    parse_mode(text)
    return text


def expand_home(folder: Path) -> Path:
    """`folder`, with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        ValueError: there is no such home folder.
    """
    try:
        return folder.expanduser()
    except RuntimeError:
        msg = f"expected a folder; there is no home folder for {folder.parts[0]}"
        raise ValueError(msg) from None


def usable_folder(folder: Path) -> Path:
    """`folder`, if an archive can be in it.

    Raises:
        ValueError: it is no folder, or Arrow or DuckDB can't open files in it.
    """
    if file := _file_in_place_of(folder):
        msg = f"expected a folder; {file} is a file"
        raise ValueError(msg)
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


def _file_in_place_of(folder: Path) -> Path | None:
    """The file that is where the folder, or one above it, would be; None if there is none."""
    with suppress(OSError):  # a folder that refuses access is reported when it is used
        for one in (folder, *folder.parents):
            if one.exists():
                return None if one.is_dir() else one
    return None


def usable_url(value: str) -> str:
    """`value` without a trailing slash, if it is a URL that credentials may be sent to.

    Raises:
        ValueError: it is not a URL, or is http to another machine.
    """
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError as error:
        msg = f"expected a URL like https://comms.twilio.com/v1 ({error})"
        raise ValueError(msg) from None
    if url.scheme not in ("https", "http") or not host or port == 0:
        msg = "expected a URL like https://comms.twilio.com/v1"
        raise ValueError(msg)
    if url.username is not None or url.password is not None or url.query or url.fragment:
        msg = "expected a URL without user, password, query or fragment"
        raise ValueError(msg)
    if url.scheme == "http" and not _is_loopback(host):
        msg = (
            "expected https: http would send the credentials in the clear, "
            "and is only allowed to this machine"
        )
        raise ValueError(msg)
    return value.rstrip("/")


def usable_sid(value: str, pattern: re.Pattern[str]) -> str:
    """`value`, if it is a SID. The error does not quote it: it may be a secret in the wrong setting."""
    prefix = pattern.pattern[:2]
    if not pattern.fullmatch(value):
        start = (
            f"beginning with {prefix}"
            if value.startswith(prefix)
            else f"not beginning with {prefix}"
        )
        msg = (
            f"expected {prefix} and 32 lower-case hex digits; "
            f"got a text of {len(value)} characters {start}"
        )
        raise ValueError(msg)
    return value


def is_listed(address: SplitResult, no_proxy: str) -> bool:
    """Whether NO_PROXY lists a host, with or without its port, or its domain."""
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",")]
    hosts = (address.hostname or "", address.netloc.lower())
    return any(
        name == "*" or (name and (host == name or host.endswith(f".{name}")))
        for name in names
        for host in hosts
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
