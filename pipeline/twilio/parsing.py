"""Parses response bodies into Arrow tables.

A page that matches the reference is parsed at once (`page`). Any other is parsed record by record: a bad
record becomes one reject and does not fail its page. An unexpected response is an error, and never an empty
result (R9).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.model.schema import OPERATION_ID_PATTERN, RECORD_SCHEMA, STATUSES
from pipeline.twilio.conversion import (
    BadRecordError,
    is_unicode,
    row_of,
    shortened,
    text_in,
    time_in,
    unknown_names,
)
from pipeline.twilio.errors import DamagedResponseError, UnexpectedResponseError
from pipeline.twilio.page import read_page

_RECORDS_KEYS: Final = ("operations", "data")
"""Fields that may hold a page's records; the guide of a related resource uses `data`."""

_ERRORS_KEYS: Final = ("errors", "data")
_CODE_KEYS: Final = ("code", "errorCode", "error_code")
_MESSAGE_KEYS: Final = ("message", "errorMessage", "error_message", "description", "detail")
"""Fields that may hold an error's code and message: those of the API's envelope, and common others."""

_SHOWN: Final = 120
_JSON: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_SPACE: Final = " \t\n\r"
_BETWEEN: Final = f"{_SPACE},:"
_TO_BRACKET: Final = re.compile(
    r"""((?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+)([\[\]{}])""", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Reject:
    r"""One record that could not be parsed.

    Attributes:
        reason: what was expected and what came.
        raw: the record as the API sent it; bytes that are not UTF-8 are written ``\xNN``.
        operation_id: its id, if that could be parsed.
        created_at: its creation time in UTC, if that could be parsed.
    """

    reason: str
    raw: str
    operation_id: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """The content of a page.

    Attributes:
        operations: the records that could be parsed, as `schema.RECORD_SCHEMA`, in the page's order.
        rejects: the others.
        next_token: the token of the next page; None at the end of the listing.
        records: the number of records: ``operations.num_rows + len(rejects)``.
    """

    operations: pa.Table
    rejects: tuple[Reject, ...]
    next_token: str | None
    records: int


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """One error of an operation. The reference does not document its fields.

    Attributes:
        code: its code as text; None if none was found.
        message: its message; None if none was found.
        raw: the error as the API sent it.
    """

    code: str | None
    message: str | None
    raw: str


@dataclass(frozen=True, slots=True)
class ParsedErrors:
    """The content of a response about an operation's errors.

    Attributes:
        errors: the errors, in the response's order.
        next_token: the token of the next page; None at the end.
    """

    errors: tuple[ErrorRecord, ...]
    next_token: str | None


def parse_page(body: bytes) -> ParsedPage:
    """Parse the response to a list request.

    Raises:
        DamagedResponseError: it is not JSON: cut off, HTML of a proxy, empty.
        UnexpectedResponseError: it is JSON, but not a page: neither ``operations`` nor ``data``.
    """
    found = read_page(body)
    if found is None:
        return parse_page_by_record(body)
    operations, next_token = found
    return ParsedPage(operations, (), next_token, operations.num_rows)


def parse_page_by_record(body: bytes) -> ParsedPage:
    """Parse the response to a list request record by record; see `parse_page`."""
    text = _json_in(body)
    if not text.startswith("{"):
        msg = f"expected a page: a JSON object with operations; got {_excerpt(text)}"
        raise UnexpectedResponseError(msg)
    fields = _fields_of(text)
    found = [key for key in _RECORDS_KEYS if key in fields]
    if not found:
        names = shortened(_printable(", ".join(sorted(fields))), _SHOWN) or "no fields"
        msg = f"expected a page with operations; got an object with {names}: {_excerpt(text)}"
        raise UnexpectedResponseError(msg)
    if not fields[found[0]].startswith("["):
        msg = f"expected a list in {found[0]}; got {_excerpt(fields[found[0]])}"
        raise UnexpectedResponseError(msg)
    if sum(fields[key].startswith("[") for key in found) > 1:
        msg = f"expected one list of records; got {' and '.join(_RECORDS_KEYS)}: {_excerpt(text)}"
        raise UnexpectedResponseError(msg)
    return _page_of(_elements(fields[found[0]]), _next_token(fields))


def parse_operation(body: bytes) -> ParsedPage:
    """Parse the response to a request for one operation: a page of one record.

    Raises:
        DamagedResponseError: it is not JSON.
        UnexpectedResponseError: it is JSON, but not an object with an ``id``.
    """
    text = _json_in(body)
    if not text.startswith("{") or "id" not in _fields_of(text):
        msg = f"expected an operation: a JSON object with an id; got {_excerpt(text)}"
        raise UnexpectedResponseError(msg)
    return _page_of([text], None)


def parse_errors(body: bytes) -> ParsedErrors:
    """Parse the response about an operation's errors, which can be any JSON.

    A list, or a list in `errors` or `data`, is a list of errors. Any other JSON that is not empty is one
    error.

    Raises:
        DamagedResponseError: it is not JSON.
    """
    text = _json_in(body)
    if text.startswith("["):
        return ParsedErrors(tuple(map(_error_of, _elements(text))), None)
    if text.startswith("{"):
        try:
            fields = _fields_of(text)
            token = _next_token(fields)
        except UnexpectedResponseError:
            return ParsedErrors((_error_of(text),), None)
        lists = [key for key in _ERRORS_KEYS if fields.get(key, "").startswith("[")]
        if len(lists) == 1:
            return ParsedErrors(tuple(map(_error_of, _elements(fields[lists[0]]))), token)
        if not fields:
            return ParsedErrors((), None)
    return ParsedErrors(() if text == "null" else (_error_of(text),), None)


def drift(operations: pa.Table) -> Counter[str]:
    """Count differences from the reference in a table of records.

    Returns:
        The number of records with each unknown status, each unknown field (those of stats begin with
        ``stats.``), and an id that does not match the reference's pattern. Empty if there are none.
    """
    found: Counter[str] = Counter()
    for entry in pc.value_counts(operations["status"]).to_pylist():
        if entry["values"] not in STATUSES:
            found[f"unknown status {entry['values']}"] += entry["counts"]
    matches = pc.match_substring_regex(operations["operation_id"], OPERATION_ID_PATTERN)
    if unmatched := len(matches) - pc.sum(matches, min_count=0).as_py():
        found["id that does not match the documented pattern"] += unmatched
    for extra in operations["extra"].drop_null().to_pylist():
        found.update(f"unknown field {_printable(name)}" for name in unknown_names(extra))
    return found


def _page_of(texts: Sequence[str], next_token: str | None) -> ParsedPage:
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for text in texts:
        try:
            rows.append(row_of(text))
        except BadRecordError as error:
            rejects.append(_reject(str(error), text))
    operations = pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)
    return ParsedPage(operations, tuple(rejects), next_token, len(texts))


