"""Bytes to Arrow and back: what is read, what is rejected, and that nothing is lost."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.schema import COUNT_NAMES, OPERATION_ID_PATTERN, RECORD_SCHEMA
from pipeline.twilio.conversion import is_unicode, record_json
from pipeline.twilio.errors import DamagedResponseError, UnexpectedResponseError
from pipeline.twilio.page import read_page
from pipeline.twilio.parsing import (
    Reject,
    drift,
    parse_errors,
    parse_operation,
    parse_page,
    parse_page_by_record,
)
from tests.support.factories import at, body, record

REFERENCE_SAMPLE = {
    "id": "comms_operation_01h9krwprkeee8fzqspvwy6nq8",
    "status": "COMPLETED",
    "stats": {
        "total": 5,
        "recipients": 5,
        "attempts": 5,
        "queued": 0,
        "sent": 5,
        "scheduled": 0,
        "delivered": 5,
        "opened": 3,
        "undelivered": 0,
        "failed": 0,
        "canceled": 0,
    },
    "createdAt": "2026-11-20T10:00:00Z",
    "updatedAt": "2026-11-20T11:30:00Z",
}


def exact(text: str) -> Any:
    """JSON with every number as it was written."""
    return json.loads(text, parse_float=Decimal)


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


def test_page_becomes_a_table_of_the_schema():
    page = parse_page(body([REFERENCE_SAMPLE], next_token="t"))
    assert page.operations.schema == RECORD_SCHEMA
    assert page.operations.to_pylist() == [
        {
            "operation_id": "comms_operation_01h9krwprkeee8fzqspvwy6nq8",
            "status": "COMPLETED",
            **REFERENCE_SAMPLE["stats"],
            "created_at": at("2026-11-20 10:00"),
            "updated_at": at("2026-11-20 11:30"),
            "extra": None,
        }
    ]
    assert (page.next_token, page.records, page.rejects) == ("t", 1, ())


@pytest.mark.parametrize("content", [b'{"operations":[]}', body([]), body([], next_token="t")])
def test_empty_page_is_a_page(content: bytes):
    assert parse_page(content).operations.num_rows == 0


@pytest.mark.parametrize(
    ("content", "token"),
    [
        (b'{"operations":[],"pagination":{"next":null}}', None),
        (b'{"operations":[],"pagination":{}}', None),
        (b'{"operations":[],"pagination":null}', None),
        (b'{"operations":[]}', None),
        (b'{"operations":[],"pagination":{"next":"n","previous":5},"meta":[1]}', "n"),
    ],
)
def test_end_of_listing_is_next_null_or_absent(content: bytes, token: str | None):
    """Fact: "the end is `next` null or absent, and nothing else"."""
    assert parse_page(content).next_token == token


def test_records_under_data_are_read():
    """Fact: "a sibling guide shows its records under `data` instead of a named key"."""
    content = json.dumps({"data": [record(7)], "pagination": {}}).encode()
    assert only_row(content)["operation_id"] == record(7)["id"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "got an object with no fields"),
        (b'{"message":"hello","code":1}', "got an object with code, message"),
        (b"[]", "expected a page"),
        (b'"operations"', "expected a page"),
        (b"null", "expected a page"),  # pyarrow.json crashes the process of one
        (b"\xef\xbb\xbf \nnull", "expected"),
        (b'{"operations":null}', "expected a list in operations"),
        (b'{"operations":{}}', "expected a list in operations"),
        (b'{"operations":[],"operations":[]}', "got 'operations' again"),
        (b'{"operations":[],"pagination":{"next":5}}', "pagination.next"),
        (b'{"operations":[],"pagination":"x"}', "pagination.next"),
        (b'{"operations":[],"pagination":{"next":"\\ud800"}}', "pagination.next"),
        (b'{"operations":[],"pagination":{"next":"\xff"}}', "pagination.next"),
        (b'{"operations":[],"pagination":{"next":"a","next":null}}', "got 'next' again"),
        (b'{"operations":[],"data":[]}', "got operations and data"),
        (b'{"\xff":1}', "got an object with"),
    ],
)
def test_response_of_another_shape_is_an_error_never_empty(content: bytes, message: str):
    """R9; fact: "an answer with neither `operations` nor `data` is an error that names what came"."""
    with pytest.raises(UnexpectedResponseError, match=message):
        parse_page(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  ",
        b"<html><body>Bad gateway</body></html>",
        body([record(1)])[:-40],
        b'{"operations":[]} x',
        b'null {"operations":[]}',
    ],
)
def test_damaged_response_is_an_error_never_empty(content: bytes):
    """R9."""
    with pytest.raises(DamagedResponseError, match="expected"):
        parse_page(content)


def test_absent_counts_are_null():
    """Fact: "every count may be absent: absent is NULL, never 0"; the guide's sample lacks two."""
    sample = record(1)
    for name in ("recipients", "attempts"):
        del sample["stats"][name]
    row = only_row(body([sample]))
    assert (row["recipients"], row["attempts"], row["total"]) == (None, None, 1)
    assert exact(record_json(row)) == sample


