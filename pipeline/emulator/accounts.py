"""Several accounts behind one address, each with credentials and a world of its own."""

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, get_args

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.emulator.lifecycle import Counting
from pipeline.emulator.world import World
from pipeline.errors import UsageError

_SPEC: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})=([0-9]+(?:\.[0-9]+)?)(?:,([a-z]+))?")


class ByCredentials:
    """ASGI application that passes a request on to the account whose credentials it has.

    Args:
        apps: the application of each account, by its user and password as in HTTP Basic. What has other
            credentials, or none, goes to the first one, which refuses it.
    """

    def __init__(self, apps: Mapping[bytes, ASGIApp]) -> None:
        self._apps = dict(apps)
        self._first = next(iter(self._apps.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        app = self._first
        if scope["type"] == "http":
            app = self._apps.get(basic_credentials(Headers(scope=scope)), app)
        await app(scope, receive, send)


def basic_credentials(headers: Mapping[str, str]) -> bytes:
    """User and password of HTTP Basic, with a colon between them; empty if there are none."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    try:
        return b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
    except ValueError:
        return b""


@dataclass(frozen=True, slots=True)
class EmulatedAccount:
    """An account that the command serves. Its credentials follow from its name.

    Attributes:
        name: its name.
        per_day: its operations per day, on average.
        counting: how it counts; None for that of the command.
    """

    name: str
    per_day: float
    counting: Counting | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``NAME=PER_DAY`` or ``NAME=PER_DAY,COUNTING``.

        Raises:
            UsageError: it is no such text.
        """
        match = _SPEC.fullmatch(text)
        counting = next((one for one in get_args(Counting) if match and one == match[3]), None)
        if not match or float(match[2]) <= 0 or (match[3] and not counting):
            known = " or ".join(get_args(Counting))
            msg = (
                f"expected --account NAME=PER_DAY or NAME=PER_DAY,COUNTING ({known}); got {text!r}"
            )
            raise UsageError(msg)
        return cls(match[1], float(match[2]), counting)

    @property
    def sid(self) -> str:
        """Its SID."""
        return f"AC{self._digest('sid')}"

    @property
    def auth_token(self) -> str:
        """Its token, which is valid for this emulator only."""
        return self._digest("token")

    @property
    def token_variable(self) -> str:
        """The environment variable that the printed configuration has its token in."""
        return re.sub(r"[^A-Z0-9]", "_", f"TOKEN_OF_{self.name.upper()}")

    def _digest(self, what: str) -> str:
        return hashlib.sha256(f"{what} of {self.name}".encode()).hexdigest()[:32]


def worlds(accounts: Sequence[EmulatedAccount], base: World) -> list[World]:
    """The world of each account, in their order, like `base` in all that they do not say themselves.

    The first has the seed of `base`; those of the others differ by their names.
    """
    return [
        replace(
            base,
            seed=base.seed + (int(one._digest("seed")[:6], 16) if position else 0),
            per_day=one.per_day,
            counting=one.counting or base.counting,
        )
        for position, one in enumerate(accounts)
    ]


def configuration(accounts: Sequence[EmulatedAccount], url: str) -> Iterator[str]:
    """The lines of an `email-archive.toml` for these accounts."""
    for account in accounts:
        yield "[[accounts]]"
        yield f'sid = "{account.sid}"'
        yield f'name = "{account.name}"'
        yield f'api_url = "{url}"'
        yield f'auth_token_env = "{account.token_variable}"'
