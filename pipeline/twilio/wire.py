"""Bytes of a page to Arrow, and a row back to the JSON record (R8).

A page goes through msgspec, which knows what the reference says of it and refuses whatever does not fit:
of the ways that were measured it takes the least processor time, half of `pyarrow.json`'s. A page that it
refuses, or of which it would drop something without complaint, goes record by record. So one bad record
costs one reject and never a page, and nothing that is not understood becomes an empty result (R9).

What a record holds beyond the columns goes to `extra`, a JSON object that lies over the record made
of the columns: unknown fields, unknown stats, counts that are explicitly null, times finer than a
microsecond. Writing a row back lays it over again, so that nothing is lost. Times come back as the
same instant, written in UTC; numbers with all their digits, and -0 as 0.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.schema import (
    COUNT_NAMES,
    OPERATION_ID_LENGTHS,
    OPERATION_ID_LETTERS,
    OPERATION_ID_PREFIX,
    OPERATION_ID_START,
    RECORD_SCHEMA,
    STATUSES,
)
from pipeline.twilio import page
from pipeline.twilio.errors import UnexpectedAnswerError
from pipeline.twilio.jsontext import Raw, excerpt, is_unicode, printable, shortened
from pipeline.twilio.page import KNOWN_FIELDS, MAX_COUNT

_RECORDS_KEYS: Final = ("operations", "data")
"""Where a page keeps its records; a sibling resource's guide shows `data`."""

_ERRORS_KEYS: Final = ("errors", "data")
_CODE_KEYS: Final = ("code", "errorCode", "error_code")
_MESSAGE_KEYS: Final = ("message", "errorMessage", "error_message", "description", "detail")
"""Where an error may keep its code and message: as the API's own envelope, and as others do."""

_KNOWN_COUNTS: Final = frozenset(COUNT_NAMES)
_MAX_NESTING: Final = 64
"""Deeper records are rejected: to write them back would need more recursion than Python allows."""
_NULL_VALUE: Final = Raw("null", "null")
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):([0-5]\d))",
    re.ASCII,
)
_MICROSECOND_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Reject:
    r"""One record that could not be read.

    Attributes:
        reason: what was expected and what came.
        raw: the record as the API sent it; bytes that are no UTF-8 are written ``\xNN``.
        operation_id: its id, where that could be read.
        created_at: its creation in UTC, where that could be read.
    """

    reason: str
    raw: str
    operation_id: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """What one answer holds.

    Attributes:
        operations: the records that could be read, as `schema.RECORD_SCHEMA`, in the page's order.
        rejects: those that could not.
        next_token: the token of the next page; None at the end of the listing.
        records: how many records came: ``operations.num_rows + len(rejects)``.
    """

    operations: pa.Table
    rejects: tuple[Reject, ...]
    next_token: str | None
    records: int


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One error of an operation; the reference does not say what it looks like.

    Attributes:
        code: its code as text, where one could be found.
        message: its message, where one could be found.
        raw: the error as the API sent it.
    """

    code: str | None
    message: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class ParsedErrors:
    """What an answer about an operation's errors holds.

    Attributes:
        errors: the errors, in the answer's order.
        next_token: the token of the next page; None at the end.
    """

    errors: tuple[ErrorRecord, ...]
    next_token: str | None


class _BadRecordError(Exception):
    """Why a record is rejected."""


def parse_page(body: bytes) -> ParsedPage:
    """Parse the answer of a list request.

    Raises:
        DamagedAnswerError: it is not JSON: cut off, HTML of a proxy, empty.
        UnexpectedAnswerError: it is JSON, but not a page: neither ``operations`` nor ``data``.
    """
    return _parse_page_at_once(body) or _parse_page_by_record(body)


def parse_operation(body: bytes) -> ParsedPage:
    """Parse the answer of a request for one operation: a page of one record.

    Raises:
        DamagedAnswerError: it is not JSON.
        UnexpectedAnswerError: it is JSON, but not an object with an ``id``.
    """
    answer = Raw.read(body)
    if not answer.is_object or "id" not in _members_of(answer, body):
        msg = f"expected an operation: a JSON object with an id; got {excerpt(body)}"
        raise UnexpectedAnswerError(msg)
    return _page_of([answer], None)


def parse_errors(body: bytes) -> ParsedErrors:
    """Parse the answer about an operation's errors, whatever JSON it is.

    A list is taken for errors, and so is one in `errors` or `data`; anything else that is not empty
    is one error by itself.

    Raises:
        DamagedAnswerError: it is not JSON.
    """
    answer = Raw.read(body)
    whole = [answer] if json.loads(answer.shallow, parse_int=str) not in (None, {}) else []
    if answer.is_list:
        return _errors_of(answer.elements(), None)
    if not answer.is_object:
        return _errors_of(whole, None)
    try:
        members = _members_of(answer, body)
        token = _next_token(members, body)
    except UnexpectedAnswerError:
        return _errors_of(whole, None)
    lists = [members[key] for key in _ERRORS_KEYS if key in members and members[key].is_list]
    if len(lists) != 1:
        return _errors_of(whole, None)
    return _errors_of(lists[0].elements(), token)


def _errors_of(raws: Sequence[Raw], token: str | None) -> ParsedErrors:
    return ParsedErrors(tuple(_error_of(raw) for raw in raws), token)


def _error_of(raw: Raw) -> ErrorRecord:
    fields = json.loads(raw.shallow, parse_int=str)
    if isinstance(fields, dict) and isinstance(fields.get("error"), dict):
        fields = fields["error"]
    if not isinstance(fields, dict):
        return ErrorRecord(None, None, raw.readable)
    return ErrorRecord(_first(fields, _CODE_KEYS), _first(fields, _MESSAGE_KEYS), raw.readable)


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the named fields that is a text or a whole number: the latter was read as text."""
    found = (fields[name] for name in names if isinstance(fields.get(name), str))
    return next((value for value in found if is_unicode(value)), None)


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
        "createdAt": _rfc3339(row["created_at"]),
        "updatedAt": _rfc3339(row["updated_at"]),
    }
    if row["extra"] is not None:
        extra = json.loads(row["extra"], parse_float=Decimal)
        record["stats"].update(extra.pop("stats", {}))
        record.update(extra)
    return _to_json(record)