def test_unknown_fields_stats_and_statuses_are_kept():
    """R8; fact: "an unknown status or an unknown field is data: keep it, and say so"."""
    sample = record(1, status="ARCHIVED", region="eu1", tags=["a", {"b": 1.10}])
    sample["stats"]["read"] = 3
    row = only_row(body([sample]))
    assert row["status"] == "ARCHIVED"
    assert row["extra"] == '{"region":"eu1","stats":{"read":3},"tags":["a",{"b":1.1}]}'
    assert exact(record_json(row)) == exact(json.dumps(sample))
    assert drift(parse_page(body([sample])).operations) == {
        "unknown status ARCHIVED": 1,
        "unknown field region": 1,
        "unknown field tags": 1,
        "unknown field stats.read": 1,
    }


def test_unknown_number_keeps_every_digit():
    """R8: a float would lose digits."""
    content = body([record(1)]).replace(b'"status"', b'"cost":0.10000000000000000000012,"status"')
    row = only_row(content)
    assert row["extra"] == '{"cost":0.10000000000000000000012}'
    assert exact(record_json(row))["cost"] == Decimal("0.10000000000000000000012")


def test_explicit_null_differs_from_absence():
    """R8."""
    sample = record(1, stats={"opened": None}, note=None)
    row = only_row(body([sample]))
    assert row["opened"] is None
    assert exact(record_json(row)) == sample


def test_id_of_another_format_is_kept_and_reported():
    page = parse_page(body([record(1, id="OP123")]))
    assert page.operations["operation_id"].to_pylist() == ["OP123"]
    assert drift(page.operations) == {"id that does not match the documented pattern": 1}


@pytest.mark.parametrize(("length", "matches"), [(41, False), (42, True), (51, True), (52, False)])
def test_id_is_as_long_as_the_pattern_has_it(length: int, matches: bool):
    sample = record(1, id="comms_operation_0".ljust(length, "a"))
    is_told = bool(drift(parse_page(body([sample])).operations))
    assert is_told != matches
    assert bool(re.fullmatch(OPERATION_ID_PATTERN, sample["id"])) == matches


@given(
    st.lists(
        st.one_of(
            st.from_regex(OPERATION_ID_PATTERN.replace("$", r"\Z")),
            st.from_regex(r"comms_operation_[0-9a-z]{25,35}\Z"),
            st.from_regex(r"comms_operation_[89a][a-h0-9]{25}\Z"),
            st.from_regex(r"xomms_operation_[0-7][a-h0-9]{25}\Z"),
            st.from_regex(r"[comsperatin_]{14,17}[0-7][a-z0-9]{24,26}\Z"),
            st.text(min_size=1, max_size=60),
        ),
        max_size=6,
    )
)
def test_drift_counts_ids_of_another_format(ids: list[str]):
    ids = [one for one in ids if is_unicode(one)]
    odd = sum(not re.fullmatch(OPERATION_ID_PATTERN.strip("^$"), one) for one in ids)
    page = parse_page(body([record(n, id=one) for n, one in enumerate(ids)]))
    assert drift(page.operations)["id that does not match the documented pattern"] == odd


def test_counts_stay_with_their_records():
    """R8: also where other records lack some of them."""
    stats: list[dict[str, int]] = [{"total": n % 5, "opened": n} for n in range(40)]
    stats += [{}, {"failed": 2**63 - 1}, *stats[:20]]
    found = read_page(body([record(n) | {"stats": one} for n, one in enumerate(stats)]))
    assert found is not None
    rows = found[0].select(COUNT_NAMES).to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in rows] == stats


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-20T10:00:00Z", at("2026-11-20 10:00")),
        ("2026-11-20T10:00:00.5Z", at("2026-11-20 10:00:00.5")),
        ("2026-11-20T10:00:00.123456Z", at("2026-11-20 10:00:00.123456")),
        ("2026-11-20T10:00:00+01:00", at("2026-11-20 09:00")),
        ("2026-11-20T10:00:00-00:30", at("2026-11-20 10:30")),
        ("2026-11-20t10:00:00z", at("2026-11-20 10:00")),
        ("2026-11-20T10:00:00.123456000Z", at("2026-11-20 10:00:00.123456")),
    ],
)
def test_fractions_and_offsets_are_accepted_and_stored_in_utc(text: str, instant: datetime):
    """Fact: "`date-time` allows fractions and offsets: accept both; store UTC microseconds"."""
    row = only_row(body([record(1, createdAt=text)]))
    assert row["created_at"] == instant
    assert row["extra"] is None
    again = only_row(body([exact(record_json(row))]))
    assert again["created_at"] == instant


def test_time_finer_than_a_microsecond_is_kept_verbatim():
    """R8."""
    row = only_row(body([record(1, updatedAt="2026-11-20T12:00:00.123456789Z")]))
    assert row["updated_at"] == at("2026-11-20 12:00:00.123456")
    assert exact(record_json(row))["updatedAt"] == "2026-11-20T12:00:00.123456789Z"


