"""Logging of the command: lines for people, or one JSON object per line for machines.

The library's log records have fields besides the message: account, day, window, counts, seconds, and the
server's request ids. The JSON includes them. No field and no message contains a credential (R11).
"""

import logging
import sys
from enum import StrEnum

from pipeline.terminal import message

_CHATTY = ("filelock",)
"""Libraries that log every lock; the events of this package are enough."""


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


def is_json() -> bool:
    """Whether the log is written as JSON."""
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    return any(type(one).__name__ == "JsonFormatter" for one in formatters)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return message(super().format(record))


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ("levelname", "name", "message"),
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
