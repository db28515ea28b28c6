"""What must hold for any bytes that the API might answer: told by `json.loads` and the reference alone.

Nothing here knows how parsing works. Each check takes an answer, raises AssertionError if a record was
lost, changed or rejected without reason, lets every exception through that is not documented, and
otherwise says what it saw.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pipeline.model.schema import COUNT_NAMES, RECORD_SCHEMA
from pipeline.twilio import parsing
from pipeline.twilio.conversion import record_json
from pipeline.twilio.errors import DamagedResponseError, UnexpectedResponseError
from pipeline.twilio.page import read_page

Seen = Counter[str]
"""``inputs``, ``accepted`` (and ``fast``, of pages), ``refused``, ``records``, ``rows``, ``rejects``."""

_MAX_LEVELS = 64
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-][0-9]{2}:[0-5][0-9]))"
)
_ESCAPED = re.compile(r"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_MARK = 0xF_0000  # bytes that are no UTF-8 become characters of a private plane, one each


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    broken = error.object[error.start : error.end]
    return "".join(chr(_MARK + byte) for byte in broken), error.end


codecs.register_error("mark", _mark)


class Fields(list[tuple[str, Any]]):
    """An object's fields as they came: also those that came twice."""

    def names(self) -> list[str]:
        return [name for name, _ in self]

    def get(self, name: str) -> Any:
        return dict(self).get(name)


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class NoJsonError(Exception):
    """An answer that is not one JSON value."""


def load(text: str) -> Any:
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=Fields,
            parse_int=Number,
            parse_float=Number,
            parse_constant=Number,
        )
    except ValueError as error:
        raise NoJsonError from error


def check_page(body: bytes) -> Seen:
    """An answer to a list request: every record is a row, unchanged, or a reject, verbatim."""
    try:
        page = parsing.parse_page(body)
    except (DamagedResponseError, UnexpectedResponseError) as refusal:
        return _refused(refusal, body, _is_page)
    fast = _check_ways_agree(body, page)
    seen = Seen(inputs=1, accepted=1, fast=fast, records=page.records)
    try:
        answer = load(_text(body))
    except RecursionError:  # too deep for this oracle
        return seen + _check_records(body, None, page)
    assert isinstance(answer, Fields), "accepted what is no object"
    assert _is_page(answer), "accepted what is not surely a page"
    lists = [value for name, value in answer if name in ("operations", "data")]
    (records,) = [one for one in lists if _is_list(one)]
    pagination = answer.get("pagination")
    token = pagination.get("next") if isinstance(pagination, Fields) else None
    assert page.next_token == token, "another token"
    return seen + _check_records(body, records, page)


def check_operation(body: bytes) -> Seen:
    """An answer about one operation: it is a row, unchanged, or a reject, verbatim."""
    try:
        page = parsing.parse_operation(body)
    except (DamagedResponseError, UnexpectedResponseError) as refusal:
        return _refused(
            refusal,
            body,
            lambda answer: (
                isinstance(answer, Fields) and "id" in answer.names() and _is_unique(answer)
            ),
        )
    seen = Seen(inputs=1, accepted=1, records=page.records)
    try:
        answer = load(_text(body))
    except RecursionError:
        return seen + _check_records(body, None, page)
    return seen + _check_records(body, [answer], page)


def check_errors(body: bytes) -> Seen:
    """An answer about an operation's errors: each is kept as it came."""
    try:
        parsed = parsing.parse_errors(body)
    except DamagedResponseError as refusal:
        return _refused(refusal, body, lambda _: True)
    raws = [error.raw for error in parsed.errors]
    for error in parsed.errors:
        _check_text(error.code or "", error.message or "", error.raw)
    _check_text(parsed.next_token or "")
    seen = Seen(inputs=1, accepted=1, records=len(raws), rows=len(raws))
    try:
        answer = load(_text(body))
    except RecursionError:
        return seen
    lists = [answer] if _is_list(answer) else []
    if isinstance(answer, Fields):
        lists = [value for name, value in answer if name in ("errors", "data") and _is_list(value)]
    whole = [] if answer is None or answer == Fields() else [answer]
    if len(raws) == len(whole) and all(_is_verbatim(r, one, body) for r, one in zip(raws, whole)):  # noqa: B905 - the lengths were compared
        assert parsed.next_token is None
        return seen
    assert len(lists) == 1, "errors from no list, or from one of two"
    (errors,) = lists
    assert len(raws) == len(errors), f"{len(raws)} of {len(errors)} errors"
    for raw, one in zip(raws, errors, strict=True):
        assert _is_verbatim(raw, one, body), f"an error was changed: {raw!r}"
    return seen


