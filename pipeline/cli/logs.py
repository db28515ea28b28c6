"""Logging of the command: lines for people, or one JSON object per line for machines.

The library's log records have fields besides the message: account, day, window, counts, seconds, and the
server's request ids. The JSON includes them. No field and no message contains a credential (R11).
"""

import logging
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pipeline.terminal import message

_CHATTY = ("filelock",)
"""Libraries that log every lock; the events of this package are enough."""


_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class LogFormat(StrEnum):
    """How log lines are written."""

    text = "text"
    json = "json"


def set_up(log_format: LogFormat, *, debug: bool) -> None:
    """Log to stderr: warnings in text, events too in JSON, and every request with `debug`."""
    handler = logging.StreamHandler(sys.stderr)
    level = logging.DEBUG if debug else logging.WARNING
    if log_format is LogFormat.json:
        handler.setFormatter(_json_formatter())
        level = logging.DEBUG if debug else logging.INFO
    elif debug:
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(name)s %(message)s"))
    else:
        handler.setFormatter(_Text("%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if not debug:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def stamp() -> None:
    """Begin each line with its time (UTC) if stderr is no terminal, as in the log of a cron job."""
    for handler in logging.getLogger().handlers:
        if type(handler.formatter) is _Text and not sys.stderr.isatty():
            handler.setFormatter(_Stamped())


def name_accounts(names: Mapping[str, str]) -> None:
    """Begin the lines about an account with its name, by these names of SIDs."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Text):
            handler.formatter.names = names


def is_stamped() -> bool:
    """Whether each line begins with its time."""
    return any(isinstance(one.formatter, _Stamped) for one in logging.getLogger().handlers)


def now() -> str:
    """The time by this machine's clock, as lines begin with it."""
    return time.strftime(_TIME, time.gmtime())


def is_json() -> bool:
    """Whether the log is written as JSON."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    return any(type(one).__name__ == "JsonFormatter" for one in formatters)


class _Text(logging.Formatter):
    names: Mapping[str, str] = MappingProxyType({})

    def format(self, record: logging.LogRecord) -> str:
        return message(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a method of logging's
        name = self.names.get(getattr(record, "account_id", ""))
        record.message = f"{name}: {record.message}" if name else record.message
        return super().formatMessage(record)


class _Stamped(_Text):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(level)s%(message)s", _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a method of logging's
        record.level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        return super().formatMessage(record)


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ("levelname", "name", "message"),
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