def surprises(operations: pa.Table) -> Counter[str]:
    """Count what the reference doesn't know in a table of records: formats drift.

    Returns:
        How many records have each unknown status, each unknown field (``stats.`` before those of the
        stats), and an id that doesn't match the reference's pattern. Empty if nothing is unusual.
    """
    found: Counter[str] = Counter()
    for entry in pc.value_counts(operations["status"]).to_pylist():
        if entry["values"] not in STATUSES:
            found[f"unknown status {entry['values']}"] += entry["counts"]
    ids = operations["operation_id"]
    if not _all_match(ids):
        unmatched = len(ids) - pc.sum(_matches(ids)).as_py()
        found["id that does not match the documented pattern"] += unmatched
    for extra in operations["extra"].drop_null().to_pylist():
        names = map(printable, _unknown_names(json.loads(extra, parse_float=str)))
        found.update(f"unknown field {name}" for name in names)
    return found


def _all_match(ids: pa.ChunkedArray) -> bool:
    """Whether every id matches the reference's pattern, told of all together: in a third of the time.

    Without the letters that come after the prefix, ids that match are what is left of their prefixes.
    """
    joined = ids.combine_chunks()
    _, ends, letters = joined.buffers()
    places = np.frombuffer(ends, np.int32)[joined.offset : joined.offset + len(joined) + 1]
    if not len(joined):
        return True
    shortest, longest = OPERATION_ID_LENGTHS
    lengths = np.diff(places)
    if lengths.min() < shortest or lengths.max() > longest:
        return False
    if not pc.all(pc.starts_with(joined, OPERATION_ID_PREFIX)).as_py():
        return False
    digits = np.frombuffer(letters, np.uint8)[places[:-1] + len(OPERATION_ID_PREFIX)]
    if digits.min() < ord("0") or digits.max() > ord("7"):
        return False
    known = OPERATION_ID_LETTERS.encode()
    text = letters.slice(int(places[0]), int(places[-1] - places[0])).to_pybytes()
    left: bytes = text.translate(None, known)
    return left == OPERATION_ID_PREFIX.encode().translate(None, known) * len(joined)