CHECKS: tuple[Callable[[bytes], Seen], ...] = (check_page, check_operation, check_errors)


def _refused(refusal: Exception, body: bytes, understood: Callable[[Any], bool]) -> Seen:
    """A refusal is right if `json` refuses too, or what came is not what was asked for."""
    _check_text(str(refusal))
    try:
        answer = load(_text(body))
    except (NoJsonError, RecursionError):
        return Seen(inputs=1, refused=1)
    assert not isinstance(refusal, DamagedResponseError), f"JSON, but refused as damaged: {refusal}"
    assert not understood(answer), f"refused without reason: {refusal}"
    return Seen(inputs=1, refused=1)


def _is_page(answer: Any) -> bool:
    if not isinstance(answer, Fields) or not _is_unique(answer):
        return False
    first = [answer.get(name) for name in ("operations", "data") if name in answer.names()]
    if not first or not _is_list(first[0]) or sum(map(_is_list, first)) != 1:
        return False
    pagination = answer.get("pagination")
    if pagination is None:
        return True
    if not isinstance(pagination, Fields) or not _is_unique(pagination):
        return False
    token = pagination.get("next")
    return token is None or (_is_text(token) and _is_unicode(token) and not _is_marked(token))


def _check_ways_agree(body: bytes, page: parsing.ParsedPage) -> bool:
    """Whether the fast way accepts the page; if so, the careful one must read the same."""
    fast = read_page(body)
    if fast is None:
        return False
    operations, next_token = fast
    careful = parsing.parse_page_by_record(body)
    assert careful.rejects == (), "the fast way read what the careful one rejects"
    assert operations.equals(careful.operations), "the two ways read rows otherwise"
    assert (next_token, operations.num_rows) == (careful.next_token, careful.records)
    assert operations.equals(page.operations)
    return True


def _check_records(body: bytes, records: list[Any] | None, page: parsing.ParsedPage) -> Seen:
    page.operations.validate(full=True)
    assert page.operations.schema == RECORD_SCHEMA
    rows, rejects = page.operations.to_pylist(), list(page.rejects)
    seen = Seen(rows=len(rows), rejects=len(rejects))
    assert page.records == len(rows) + len(rejects), "records are not rows and rejects"
    _check_text(page.next_token or "", *parsing.drift(page.operations))
    for reject in rejects:
        _check_text(reject.reason, reject.raw, reject.operation_id or "")
    if records is None:
        return seen
    assert page.records == len(records), f"{page.records} of {len(records)} records"
    for record in records:
        if _is_readable(record):
            assert rows, f"a good record was rejected: {rejects[:1]}"
            again = load(record_json(rows.pop(0)))
            assert _meaning(again) == _meaning(record), f"{record!r} went back as {again!r}"
        else:
            assert rejects, f"a bad record became a row: {record!r}"
            raw = rejects.pop(0).raw
            assert _is_verbatim(raw, record, body), f"{record!r} was rejected as {raw!r}"
    return seen


def _is_verbatim(raw: str, value: Any, body: bytes) -> bool:
    """Whether `raw` is this value's text as it came."""
    whole = body.decode(errors="surrogateescape")
    if raw not in whole.encode(errors="surrogateescape").decode(errors="backslashreplace"):
        return False
    try:
        return bool(load(_ESCAPED.sub(_mark_again, raw)) == value)
    except NoJsonError:
        return False