def _reject(reason: str, text: str) -> Reject:
    """A reject, with its id and creation time if each occurs once and can be parsed."""
    parts = _parts(text)
    names = Counter(name for name, _ in parts)
    known = {n: json.loads(t) for n, t in parts if names[n] == 1 and t.startswith('"')}
    operation_id = created_at = None
    with suppress(BadRecordError):
        operation_id = text_in(known, "id")
    with suppress(BadRecordError):
        created_at, _ = time_in(known, "createdAt")
    return Reject(reason, _readable(text), operation_id, created_at)


def _error_of(text: str) -> ErrorRecord:
    fields = dict(_parts(text))
    if fields.get("error", "").startswith("{"):
        fields = dict(_parts(fields["error"]))
    return ErrorRecord(_first(fields, _CODE_KEYS), _first(fields, _MESSAGE_KEYS), _readable(text))


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The first of the named fields that is a string or an integer, as text."""
    texts = (fields[name] for name in names if fields.get(name, "[")[0] not in "[{")
    values = (json.loads(text, parse_int=str) for text in texts)
    return next((value for value in values if isinstance(value, str) and is_unicode(value)), None)


def _next_token(fields: Mapping[str, str]) -> str | None:
    """The token in `pagination`; only an absent or null `next` is the end of a listing."""
    pagination = fields.get("pagination", "null")
    if pagination == "null":
        return None
    if pagination.startswith("{"):
        following = _fields_of(pagination).get("next", "null")
        if following == "null":
            return None
        if following.startswith('"') and is_unicode(token := json.loads(following)):
            return str(token)
    msg = f"expected pagination.next to be a text or null; got {_excerpt(pagination)}"
    raise UnexpectedResponseError(msg)


# These functions return the text of each JSON value, since a reject has its record as the API sent it.
# `msgspec.Raw` does too, but fails the whole page if one record has NaN or nests deeply, and silently keeps
# the last of two fields of the same name.


def _json_in(body: bytes) -> str:
    """The one JSON value in a response, as text; bytes that are not UTF-8 become surrogates."""
    text = body.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff").strip(_SPACE)
    if not text:
        msg = "expected JSON; got an empty response"
        raise DamagedResponseError(msg)
    try:
        end = _end_of_value(text, 0)
    except ValueError as error:
        msg = f"expected JSON; got {_excerpt(text)} ({error})"
        raise DamagedResponseError(msg) from None
    if end < len(text):
        msg = f"expected one JSON value; got more after it: {_excerpt(text[end:])}"
        raise DamagedResponseError(msg)
    return text


def _fields_of(text: str) -> dict[str, str]:
    """The fields of an object. A repeated field is an error: it could hide records or a token."""
    fields: dict[str, str] = {}
    for name, value in _parts(text):
        if name in fields:
            msg = f"expected each field of the response once; got {name!r} again: {_excerpt(text)}"
            raise UnexpectedResponseError(msg)
        fields[name] = value
    return fields


def _parts(text: str) -> list[tuple[str, str]]:
    """The names and texts of the values in an object or list; in a list, names are empty."""
    if text[0] not in "[{":
        return []
    parts = []
    at = _skip(text, 1)
    while at < len(text) - 1:
        name = ""
        if text[0] == "{":
            name, at = _JSON.raw_decode(text, at)
            at = _skip(text, at)
        end = _end_of_value(text, at)
        parts.append((name, text[at:end]))
        at = _skip(text, end)
    return parts


def _elements(text: str) -> list[str]:
    return [element for _, element in _parts(text)]


def _skip(text: str, at: int) -> int:
    """The next position that is neither a space nor a separator."""
    while text[at] in _BETWEEN:
        at += 1
    return at


def _end_of_value(text: str, at: int) -> int:
    """The end of the JSON value that begins at `at`.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _JSON.raw_decode(text, at)[1]
    except RecursionError:
        return _end_of_deep_value(text, at)


def _end_of_deep_value(text: str, at: int) -> int:
    """The same for a value that nests deeper than `json` allows: each level is parsed on its own."""
    levels: list[list[str]] = []  # the text of each open container so far, with 0 for inner ones
    while match := _TO_BRACKET.match(text, at):
        before, bracket = match.groups()
        at = match.end()
        if bracket in "[{":
            if levels:
                levels[-1].append(f"{before}0")
            levels.append([bracket])
        else:
            _JSON.decode("".join([*levels.pop(), before, bracket]))
            if not levels:
                return at
    msg = "it ends too early"
    raise ValueError(msg)


def _readable(text: str) -> str:
    r"""A text that can be stored: bytes that are not UTF-8 are written ``\xNN``."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _printable(text: str) -> str:
    """A text for a message: lone surrogates are escaped."""
    return text.encode(errors="backslashreplace").decode()


def _excerpt(text: str) -> str:
    """The beginning of a text on one line, for a message."""
    shown = text[:500].encode(errors="replace").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
    return repr(shortened(line, _SHOWN))
