"""A window of a scripted API, scanned."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pipeline.extract.scan import ScanResult, scan_window
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient
from tests.support.factories import ACCOUNT, NOON, body
from tests.support.scripted_api import Answer, Received, scripted

HOUR = timedelta(hours=1)
WINDOW = Window(NOON, NOON + HOUR)
Script = list[Answer] | Callable[[Received], Answer]


@contextmanager
def api(
    answers: Script,
    *,
    sleep: Callable[[float], object] = lambda _: None,
    **fields: Any,
) -> Iterator[OperationsClient]:
    with scripted(answers) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", api_url=server.url, retry_attempts=2, **fields
        )
        with OperationsClient(settings, sleep=sleep) as client:
            yield client


def scanned(*pages: list[Any], dates: list[str] | None = None) -> ScanResult:
    """The scan of a window that answered these pages."""
    answers = []
    for number, page in enumerate(pages):
        token = f"t{number}" if number < len(pages) - 1 else None
        answers.append(Answer(body(page, token), **({"date": dates[number]} if dates else {})))
    with api(answers) as client:
        return scan_window(client, ACCOUNT, WINDOW)
