"""What a request asks for, checked: a refusal is an answer in Twilio's envelope.

What the filters mean is `server`'s.
"""

import base64
import json
import re
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pipeline.windows import midnight

_LATEST: Final = datetime.max.replace(tzinfo=UTC) - timedelta(seconds=1)
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:[0-5]\d))?",
    re.ASCII | re.IGNORECASE,
)
MAX_PAGE_SIZE: Final = 1000
_DEFAULT_PAGE_SIZE: Final = 50
_CODES: Final = {400: 20001, 401: 20003, 403: 20403, 404: 20404, 405: 20405}
INVALID_PAGE_TOKEN: Final = 21481


class RefusedError(Exception):
    """A request that is answered with an error of Twilio's envelope."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code or _CODES.get(status, 20500)


def page_size(text: str | None) -> int:
    """How many records a page is asked to hold."""
    if text is None:
        return _DEFAULT_PAGE_SIZE
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise RefusedError(400, f"pageSize must be a number from 1 to {MAX_PAGE_SIZE}")
    return int(text)


def moment_of(name: str, text: str) -> datetime:
    """A date-time in UTC, or the beginning of a bare date, as the reference's example has it."""
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        if len(text) == len("2026-11-20"):
            return midnight(date.fromisoformat(text))
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise RefusedError(400, f"{name} must be an RFC 3339 date-time") from None
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # hours before the year 1 or after 9999: nothing lies there
        return moment.replace(tzinfo=UTC)


def next_second(moment: datetime) -> datetime:
    """The first whole second after a moment; the last one that Python knows has none."""
    return min(moment, _LATEST).replace(microsecond=0) + timedelta(seconds=1)


def write_token(place: int, filters: list[str | None], *, is_empty: bool) -> str:
    """A token for the page that begins at a place, good for these filters alone."""
    payload = json.dumps([place, is_empty, _checksum(filters)]).encode()
    return base64.urlsafe_b64encode(zlib.crc32(payload).to_bytes(4, "big") + payload).decode()


def read_token(token: str, filters: list[str | None]) -> tuple[int, bool]:
    """Where a token's page begins, and whether the one before was empty."""
    try:
        raw = base64.urlsafe_b64decode(token)
        if zlib.crc32(raw[4:]).to_bytes(4, "big") != raw[:4]:
            raise ValueError
        place, is_empty, checksum = json.loads(raw[4:])
        if checksum != _checksum(filters):
            raise ValueError
    except (ValueError, TypeError):
        raise RefusedError(400, "Invalid page token", INVALID_PAGE_TOKEN) from None
    return int(place), bool(is_empty)


def _checksum(filters: list[str | None]) -> int:
    return zlib.crc32(json.dumps(filters).encode())