def _matches(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each id matches the reference's pattern.

    Its length is told apart: counting characters is most of what the pattern itself takes.
    """
    shortest, longest = OPERATION_ID_LENGTHS
    length = pc.binary_length(ids)
    fits = pc.and_(pc.greater_equal(length, shortest), pc.less_equal(length, longest))
    return pc.and_(fits, pc.match_substring_regex(ids, f"^{OPERATION_ID_START}+$"))


def _unknown_names(extra: Mapping[str, Any]) -> list[str]:
    stats = extra.get("stats", {})
    return [
        *(name for name in extra if name not in KNOWN_FIELDS),
        *(f"stats.{name}" for name in stats if name not in _KNOWN_COUNTS),
    ]


def _parse_page_at_once(body: bytes) -> ParsedPage | None:
    found = page.read(body)
    return None if found is None else ParsedPage(found[0], (), found[1], found[0].num_rows)


# The careful way: record by record, each with its own text.


def _parse_page_by_record(body: bytes) -> ParsedPage:
    answer = Raw.read(body)
    if not answer.is_object:
        msg = f"expected a page: a JSON object with operations; got {excerpt(body)}"
        raise UnexpectedAnswerError(msg)
    members = _members_of(answer, body)
    found = [key for key in _RECORDS_KEYS if key in members]
    if not found:
        names = shortened(printable(", ".join(sorted(members))), 120) or "no fields"
        msg = f"expected a page with operations; got an object with {names}: {excerpt(body)}"
        raise UnexpectedAnswerError(msg)
    if not members[found[0]].is_list:
        msg = f"expected a list in {found[0]}; got {excerpt(members[found[0]].text.encode(errors='replace'))}"
        raise UnexpectedAnswerError(msg)
    if all(key in members and members[key].is_list for key in _RECORDS_KEYS):
        msg = f"expected one list of records; got {' and '.join(_RECORDS_KEYS)}: {excerpt(body)}"
        raise UnexpectedAnswerError(msg)
    return _page_of(members[found[0]].elements(), _next_token(members, body))


def _members_of(answer: Raw, body: bytes) -> dict[str, Raw]:
    """The fields of an object; one that comes twice could hide records, or where the next ones are."""
    members: dict[str, Raw] = {}
    for name, value in answer.members():
        if name in members:
            msg = f"expected each field of the answer once; got {name!r} again: {excerpt(body)}"
            raise UnexpectedAnswerError(msg)
        members[name] = value
    return members


def _next_token(members: Mapping[str, Raw], body: bytes) -> str | None:
    """The token in `pagination`; the end of a listing is `next` null or absent, and nothing else."""
    pagination = members.get("pagination", _NULL_VALUE)
    if pagination.text == "null":
        return None
    if pagination.is_object:
        following = _members_of(pagination, body).get("next", _NULL_VALUE)
        if following.text == "null":
            return None
        if following.text.startswith('"') and is_unicode(token := json.loads(following.text)):
            return str(token)
    msg = f"expected pagination.next to be a text or null; got {excerpt(body[-200:])}"
    raise UnexpectedAnswerError(msg)


def _page_of(records: Sequence[Raw], next_token: str | None) -> ParsedPage:
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for raw in records:
        outcome = _read_record(raw)
        if isinstance(outcome, Reject):
            rejects.append(outcome)
        else:
            rows.append(outcome)
    operations = pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)
    return ParsedPage(operations, tuple(rejects), next_token, len(records))


def _read_record(raw: Raw) -> dict[str, Any] | Reject:
    """A row of `RECORD_SCHEMA`, or the reject."""
    if not is_unicode(raw.text):
        return Reject("expected UTF-8; got other bytes", raw.readable)
    record: Any = None
    try:
        record = json.loads(
            raw.shallow,
            object_pairs_hook=_unique_fields,
            parse_float=_decimal,
            parse_constant=_refuse_constant,
        )
        return _row(record)
    except _BadRecordError as bad:
        return Reject(str(bad), raw.text, *_known_of(record))
    except ValueError as error:  # an integer of more digits than Python reads
        return Reject(f"expected a JSON record; got {error}", raw.text)


def _row(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        msg = f"expected an object; got {_named(record)}"
        raise _BadRecordError(msg)
    if _nesting(record) > _MAX_NESTING:
        msg = f"expected a record of {_MAX_NESTING} levels at most; got more"
        raise _BadRecordError(msg)
    stats = record.get("stats")
    if not isinstance(stats, dict):
        msg = f"expected an object in stats; got {_of(record, 'stats')}"
        raise _BadRecordError(msg)
    extra = {name: value for name, value in record.items() if name not in KNOWN_FIELDS}
    extra_stats = {
        name: value for name, value in stats.items() if name not in _KNOWN_COUNTS or value is None
    }
    if extra_stats:
        extra["stats"] = extra_stats
    row: dict[str, Any] = {
        "operation_id": _required_text(record, "id"),
        "status": _required_text(record, "status"),
    }
    row.update((name, _count(stats, name)) for name in COUNT_NAMES)
    for column, name in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
        text = _required_text(record, name)
        row[column], exact = _instant(text, name)
        if not exact:
            extra[name] = text
    row["extra"] = _to_json(extra, sort=True) if extra else None
    return row


def _known_of(record: Any) -> tuple[str | None, datetime | None]:
    """Id and creation of a rejected record, where they can be read."""
    if not isinstance(record, dict):
        return None, None
    try:
        operation_id: str | None = _required_text(record, "id")
    except _BadRecordError:
        operation_id = None
    try:
        created_at, _ = _instant(_required_text(record, "createdAt"), "createdAt")
    except _BadRecordError:
        return operation_id, None
    return operation_id, created_at


def _required_text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        msg = f"expected a text in {name}; got {_of(record, name)}"
        raise _BadRecordError(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"expected Unicode text in {name}; got half of a surrogate pair"
        raise _BadRecordError(msg) from None
    return value


def _count(stats: Mapping[str, Any], name: str) -> int | None:
    """A count; None where it is absent or explicitly null (the latter stays in `extra`)."""
    value = stats.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        msg = f"expected a whole number of 0 or more in stats.{name}; got {_named(value)}"
        raise _BadRecordError(msg)
    return value


def _instant(text: str, name: str) -> tuple[datetime, bool]:
    """A time in UTC, and whether microseconds hold it exactly.

    Offsets and fractions of any length are allowed, as RFC 3339 has them. A time without an offset
    is not an instant and is refused.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        msg = f"expected an RFC 3339 date-time in {name}; got {_named(text)}"
        raise _BadRecordError(msg)
    day, clock, fraction, sign, hours, minutes = match.groups()
    digits = (fraction or "").rstrip("0")
    offset = timedelta(hours=int(hours), minutes=int(minutes)) if sign else timedelta()
    try:
        local = datetime.fromisoformat(f"{day}T{clock}").replace(
            microsecond=int(digits[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0")),
            tzinfo=timezone(-offset if sign == "-" else offset),
        )
        return local.astimezone(UTC), len(digits) <= _MICROSECOND_DIGITS
    except (ValueError, OverflowError):
        msg = f"expected an existing time in {name}; got {_named(text)}"
        raise _BadRecordError(msg) from None


def _rfc3339(moment: datetime) -> str:
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text}Z"


def _nesting(value: Any) -> int:
    """How many levels of objects and lists there are; by levels, since recursion has its own limit."""
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
        raise _BadRecordError(msg)
    return fields


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        msg = f"expected a number that can be kept; got {shortened(text, 80)}"
        raise _BadRecordError(msg)
    return number


def _refuse_constant(name: str) -> None:
    msg = f"expected a JSON number; got {name}"
    raise _BadRecordError(msg)


def _of(record: Mapping[str, Any], name: str) -> str:
    return _named(record[name]) if name in record else "none"


def _named(value: Any) -> str:
    text = _to_json(value)
    return shortened(text, 80)


def _to_json(value: Any, *, sort: bool = False) -> str:
    """Compact JSON that writes a Decimal digit by digit: `json` itself can't, and floats would lose.

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
    if isinstance(value, str) and not value.isascii():
        # Half of a surrogate pair can only be stored as its escape; other text stays readable.
        readable = json.dumps(value, ensure_ascii=False)
        return readable if is_unicode(readable) else json.dumps(value)
    return json.dumps(value)
