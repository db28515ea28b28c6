"""Faults of an emulated API, at random or by script, reproducible from a seed.

A request has at most one fault. It depends on the request and on the number of identical requests before it,
but not on the timing of threads; so a retry can succeed. Faults of records depend on the record.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from pipeline.emulator.chance import chances
from pipeline.errors import UsageError
from pipeline.model.windows import deadline

REFUSALS: Final = {
    "429": 429,
    "429-zero": 429,
    "429-date": 429,
    "500": 500,
    "502": 502,
    "503": 503,
    "503-retry-after": 503,
    "html-error": 502,
}
CONNECTIONS: Final = ("reset", "reset-midway", "drip", "length-short", "length-long")
BODIES: Final = ("html", "gzip", "truncated", "date-skew")
PAGE_SIZES: Final = ("large-page-500", "large-page-hang")
LISTINGS: Final = (
    "capped",
    "capped-silently",
    "duplicates",
    "reordered",
    "empty-pages",
    "token-refused",
    "token-loop",
    "stale",
    "partial",
)
RECORDS: Final = ("late", "malformed", "unknown-field", "unknown-status")
CLOCKS: Final = ("wrong-date",)
FAULTS: Final = (*REFUSALS, *CONNECTIONS, *BODIES, *PAGE_SIZES, *LISTINGS, *RECORDS, *CLOCKS)
"""All kinds of faults. `Faults` describes them."""

SCOPE: Final = "email_archive.fault"
"""The key of a request's fault in its ASGI scope."""

_SCRIPTED_SHARE: Final = 0.5  # share of records with a scripted fault, in one response
_MISSING_SHARE: Final = 0.5  # share of old records missing from a partial response

_DAMAGE: Final[tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]] = (
    lambda record: record | {"stats": dict(record["stats"]) | {"opened": -1}},
    lambda record: record | {"stats": dict(record["stats"]) | {"total": "many"}},
    lambda record: record | {"createdAt": "yesterday"},
    lambda record: record | {"status": None},
    lambda record: {name: value for name, value in record.items() if name != "id"},
    lambda record: {name: value for name, value in record.items() if name != "updatedAt"},
)


@dataclass(frozen=True)
class Faults:
    """The faults of an emulated API.

    - ``429``, ``429-zero``, ``429-date``: too many requests, with Retry-After in seconds, 0, a date.
    - ``500``, ``502``, ``503``, ``503-retry-after``: server errors in Twilio's envelope.
    - ``html-error``, ``html``: a proxy's HTML page, as a 502 and as a 200.
    - ``reset``, ``reset-midway``: the connection is reset before the response, or within its body.
    - ``drip``: the body comes in small pieces, slowly.
    - ``length-short``, ``length-long``: Content-Length is too small, or too large.
    - ``gzip``, ``truncated``: a damaged compressed body; a body cut in the middle. Both with 200.
    - ``date-skew``: ``Date`` is wrong by up to `skew` in both directions; ``wrong-date``: by `wrong_by`.
    - ``large-page-500``, ``large-page-hang``: a pageSize above `large_page` gets a 500, or no response.
    - ``capped``, ``capped-silently``: a listing has at most `cap` records: the token of the next page is
      refused, or missing.
    - ``duplicates``: a page repeats records of itself and of the page before; ``reordered``: its records
      are in another order; ``empty-pages``: it is empty, with a token for the next one.
    - ``token-refused``: its token is refused; ``token-loop``: its next token is its own.
    - ``stale``: the response to a listing or a lookup by id is as of `stale_by` ago, as from a replica.
    - ``partial``: a listing lacks half of the records in hours past their deadline.
    - ``late``: a record is in no listing for its first `late_by`.
    - ``malformed``: a record is damaged the first time; ``unknown-field``, ``unknown-status``: it always
      has one. In a script, these four apply to half of one response's records.

    Attributes:
        seed: of the random choices.
        rates: the probability of each kind, per request, or per record for the last four.
        script: the faults of the first requests, in order; None for none. Requests after it follow
            `rates`; records always do.
        retry_after: the wait in Retry-After.
        stale_by: the age of stale responses.
        late_by: how late a record may appear.
        skew: the largest error of ``Date``.
        wrong_by: the error of a wrong ``Date``; negative if it is behind.
        drip_seconds: duration of a slow body, in real seconds.
        large_page: the largest pageSize without a ``large-page`` fault.
        cap: the number of records in a capped listing.
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    script: Sequence[str | None] = ()
    retry_after: timedelta = timedelta(seconds=1)
    stale_by: timedelta = timedelta(minutes=10)
    late_by: timedelta = timedelta(minutes=10)
    skew: timedelta = timedelta(minutes=2)
    wrong_by: timedelta = timedelta(days=400)
    drip_seconds: float = 0.05
    large_page: int = 100
    cap: int = 5000

    def __post_init__(self) -> None:
        unknown = [kind for kind in (*self.rates, *filter(None, self.script)) if kind not in FAULTS]
        of_requests = sum(rate for kind, rate in self.rates.items() if kind not in RECORDS)
        if unknown or of_requests > 1 or not all(0 <= rate <= 1 for rate in self.rates.values()):
            msg = (
                f"expected rates from 0 to 1, with a sum of at most 1, for {', '.join(FAULTS)}; "
                f"got {', '.join(unknown) or dict(self.rates)}"
            )
            raise UsageError(msg)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Parse a text like ``429=0.05,reset=0.01,seed=7`` or ``script=429/none/reset``.

        Raises:
            UsageError: the text is invalid; the message names every kind.
        """
        seed, rates = 0, dict[str, float]()
        script: tuple[str | None, ...] = ()
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            try:
                if name == "seed":
                    seed = int(value)
                elif name == "script":
                    script = tuple(None if kind == "none" else kind for kind in value.split("/"))
                else:
                    rates[name] = float(value)
            except ValueError as error:
                msg = f"expected name=rate, like 429=0.05,reset=0.01,seed=7; got {part!r}"
                raise UsageError(msg) from error
        return cls(seed, rates, script)


