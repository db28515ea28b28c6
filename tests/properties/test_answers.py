"""Parsing any bytes raises only documented errors and loses no record (R8, R9).

``pytest tests/properties --hypothesis-profile=thorough --timeout 0`` tries many more inputs,
different ones each time.
"""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.twilio.errors import DamagedResponseError
from pipeline.twilio.parsing import parse_errors, parse_operation, parse_page
from tests.properties.pages import error_answers, pages, records, usual_pages, wrecks
from tests.support.cases import some
from tests.support.factories import body, record
from tests.support.oracle import CHECKS, check_errors, check_operation, check_page

answers = pages() | usual_pages() | records().map(str.encode) | error_answers()


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_end_in_a_result_or_in_a_documented_error(figures: Counter[str], content: bytes):
    """R9"""
    for check in CHECKS:
        figures.update(check(content))


@given(pages())
def test_every_record_is_an_unchanged_row_or_verbatim_reject(figures: Counter[str], content: bytes):
    """R8, R9"""
    figures.update(check_page(content))


@given(usual_pages())
def test_fast_parser_reads_what_the_record_parser_reads(figures: Counter[str], content: bytes):
    """R8, R9"""
    figures.update(check_page(content))


@given(records().map(str.encode))
def test_one_operation_is_a_row_unchanged_or_a_reject_verbatim(
    figures: Counter[str], content: bytes
):
    """R8, R9"""
    figures.update(check_operation(content))


@given(error_answers())
def test_every_error_of_an_operation_is_kept_as_it_came(figures: Counter[str], content: bytes):
    """R9"""
    figures.update(check_errors(content))


@given(wrecks(answers))
def test_mutated_responses_lose_nothing_accepted(figures: Counter[str], content: bytes):
    """R8, R9: bytes flipped, cut, inserted, doubled."""
    for check in CHECKS:
        figures.update(check(content))


@pytest.mark.parametrize("depth", some([900, 20_000, 300_000], 2))
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"id":', "}")])
def test_deeply_nested_record_is_one_reject(depth: int, opening: str, closing: str):
    """R9: beyond Python's recursion limit too, without a crash, and with its id."""
    deep = f"{opening * depth}0{closing * depth}"
    for place in ('"status"', '"total"'):
        bad = json.dumps(record(2)).replace(place, f'"x": {deep}, {place}')
        page = parse_page(body([record(1), 0]).replace(b", 0]", f", {bad}]".encode()))
        assert page.operations.num_rows == 1
        (reject,) = page.rejects
        assert (reject.raw, reject.operation_id) == (bad, record(2)["id"])
        assert "levels at most" in reject.reason
        (alone,) = parse_operation(bad.encode()).rejects
        assert alone == reject
        (error,) = parse_errors(f'{{"errors": [{bad}]}}'.encode()).errors
        assert error.raw == bad
    beside = f'{{"x": {deep}, "operations": [{json.dumps(record(1))}]}}'
    assert parse_page(beside.encode()).operations.num_rows == 1


@pytest.mark.parametrize("depth", [97, 200, 5_000])
def test_response_broken_deep_inside_is_damaged(depth: int):
    """R9: skipped values are validated too."""
    for broken in ("[" * depth + "1 2" + "]" * depth, '{"a":' * depth + "[}" + "}" * depth):
        content = body([record(1), 0]).replace(b", 0]", f", {broken}]".encode())
        for parse in (parse_page, parse_errors):
            with pytest.raises(DamagedResponseError):
                parse(content)
