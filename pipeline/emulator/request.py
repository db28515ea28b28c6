"""Parsing and validation of requests, and the responses to invalid ones."""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from pipeline.model.windows import midnight

_LATEST: Final = datetime.max.replace(tzinfo=UTC) - timedelta(seconds=1)
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:[0-5]\d))?",
    re.ASCII | re.IGNORECASE,
)
MAX_PAGE_SIZE: Final = 1000
_DEFAULT_PAGE_SIZE: Final = 50
_CODES: Final = {400: 20001, 401: 20003, 403: 20403, 404: 20404, 405: 20405}
INVALID_PAGE_TOKEN: Final = 21481


class RefusedError(HTTPException):
    """A request that gets an error response, with a code of Twilio's."""

    def __init__(
        self,
        status: int,
        message: str,
        code: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.code = code or _CODES.get(status, 20500)


def page_size(text: str | None) -> int:
    """The value of pageSize."""
    if text is None:
        return _DEFAULT_PAGE_SIZE
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise RefusedError(400, f"pageSize must be a number from 1 to {MAX_PAGE_SIZE}")
    return int(text)


def moment_of(name: str, text: str) -> datetime:
    """A date-time in UTC. A bare date, as in the reference's example, means its start."""
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
    except OverflowError:  # before the year 1 or after 9999
        return moment.replace(tzinfo=UTC)


def next_second(moment: datetime) -> datetime:
    """The first whole second after a moment, at most the last one that Python can represent."""
    return min(moment, _LATEST).replace(microsecond=0) + timedelta(seconds=1)


def write_token(place: int, filters: list[str | None], *, is_empty: bool) -> str:
    """A token for the page that begins at a place, valid for these filters only."""
    payload = json.dumps([place, is_empty, _checksum(filters)]).encode()
    return base64.urlsafe_b64encode(zlib.crc32(payload).to_bytes(4, "big") + payload).decode()


def read_token(token: str, filters: list[str | None]) -> tuple[int, bool]:
    """The place of the token's page, and whether the page before was empty."""
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


def error_response(error: HTTPException) -> JSONResponse:
    """An error in Twilio's envelope."""
    if not isinstance(error, RefusedError):
        phrase = HTTPStatus(error.status_code).phrase
        error = RefusedError(error.status_code, phrase, headers=error.headers)
    content = {
        "code": error.code,
        "message": error.detail,
        "infoUrl": f"https://www.twilio.com/docs/errors/{error.code}",
        "context": None,
    }
    response = JSONResponse({"errors": [content]}, error.status_code, error.headers)
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
    return response


def require_local(request: Request) -> None:
    """Refuse requests from other machines."""
    if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
        raise RefusedError(403, "The emulator can only be controlled from its own machine")
