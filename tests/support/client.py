"""The client against a scripted API, without waiting."""

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient, Page
from pipeline.twilio.errors import ApiError
from tests.support.factories import ACCOUNT, NOON, body
from tests.support.scripted_api import Answer, Received, ScriptedApi, scripted

TOKEN = "tok-3n-very-secret"
WINDOW = Window(NOON, NOON + timedelta(hours=1))
EMPTY = Answer(body([]))
Script = list[Answer] | Callable[[Received], Answer]


@contextmanager
def api(answers: Script, **fields: Any) -> Iterator[tuple[OperationsClient, ScriptedApi]]:
    """A client of a scripted server, that does not really wait."""
    fields = {"auth_token": TOKEN, "retry_attempts": 3} | fields
    with (
        scripted(answers) as server,
        OperationsClient(
            Settings(account_sid=ACCOUNT, api_url=server.url, **fields), sleep=lambda _: None
        ) as client,
    ):
        yield client, server


def listed(answers: Script, **fields: Any) -> list[Page]:
    with api(answers, **fields) as (client, _):
        return list(client.pages(WINDOW))


def error_of(answers: Script, **fields: Any) -> ApiError:
    """What listing raises; whatever it is, it shows no credentials (R11)."""
    with pytest.raises(ApiError) as caught:
        listed(answers, **fields)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert TOKEN not in shown
    return caught.value


def envelope(status: int, code: int, message: str, **more: Any) -> Answer:
    error = {"code": code, "message": message, "infoUrl": None, "context": None} | more
    return Answer(json.dumps({"errors": [error]}).encode(), status)
