"""Converts a record's JSON to a row, and a row back to JSON (R8).

The column `extra` is a JSON object of what the other columns can't hold: unknown fields, unknown stats,
counts that are explicitly null, and times finer than a microsecond. Converted back, a time is the same
instant in UTC, a number has all its digits, and -0 is 0.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pipeline.model.schema import COUNT_NAMES
from pipeline.model.times import iso

KNOWN_FIELDS: Final = frozenset({"id", "status", "stats", "createdAt", "updatedAt"})
MAX_COUNT: Final = 2**63 - 1

_KNOWN_COUNTS: Final = frozenset(COUNT_NAMES)
_MAX_LEVELS: Final = 64
"""Records that nest deeper are rejected: converting them back would exceed Python's recursion limit."""
_TOO_DEEP: Final = f"expected a record of {_MAX_LEVELS} levels at most; got more"
_SHOWN: Final = 80
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.(\d+))?(?:[Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)
_MICROSECOND_DIGITS: Final = 6


class BadRecordError(Exception):
    """A record is rejected; the message says what was expected and what came."""


def row_of(text: str) -> dict[str, Any]:
    """Convert a record to a row of `schema.RECORD_SCHEMA`.

    Args:
        text: the record's JSON; bytes that are not UTF-8 are surrogates, as from Python's
            `surrogateescape`.

    Raises:
        BadRecordError: the record does not match the reference, or can't be stored without loss.
    """
    record = _load(text)
    if not isinstance(record, dict):
        msg = f"expected an object; got {_shown(record)}"
        raise BadRecordError(msg)
    stats = record.get("stats")
    if not isinstance(stats, dict):
        msg = f"expected an object in stats; got {_field(record, 'stats')}"
        raise BadRecordError(msg)
    extra = {name: value for name, value in record.items() if name not in KNOWN_FIELDS}
    extra_stats = {
        name: value for name, value in stats.items() if name not in _KNOWN_COUNTS or value is None
    }
    if extra_stats:
        extra["stats"] = extra_stats
    row: dict[str, Any] = {
        "operation_id": text_in(record, "id"),
        "status": text_in(record, "status"),
    }
    row.update((name, _count(stats, name)) for name in COUNT_NAMES)
    for column, name in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
        row[column], is_exact = time_in(record, name)
        if not is_exact:
            extra[name] = record[name]
    row["extra"] = _to_json(extra, sort=True) if extra else None
    return row


def record_json(row: Mapping[str, Any]) -> str:
    """Convert a row of operations or history back to its JSON record (R8).

    Args:
        row: values by column name, as from ``table.to_pylist()``; times with a time zone.

    Returns:
        One JSON object. Absent counts are absent; unknown fields and explicit nulls are included. Times
        are the same instants, in UTC with ``Z``. Fields are in the reference's order, followed by those of
        `extra` sorted by name.
    """
    record: dict[str, Any] = {
        "id": row["operation_id"],
        "status": row["status"],
        "stats": {name: row[name] for name in COUNT_NAMES if row[name] is not None},
        "createdAt": iso(row["created_at"]),
        "updatedAt": iso(row["updated_at"]),
    }
    if row["extra"] is not None:
        extra = json.loads(row["extra"], parse_float=Decimal)
        record["stats"].update(extra.pop("stats", {}))
        record.update(extra)
    return _to_json(record)


def unknown_names(extra: str) -> list[str]:
    """The unknown fields in a row's `extra`; those of stats begin with ``stats.``."""
    fields = json.loads(extra, parse_float=str)
    stats = fields.get("stats", {})
    return [
        *(name for name in fields if name not in KNOWN_FIELDS),
        *(f"stats.{name}" for name in stats if name not in _KNOWN_COUNTS),
    ]


def text_in(record: Mapping[str, Any], name: str) -> str:
    """A required text of a record.

    Raises:
        BadRecordError: it is absent, empty, not a string, or not valid Unicode.
    """
    value = record.get(name)
    if not isinstance(value, str) or not value:
        msg = f"expected a text in {name}; got {_field(record, name)}"
        raise BadRecordError(msg)
    if not is_unicode(value):
        msg = f"expected Unicode text in {name}; got half of a surrogate pair"
        raise BadRecordError(msg)
    return value


def time_in(record: Mapping[str, Any], name: str) -> tuple[datetime, bool]:
    """A required time of a record in UTC, and whether it is exact to the microsecond.

    As in RFC 3339, an offset is required, and fractions of any length are allowed.

    Raises:
        BadRecordError: it is absent, or not an RFC 3339 date-time.
    """
    text = text_in(record, name)
    match = _RFC3339.fullmatch(text)
    if match is None:
        msg = f"expected an RFC 3339 date-time in {name}; got {_shown(text)}"
        raise BadRecordError(msg)
    try:
        instant = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"expected an existing time in {name}; got {_shown(text)}"
        raise BadRecordError(msg) from None
    return instant, len((match[1] or "").rstrip("0")) <= _MICROSECOND_DIGITS


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shortened(text: str, length: int) -> str:
    """A text, cut to at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _load(text: str) -> Any:
    if not is_unicode(text):
        msg = "expected UTF-8; got other bytes"
        raise BadRecordError(msg)
    try:
        record = json.loads(
            text,
            object_pairs_hook=_unique_fields,
            parse_float=_decimal,
            parse_constant=_refuse_constant,
        )
    except ValueError as error:  # also for an integer with more digits than Python allows
        msg = f"expected a JSON record; got {error}"
        raise BadRecordError(msg) from None
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    if _levels(record) > _MAX_LEVELS:
        raise BadRecordError(_TOO_DEEP)
    return record


def _count(stats: Mapping[str, Any], name: str) -> int | None:
    """A count; None if it is absent or null (a null is kept in `extra`)."""
    value = stats.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        msg = f"expected a whole number of 0 or more in stats.{name}; got {_shown(value)}"
        raise BadRecordError(msg)
    return value


def _levels(value: Any) -> int:
    """The number of nested levels of objects and lists, computed without recursion."""
    levels, here = 0, [value]
    while here := [one for one in here if isinstance(one, dict | list)]:
        levels += 1
        here = [inner for one in here for inner in (one.values() if isinstance(one, dict) else one)]
    return levels


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(name for name, times in Counter(n for n, _ in pairs).items() if times > 1)
        msg = f"expected each field once; got {twice!r} again"
        raise BadRecordError(msg)
    return fields


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        msg = f"expected a number that can be stored; got {shortened(text, _SHOWN)}"
        raise BadRecordError(msg)
    return number


def _refuse_constant(name: str) -> None:
    msg = f"expected a JSON number; got {name}"
    raise BadRecordError(msg)


def _field(record: Mapping[str, Any], name: str) -> str:
    return _shown(record[name]) if name in record else "none"


def _shown(value: Any) -> str:
    return shortened(_to_json(value), _SHOWN)


def _to_json(value: Any, *, sort: bool = False) -> str:
    """Compact JSON with all digits of a Decimal, which `json` can't write.

    With `sort`, equal values give equal texts, so that states can be compared.
    """
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        inner = ",".join(f"{_to_json(name)}:{_to_json(item, sort=sort)}" for name, item in items)
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{','.join(_to_json(item, sort=sort) for item in value)}]"
    if isinstance(value, Decimal):
        return str(value)
    # A lone surrogate can only be stored as an escape; other text stays readable.
    text = json.dumps(value, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(value)