def test_unknown_fields_are_reported_in_printable_text():
    found = drift(parse_page(body([record(1, **{"\ud800": 1})])).operations)
    assert found == {"unknown field \\ud800": 1}


def test_very_many_unknown_fields_do_not_hang():
    """pyarrow would look into each, and keep a column for it: minutes for what is read in a second."""
    content = json.dumps({"operations": [{f"field{n}": n} for n in range(20_000)]}).encode()
    assert len(parse_page(content).rejects) == 20_000


def test_refused_token_is_shown_in_the_error():
    content = body([record(n) for n in range(9)]).replace(
        b'"next": null', b'"self2": [], "next": 7'
    )
    with pytest.raises(UnexpectedResponseError, match='"next": 7'):
        parse_page(content)


def test_one_operation_is_parsed_like_a_record_of_a_page():
    content = json.dumps(record(3), indent=1).encode()
    assert parse_operation(content).operations.equals(parse_page(body([record(3)])).operations)
    with pytest.raises(UnexpectedResponseError, match="with an id"):
        parse_operation(b'{"operations":[]}')


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '{"errors": [{"code": 7, "message": "no"}]}',
            [("7", "no", '{"code": 7, "message": "no"}')],
        ),
        (
            '[{"errorCode": "x"}, "text", 5]',
            [("x", None, '{"errorCode": "x"}'), *[(None, None, t) for t in ('"text"', "5")]],
        ),
        (
            '{"data": [{"error": {"code": 1, "detail": "d"}}]}',
            [("1", "d", '{"error": {"code": 1, "detail": "d"}}')],
        ),
        (
            '{"code": 3, "message": "one by itself"}',
            [("3", "one by itself", '{"code": 3, "message": "one by itself"}')],
        ),
        ('{"errors": {"a@b.c": "bounced"}}', [(None, None, '{"errors": {"a@b.c": "bounced"}}')]),
        ('{"errors": 1, "errors": 2}', [(None, None, '{"errors": 1, "errors": 2}')]),
        ('{"errors": [1], "data": []}', [(None, None, '{"errors": [1], "data": []}')]),
        ('{"errors": [], "pagination": 5}', [(None, None, '{"errors": [], "pagination": 5}')]),
        ('{"code": true, "message": ["x"]}', [(None, None, '{"code": true, "message": ["x"]}')]),
        ('"nothing failed"', [(None, None, '"nothing failed"')]),
        ('{"errors": []}', []),
        ("[]", []),
        ("{}", []),
        (" null ", []),
    ],
)
def test_errors_of_any_json_are_kept_as_they_came(
    content: str, expected: list[tuple[str | None, str | None, str]]
):
    """R9: the reference names the address of an operation's errors, and not their form."""
    found = parse_errors(content.encode())
    assert [(one.code, one.message, one.raw) for one in found.errors] == expected
    assert found.next_token is None


def test_errors_have_pages_like_a_listing():
    content = b'{"errors": [{"code": 1}], "pagination": {"next": "t"}}'
    assert parse_errors(content).next_token == "t"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1", b"{} {}"])
def test_errors_without_json_are_damaged(content: bytes):
    with pytest.raises(DamagedResponseError):
        parse_errors(content)


counts = st.none() | st.integers(0, 2**63 - 1)
times = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - Hypothesis adds the zone itself
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001 - as above
    timezones=st.just(UTC),
).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records = st.fixed_dictionaries(
    {
        "id": texts,
        "status": texts,
        "stats": st.fixed_dictionaries({}, optional=dict.fromkeys(COUNT_NAMES, counts)),
        "createdAt": times,
        "updatedAt": times,
    },
    optional={"region": json_values, "note": json_values},
)


@settings(max_examples=150)
@given(st.lists(records, max_size=4))
def test_rows_go_back_to_the_records_they_came_from(items: list[dict[str, Any]]):
    """R8: reading is lossless, unknown fields and absent counts included."""
    page = parse_page(json.dumps({"operations": items}).encode())
    assert page.rejects == ()
    again = [exact(record_json(row)) for row in page.operations.to_pylist()]
    expected = exact(json.dumps(items))
    for one in (*again, *expected):
        for name in ("createdAt", "updatedAt"):
            one[name] = datetime.fromisoformat(one[name])
    assert again == expected


@settings(max_examples=60)
@given(st.lists(records.filter(lambda r: None not in r["stats"].values()), min_size=1, max_size=4))
def test_page_is_read_alike_at_once_and_by_record(items: list[dict[str, Any]]):
    """The fast way never reads a page otherwise than record by record."""
    content = json.dumps({"operations": items}).encode()
    assert parse_page(content).operations.equals(parse_page_by_record(content).operations)


def test_usual_page_is_read_at_once():
    content = body([record(n) for n in range(50)], next_token="t")
    fast = read_page(content)
    assert fast is not None
    assert fast[0].equals(parse_page_by_record(content).operations)
