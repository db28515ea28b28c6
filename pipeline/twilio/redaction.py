"""Credentials removed from response bodies: a proxy may echo the request (R11)."""

import base64
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from pipeline.twilio.errors import ApiError

_MASK: Final = b"***"


class Redaction:
    """Masks the credentials of HTTP Basic in response bodies: in base64, in clear and percent-encoded."""

    def __init__(self, user: str, secret: str) -> None:
        basic = base64.b64encode(f"{user}:{secret}".encode())
        self._secrets = {basic, secret.encode(), quote(secret, safe="").encode()}

    def mask(self, body: bytes) -> bytes:
        """A body with its credentials replaced by ``***``."""
        for secret in self._secrets:
            body = body.replace(secret, _MASK)
        return body

    def reason(self, error: ApiError, parse: Callable[[bytes], object], body: bytes) -> str:
        """Why `parse` refused a body with `error`, without credentials.

        The message quotes the body, possibly cut inside a credential, so the masked body is parsed again.
        """
        masked = self.mask(body)
        if masked == body:
            return str(error)
        try:
            parse(masked)
        except ApiError as without:
            return str(without)
        return "the response contains the credentials of the request"
