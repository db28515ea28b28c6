"""Records that can't be read: each is one reject, and costs no other."""

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.twilio.conversion import record_json
from pipeline.twilio.errors import DamagedResponseError
from pipeline.twilio.parsing import Reject, parse_errors, parse_page
from tests.support.factories import at, body, record


def only_row(content: bytes) -> dict[str, Any]:
    page = parse_page(content)
    assert page.rejects == ()
    (row,) = page.operations.to_pylist()
    return row


def rejected(item: Any) -> Reject:
    """The reject of a page that holds a good record and this one: one reject, not a page."""
    page = parse_page(body([record(1), item]))
    assert page.operations.num_rows == 1
    (reject,) = page.rejects
    return reject


@pytest.mark.parametrize("depth", [900, 1500, 200_000])
def test_too_deeply_nested_statistics_are_one_reject(depth: int):
    """R9: at any depth, and a page that is cut off there is damaged."""
    nested = b"[" * depth + b"]" * depth
    content = body([record(1), record(2) | {"stats": "here"}]).replace(b'"here"', nested)
    page = parse_page(content)
    assert (page.operations.num_rows, len(page.rejects)) == (1, 1)
    with pytest.raises(DamagedResponseError):
        parse_page(content[: content.index(nested) + depth])


def test_times_of_the_wrong_length_are_rejects():
    """R9: one has a letter too many, the other one too few."""
    wrong = [record(1) | {"updatedAt": "2026-11-20T10:00:00ZZ"}]
    wrong += [record(2) | {"updatedAt": "2026-11-20T10:00:0Z"}]
    assert len(parse_page(body([*wrong, record(3)])).rejects) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": ""}, 'expected a text in id; got ""'),
        ({"id": None}, "expected a text in id; got null"),
        ({"id": 5}, "expected a text in id; got 5"),
        ({"id": "\ud800"}, "half of a surrogate pair"),
        ({"status": None}, "expected a text in status; got null"),
        ({"status": ""}, 'expected a text in status; got ""'),
        ({"stats": None}, "expected an object in stats; got null"),
        ({"stats": []}, "expected an object in stats; got []"),
        ({"createdAt": "2026-02-30T10:00:00Z"}, "expected an existing time in createdAt"),
        ({"createdAt": "2026-11-20T10:00:61Z"}, "expected an existing time in createdAt"),
        ({"createdAt": "2026-11-20"}, "expected an RFC 3339 date-time in createdAt"),
        ({"createdAt": "2026-11-20T10:00:00"}, "expected an RFC 3339 date-time in createdAt"),
        ({"createdAt": ""}, "expected a text in createdAt"),
        ({"createdAt": "0000-11-20T10:00:00Z"}, "expected an existing time in createdAt"),
        ({"createdAt": "2026-11-20T10:00:00+05:60"}, "expected an RFC 3339 date-time in createdAt"),
        ({"createdAt": "2026-11-20T10:00:0\u0660Z"}, "expected an RFC 3339 date-time in createdAt"),
        ({"updatedAt": 1763632800}, "expected a text in updatedAt; got 1763632800"),
        ({"updatedAt": "0001-01-01T00:00:00+23:59"}, "expected an existing time in updatedAt"),
    ],
)
def test_record_with_a_bad_field_is_one_reject(changes: dict[str, Any], reason: str):
    """R9: what is not understood is a reject, and costs no other record."""
    bad = record(2) | changes
    reject = rejected(bad)
    assert reason in reject.reason
    assert json.loads(reject.raw) == bad


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("-1", "-1"),
        ("1.5", "1.5"),
        ("5.0", "5.0"),
        ('"7"', '"7"'),
        ("1e2", "1E+2"),
        ("100000000000000000000", "100000000000000000000"),
        ("true", "true"),
        ("[]", "[]"),
        ("NaN", "NaN"),
    ],
)
def test_record_with_an_invalid_count_is_one_reject(value: str, shown: str):
    """R9: negative, fractional, a text, 10^20: the raw record is kept."""
    good, bad = body([record(1), record(2)]), body([record(2)])
    bad_text = json.dumps(record(2)).replace('"opened": 0', f'"opened": {value}')
    page = parse_page(good.replace(json.dumps(record(2)).encode(), bad_text.encode()))
    assert page.operations["operation_id"].to_pylist() == [record(1)["id"]]
    (reject,) = page.rejects
    assert reject.raw == bad_text
    assert shown in reject.reason
    assert len(bad) > 0


