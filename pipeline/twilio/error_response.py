"""Error responses of the API as exceptions, chosen by what the caller can do about each."""

import json
from datetime import datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from pipeline.settings import Settings
from pipeline.twilio.errors import (
    ApiError,
    CredentialsError,
    FatalApiError,
    NotFoundError,
    PageTokenError,
    RetriableApiError,
    excerpt,
)
from pipeline.twilio.response_time import date_of
from pipeline.twilio.retry import parse_retry_after
from pipeline.twilio.transport import Response

_INVALID_PAGE_TOKEN: Final = 21481
_RETRIABLE_STATUSES: Final = frozenset({408, 425, 429})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REQUEST_ID_HEADERS: Final = ("twilio-request-id", "x-request-id")


def error_of(
    request: str,
    response: Response,
    body: bytes,
    responded_at: datetime | None,
    settings: Settings,
    *,
    is_listing: bool,
    has_token: bool,
) -> ApiError:
    """The exception for a response whose status is not 200.

    Args:
        request: method and path, for the message.
        response: the response.
        body: its body without credentials (R11).
        responded_at: when it was made: UTC, by the API's clock; None if that is not known.
        settings: the address and credentials in use.
        is_listing: whether a page of operations was requested, and not a single operation.
        has_token: whether the request had a page token.
    """
    code, message, info_url = _envelope(body)
    text = f"{request}: {response.status}"
    text += f" {code}" if code else ""
    text += f": {message}" if message else ""
    text += f" (see {info_url})" if info_url else ""
    kind, advice = _kind_and_advice(
        response, code, settings, is_listing=is_listing, has_token=has_token
    )
    return kind(
        f"{text}{advice}",
        status=response.status,
        code=code,
        info_url=info_url,
        request_id=request_id_of(response),
        retry_after=parse_retry_after(response.headers.get("retry-after"), date_of(response)),
        responded_at=responded_at,
    )


def _kind_and_advice(
    response: Response, code: int | None, settings: Settings, *, is_listing: bool, has_token: bool
) -> tuple[type[ApiError], str]:
    status, location = response.status, response.headers.get("location")
    if status in _REDIRECTS and location:
        host = urlsplit(location).hostname or "another path"
        return FatalApiError, (
            f". Redirected to {host}: not followed, to keep the credentials safe. "
            "Set EMAIL_ARCHIVE_API_URL to the right address"
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return CredentialsError, (
            ". The API refuses the credentials: expected the account's SID with its auth token, or one of "
            f"its API keys with the key's secret. {_check(settings)}"
        )
    if code == _INVALID_PAGE_TOKEN or (status == HTTPStatus.BAD_REQUEST and has_token):
        return PageTokenError, ". The page token is refused: scan the window again"
    if status in _RETRIABLE_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetriableApiError, ""
    if status == HTTPStatus.NOT_FOUND and is_listing:
        return (
            FatalApiError,
            f". Is EMAIL_ARCHIVE_API_URL right ({settings.api_url})? It ends in /v1",
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError, ". The API does not know this operation (any more)"
    return FatalApiError, ""


def _check(settings: Settings) -> str:
    if settings.config:
        return (
            f"Check the account in {settings.config}, and the variable or file that it names there"
        )
    return (
        "Check TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN, or with TWILIO_API_KEY_SID and "
        "TWILIO_API_KEY_SECRET"
    )


def request_id_of(response: Response) -> str | None:
    """The server's id of the request, from a response header; None if it sends none."""
    values = (response.headers.get(name) for name in _REQUEST_ID_HEADERS)
    return next((excerpt(value) for value in values if value), None)


def _envelope(body: bytes) -> tuple[int | None, str, str | None]:
    """Code, message and info URL of Twilio's error envelope; the message is an excerpt of any other body."""
    try:
        envelope = json.loads(body)
        first = envelope["errors"][0] if "errors" in envelope else envelope
        code, message, info_url = first.get("code"), first.get("message"), first.get("infoUrl")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None, excerpt(body.decode(errors="replace")), None
    return (
        code if type(code) is int else None,
        excerpt(message if isinstance(message, str) else body.decode(errors="replace")),
        excerpt(info_url) if isinstance(info_url, str) and info_url else None,
    )
