"""One record: its JSON to a row, and a row back to its JSON (R8).

What a record holds beyond the columns goes to `extra`, a JSON object laid over the record made of the
columns: unknown fields, unknown stats, counts that are explicitly null, times finer than a microsecond.
Times come back as the same instant in UTC, numbers with all their digits, and -0 as 0.
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
"""Records that nest deeper are rejected: writing them back takes more recursion than Python allows."""
_TOO_DEEP: Final = f"expected a record of {_MAX_LEVELS} levels at most; got more"
_SHOWN: Final = 80
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.(\d+))?(?:[Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)
_MICROSECOND_DIGITS: Final = 6


class BadRecordError(Exception):
    """Why a record is rejected: what was expected and what came."""


def row_of(text: str) -> dict[str, Any]:
    """The row of `schema.RECORD_SCHEMA` that holds a record.

    Args:
        text: the record's JSON; bytes that were not UTF-8 are halves of surrogate pairs, as
            Python's `surrogateescape` has them.

    Raises:
        BadRecordError: it is not what the reference describes, or could not be kept without loss.
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
    """Write a row of operations or history back as the JSON record that it was read from (R8).

    Args:
        row: column name to Python value, as of ``table.to_pylist()``; times with a time zone.

    Returns:
        One JSON object. Absent counts are absent, unknown fields and explicit nulls are there; times
        are the same instants, in UTC with ``Z``. Fields come in the reference's order, those of
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
    """The fields in a row's `extra` that the reference does not know, ``stats.`` before stats."""
    fields = json.loads(extra, parse_float=str)
    stats = fields.get("stats", {})
    return [
        *(name for name in fields if name not in KNOWN_FIELDS),
        *(f"stats.{name}" for name in stats if name not in _KNOWN_COUNTS),
    ]


def text_in(record: Mapping[str, Any], name: str) -> str:
    """A required text of a record.

    Raises:
        BadRecordError: it is absent, empty, no text, or no Unicode.
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
    """A required time of a record in UTC, and whether microseconds hold it exactly.

    Offsets and fractions of any length are allowed, as in RFC 3339. A time without an offset is not
    an instant.

    Raises:
        BadRecordError: it is absent, or no RFC 3339 date-time.
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
    """Whether a text can be stored: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shortened(text: str, length: int) -> str:
    """A text, cut where it is longer."""
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
    except ValueError as error:  # an integer of more digits than Python reads
        msg = f"expected a JSON record; got {error}"
        raise BadRecordError(msg) from None
    except RecursionError:
        raise BadRecordError(_TOO_DEEP) from None
    if _levels(record) > _MAX_LEVELS:
        raise BadRecordError(_TOO_DEEP)
    return record


def _count(stats: Mapping[str, Any], name: str) -> int | None:
    """A count; None where it is absent or explicitly null (the latter stays in `extra`)."""
    value = stats.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        msg = f"expected a whole number of 0 or more in stats.{name}; got {_shown(value)}"
        raise BadRecordError(msg)
    return value


def _levels(value: Any) -> int:
    """How many levels of objects and lists a value has, without recursion."""
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
        msg = f"expected a number that can be kept; got {shortened(text, _SHOWN)}"
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
    """Compact JSON that writes a Decimal digit by digit, which `json` cannot.

    With `sort`, the same content is always the same text, so that states can be compared.
    """
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        inner = ",".join(f"{_to_json(name)}:{_to_json(item, sort=sort)}" for name, item in items)
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{','.join(_to_json(item, sort=sort) for item in value)}]"
    if isinstance(value, Decimal):
        return str(value)
    # Half of a surrogate pair can only be stored as its escape; other text stays readable.
    text = json.dumps(value, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(value)
