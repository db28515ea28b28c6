"""The emulated API against its OpenAPI description, which is written from the reference page.

schemathesis makes requests from the description, valid and invalid ones; every response must be one that
the description has: status, headers, content type, schema, `Allow` with a 405, nothing without
credentials.
"""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pipeline.emulator import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN, Clock, Emulator, World, running
from pipeline.emulator.server import DESCRIPTION
from pipeline.model.schema import COUNT_NAMES, OPERATION_ID_PATTERN, STATUSES
from tests.support.factories import at

DOCUMENT: dict[str, Any] = json.loads(DESCRIPTION.read_bytes())
WORLD = World(3, 2000.0, at("2026-11-01"))
NOW = at("2026-11-20 15:00")
AUTH = (DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN)
RECENT = WORLD.records(WORLD.numbers(at("2026-11-20"), at("2026-11-20 12:00")), NOW)
FAILED = max(RECENT, key=lambda record: record["stats"]["failed"])


def with_ids_that_exist() -> dict[str, Any]:
    """The description, with operations of this world among the examples that are tried first."""
    document = copy.deepcopy(DOCUMENT)
    ids = {f"known-{n}": {"value": r["id"]} for n, r in enumerate([FAILED, *RECENT[:2]])}
    document["components"]["parameters"]["operationId"]["examples"] = ids
    return document


# schemathesis adds the credentials itself, so that it knows when it left them out or made them up.
CONFIG = schemathesis.Config.from_dict(
    {"auth": {"openapi": {"basic": {"username": AUTH[0], "password": AUTH[1]}}}}
)
schema = schemathesis.openapi.from_dict(with_ids_that_exist(), config=CONFIG)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with running(WORLD, clock=Clock(NOW)) as emulator:
        yield emulator


@schema.parametrize()
@settings(max_examples=60)
def test_every_response_is_in_the_description(case: schemathesis.Case, emulator: Emulator):
    # A token that was not given out is refused: no schema can tell it from one that was.
    refused = [positive_data_acceptance] if "pageToken" in (case.query or {}) else []
    case.call_and_validate(base_url=emulator.url, excluded_checks=refused)


@pytest.mark.parametrize(
    ("address", "query", "auth", "status"),
    [
        ("", {"pageSize": "3"}, AUTH, 200),
        ("", {"endDate": "0001-01-01T00:00:00+23:59"}, AUTH, 200),
        ("", {"startDate": "9999-12-31T23:59:59.999999Z"}, AUTH, 200),
        ("", {"startDate": "9999-12-31T23:59:59-23:59"}, AUTH, 200),
        ("", {"startDate": "20261120T10"}, AUTH, 400),
        ("", {"startDate": "2026-W01-1"}, AUTH, 400),
        ("", {}, None, 401),
        (f"/{FAILED['id']}", {}, AUTH, 200),
        (f"/{FAILED['id']}", {}, ("x", "y"), 401),
        ("/", {}, AUTH, 404),
        (f"/{FAILED['id']}/Errors", {"pageSize": "1"}, AUTH, 200),
        (f"/{FAILED['id']}/Errors", {"pageToken": "x"}, AUTH, 400),
        ("/unknown/Errors", {}, AUTH, 404),
    ],
)
def test_outcome_of_every_kind_is_described(
    emulator: Emulator, address: str, query: dict[str, str], auth: Any, status: int
):
    answer = httpx2.get(f"{emulator.url}/Emails/Operations{address}", params=query, auth=auth)
    assert answer.status_code == status, answer.text
    described = schema[f"/Emails/Operations{re.sub('^/[^/]*', '/{operationId}', address)}"]["GET"]
    described.validate_response(
        schemathesis.Response(
            status_code=answer.status_code,
            headers={name.lower(): [value] for name, value in answer.headers.items()},
            content=answer.content,
            request=answer.request,  # type: ignore[arg-type]  # only shown in a failure
            elapsed=0.0,
            verify=False,
        )
    )


def test_wrong_method_says_which_ones_are_right(emulator: Emulator):
    answer = httpx2.post(f"{emulator.url}/Emails/Operations", auth=AUTH)
    assert answer.status_code == 405
    assert sorted(answer.headers["Allow"].split(", ")) == ["GET", "HEAD"]


def test_description_is_served_to_this_machine(emulator: Emulator):
    root = emulator.url.removesuffix("/v1")
    assert httpx2.get(f"{root}/emulator/openapi.json").json() == DOCUMENT


def test_description_knows_what_the_schema_knows():
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Status"]["enum"] == list(STATUSES)
    assert schemas["OperationId"]["pattern"] == OPERATION_ID_PATTERN
    stats = schemas["EmailOperationStats"]
    assert list(stats["properties"]) == list(COUNT_NAMES)
    assert set(stats["required"]) == set(COUNT_NAMES)