class Injector:
    """Chooses the faults of requests and records, and counts them.

    Attributes:
        injected: how often each kind was injected.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.injected: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._requests = 0
        self._times: Counter[str] = Counter()
        self._damaged: set[int] = set()

    def of_request(self, path: str, query: str) -> str | None:
        """The fault of a new request; None for none."""
        faults = self.faults
        with self._lock:
            place, self._requests = self._requests, self._requests + 1
            key = f"{path}?{query}"
            times, self._times[key] = self._times[key], self._times[key] + 1
        if place < len(faults.script):
            return faults.script[place]
        draw = _draw(faults.seed, key, times)
        for kind, rate in faults.rates.items():
            if kind in RECORDS:
                continue
            if draw < rate:
                return kind
            draw -= rate
        return None

    def count(self, kind: str) -> None:
        """Count a fault as injected."""
        with self._lock:
            self.injected[kind] += 1

    def counted(self, fault: str | None, kind: str) -> bool:
        """Whether a request's fault is of this kind; if so, it is counted."""
        if fault == kind:
            self.count(kind)
        return fault == kind

    def hides(
        self, number: int, created_at: datetime, now: datetime, fault: str | None = None
    ) -> bool:
        """Whether a record is missing from a listing with this fault."""
        if fault == "partial" and now >= deadline(created_at):
            return self._chance(fault, number) < _MISSING_SHARE
        if now - created_at >= self.faults.late_by or not self._has("late", number, fault):
            return False
        self.count("late")
        return True

    def with_faults(
        self, number: int, record: dict[str, Any], fault: str | None = None
    ) -> dict[str, Any]:
        """A record with its faults, for a response with this fault."""
        if self._has("unknown-field", number, fault):
            self.count("unknown-field")
            record = record | {"campaign": {"name": f"c{number}", "steps": [1, None]}}
        if self._has("unknown-status", number, fault):
            self.count("unknown-status")
            record = record | {"status": "PAUSED"}
        if self._has("malformed", number, fault):
            with self._lock:
                is_first = number not in self._damaged
                self._damaged.add(number)
            if is_first or fault == "malformed":
                self.count("malformed")
                return _DAMAGE[number % len(_DAMAGE)](record)
        return record

    def skew(self, key: str) -> timedelta:
        """The error of a ``Date``."""
        seconds = self.faults.skew.total_seconds()
        return timedelta(seconds=round((2 * _draw(self.faults.seed, key, -1) - 1) * seconds))

    def _has(self, kind: str, number: int, fault: str | None) -> bool:
        rate = _SCRIPTED_SHARE if kind == fault else self.faults.rates.get(kind, 0.0)
        return bool(rate) and self._chance(kind, number) < rate

    def _chance(self, kind: str, number: int) -> float:
        seed = self.faults.seed + 1 + FAULTS.index(kind)
        return float(chances(seed, np.array([number]))[0])


def _draw(seed: int, key: str, times: int) -> float:
    """A pseudo-random number in [0, 1) for a request."""
    digest = hashlib.sha256(f"{seed} {times} {key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