@pytest.mark.parametrize("absent", ["id", "status", "stats", "createdAt", "updatedAt"])
def test_record_without_a_required_field_is_one_reject(absent: str):
    bad = record(2)
    del bad[absent]
    assert f"in {absent}; got none" in rejected(bad).reason


@pytest.mark.parametrize("depth", [64, 500, 900])
def test_too_deeply_nested_record_is_one_reject(depth: int):
    deep: Any = 0
    for _ in range(depth):
        deep = [deep]
    assert "levels at most" in rejected(record(2, deep=deep)).reason


def test_record_nested_as_deeply_as_allowed_is_kept():
    deep: Any = 0
    for _ in range(63):
        deep = {"in": deep}
    row = only_row(body([record(1, deep=deep)]))
    assert json.loads(record_json(row | {"observed_at": None})) == record(1, deep=deep)


@pytest.mark.parametrize("item", [None, 5, "x", [], True])
def test_non_object_record_is_one_reject(item: Any):
    assert rejected(item).raw == json.dumps(item)


def test_duplicate_field_is_a_reject():
    content = body([record(1)]).replace(b'"status"', b'"status":"X","status"')
    (reject,) = parse_page(content).rejects
    assert reject.reason == "expected each field once; got 'status' again"


def test_invalid_utf8_costs_one_record():
    content = body([record(1), record(2, note="#")]).replace(b"#", b"\xff\xfe")
    page = parse_page(content)
    assert page.operations.num_rows == 1
    assert "\\xff\\xfe" in page.rejects[0].raw


@pytest.mark.parametrize("broken", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("place", [b"COMPLETED", b"comms_operation_"])
def test_invalid_utf8_never_becomes_a_row(place: bytes, broken: bytes):
    """R9: pyarrow takes any bytes for a text, and the file could not be read again."""
    page = parse_page(body([record(1)]).replace(place, broken))
    assert (page.operations.num_rows, page.records) == (0, 1)
    assert page.rejects[0].reason == "expected UTF-8; got other bytes"


def test_invalid_utf8_beside_the_records_costs_none():
    content = body([record(1)])[:-1] + b', "x\xff": "\xff"}'
    assert parse_page(content).operations.num_rows == 1


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("1e99999999999999999999", "expected a number that can be stored"),
        ("-0e-99999999999999999999", "expected a number that can be stored"),
        ("9" * 5000, "expected a JSON record; got Exceeds the limit"),
    ],
)
def test_unrepresentable_number_is_one_reject(number: str, reason: str):
    """R9"""
    bad = json.dumps(record(2)).replace('"status"', f'"x": {number}, "status"')
    page = parse_page(body([record(1), 0]).replace(b", 0]", f", {bad}]".encode()))
    assert page.operations.num_rows == 1
    assert page.rejects[0].raw == bad
    assert page.rejects[0].reason.startswith(reason)
    assert parse_errors(f"[{bad}]".encode()).errors[0].raw == bad


@pytest.mark.parametrize("number", ["1e400", "1E+9999999999", "1.50", "-0.0", "0e0", "9" * 4300])
def test_number_beyond_floats_is_kept(number: str):
    """R8"""
    content = body([record(1)]).replace(b'"status"', f'"x": {number}, "status"'.encode())
    again = json.loads(record_json(only_row(content)), parse_float=Decimal)["x"]
    assert Decimal(again).as_tuple() == Decimal(number).as_tuple()


def test_reject_keeps_what_could_be_read():
    reject = rejected(record(2, updatedAt="never"))
    assert (reject.operation_id, reject.created_at) == (record(2)["id"], at("2026-11-20 12:00"))


@pytest.mark.parametrize(
    "field", ['"status": "X", ', '"x": 1e99999999999999999999, ', '"x": NaN, ']
)
def test_reject_of_unreadable_json_has_id_and_time(field: str):
    content = body([record(2)]).replace(b'"status"', f'{field}"status"'.encode())
    (reject,) = parse_page(content).rejects
    assert (reject.operation_id, reject.created_at) == (record(2)["id"], at("2026-11-20 12:00"))


def test_reject_with_two_ids_has_none():
    content = body([record(2)]).replace(b'"status"', b'"id": "other", "status"')
    (reject,) = parse_page(content).rejects
    assert (reject.operation_id, reject.created_at) == (None, at("2026-11-20 12:00"))
