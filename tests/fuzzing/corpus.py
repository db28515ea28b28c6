"""The fuzzer's corpus: responses of the emulated API, and a dictionary of words in them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from pipeline.emulator import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN, Clock, Options, World, running
from pipeline.model.schema import COUNT_NAMES
from tests.properties.pages import NUMBERS, TEXTS, TIMES

_START = datetime(2026, 11, 20, tzinfo=UTC)
_FIELDS = ("id", "status", "stats", "createdAt", "updatedAt")
_ENVELOPE = (
    "operations",
    "data",
    "errors",
    "pagination",
    "next",
    "self",
    "error",
    "code",
    "message",
)


def write_corpus(folder: Path) -> int:
    """Write responses of an emulated API, one file each; return how many."""
    answers = sorted({answer for drifting in (False, True) for answer in _answers(drifting)})
    for number, answer in enumerate(answers):
        (folder / f"answer-{number}").write_bytes(answer)
    return len(answers)


def _answers(drifting: bool) -> Iterator[bytes]:
    world = World(5, 300.0, _START, unknown_fields=drifting, omit_recipients_and_attempts=drifting)
    options = Options(records_key="data" if drifting else "operations")
    now = _START + timedelta(hours=20)
    auth = (DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN)
    with (
        running(world, clock=Clock(now), options=options) as emulator,
        httpx2.Client(base_url=emulator.url, auth=auth) as http,
    ):
        address = f"{emulator.url}/Emails/Operations"
        for size in (1, 2, 5):
            page = http.get(address, params={"pageSize": str(size)})
            yield page.content
        yield http.get(address, params={"endDate": "2026-11-20T00:00:00Z"}).content
        failed = max(world.records(range(200), now), key=lambda record: record["stats"]["failed"])
        yield http.get(f"{address}/{failed['id']}").content
        yield http.get(f"{address}/{failed['id']}/Errors", params={"pageSize": "3"}).content
        yield http.get(f"{address}/unknown").content


def write_dictionary(file: Path) -> None:
    """Write the words that the fuzzer may put into a response."""
    words = [
        *(json.dumps(name) for name in (*_FIELDS, *COUNT_NAMES, *_ENVELOPE)),
        *(json.dumps(time) for time in TIMES),
        *(json.dumps(text, ensure_ascii=False) for text in TEXTS if text.isprintable()),
        *(number for number in NUMBERS if len(number) < 50),
        *('"\\ud800"', '"\\u0000"', "null", "true", "false", "{}", "[]", '"":', "[" * 70, "]" * 70),
        '{"operations":[',
    ]
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words)
    file.write_text("".join(f'"{line}"\n' for line in lines))