def _mark_again(escape: re.Match[str]) -> str:
    """A reject writes bytes that are no UTF-8 as JSON never writes anything."""
    return chr(_MARK + int(escape[1][1:], 16)) if escape[1].startswith("x") else escape[0]


def _is_readable(record: Any) -> bool:
    """Whether a record is what the reference describes, but for unknown fields and statuses."""
    if not isinstance(record, Fields) or _is_marked(record) or not _is_sound(record):
        return False
    stats = record.get("stats")
    texts = [record.get(name) for name in ("id", "status", "createdAt", "updatedAt")]
    if not all(_is_text(text) and text and _is_unicode(text) for text in texts):
        return False
    if not isinstance(stats, Fields) or _levels(record) > _MAX_LEVELS:
        return False
    counts = [value for name, value in stats if name in COUNT_NAMES and value is not None]
    if not all(isinstance(value, Number) and _is_count(value) for value in counts):
        return False
    return all(_instant(text) is not None for text in texts[2:])


def _is_count(number: Number) -> bool:
    return bool(re.fullmatch(r"-0|[0-9]{1,19}", number)) and int(number) < 2**63


def _is_sound(value: Any) -> bool:
    """Whether each field comes once, and each number can be kept."""
    if isinstance(value, Fields):
        return _is_unique(value) and all(_is_sound(inner) for _, inner in value)
    if _is_list(value):
        return all(map(_is_sound, value))
    if not isinstance(value, Number):
        return True
    if re.fullmatch(r"-?[0-9]+", value):
        return len(value.lstrip("-")) <= 4300
    parts = _digits(value)
    return parts is not None and isinstance(parts.exponent, int)


def _digits(number: Number) -> Any:
    """Sign, digits and exponent; a whole 0 has no sign, in Python as in most readers of JSON."""
    try:
        parts = Decimal(number).as_tuple()
    except InvalidOperation:
        return None
    return parts._replace(sign=0) if parts[1:] == ((0,), 0) else parts


def _meaning(value: Any, name: str = "") -> Any:
    """What a value says: fields in any order, numbers by their digits, times as instants."""
    if isinstance(value, Fields):
        top = not name
        fields = ((n, _meaning(one, n if top else f"{name}.{n}")) for n, one in value)
        return {"object": dict(fields)}
    if _is_list(value):
        return [_meaning(one, f"{name}[]") for one in value]
    if isinstance(value, Number):
        return _digits(value)
    if name in ("createdAt", "updatedAt"):
        return _instant(value)
    return ("text" if isinstance(value, str) else "literal", value)


def _instant(text: str) -> tuple[datetime, str] | None:
    """A time to the second in UTC, and its fraction."""
    match = _TIME.fullmatch(text)
    if match is None or match[2] > "23:59:59":
        return None
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4] or '+00:00'}")
        return moment.astimezone(UTC), (match[3] or "").rstrip("0")
    except (ValueError, OverflowError):
        return None


def _levels(value: Any) -> int:
    if isinstance(value, Fields):
        return 1 + max((_levels(inner) for _, inner in value), default=0)
    return 1 + max(map(_levels, value), default=0) if _is_list(value) else 0


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and not isinstance(value, Fields)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _is_unique(fields: Fields) -> bool:
    return len(set(fields.names())) == len(fields)


def _is_unicode(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


def _is_marked(value: Any) -> bool:
    """Whether a value holds bytes that are no UTF-8."""
    if isinstance(value, Fields):
        return any(_is_marked(name) or _is_marked(inner) for name, inner in value)
    if _is_list(value):
        return any(map(_is_marked, value))
    return isinstance(value, str) and any(_MARK <= ord(c) <= _MARK + 255 for c in value)


def _text(body: bytes) -> str:
    return body.decode(errors="mark")


def _check_text(*texts: str) -> None:
    """Texts that are stored or shown must be Unicode."""
    for text in texts:
        text.encode()
