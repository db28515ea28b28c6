"""The emulator's clock, which can be set, stepped and run fast."""

import threading
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """A clock in UTC.

    Args:
        now: its first time.
        rate: simulated seconds per real second; 0 stops it.
    """

    def __init__(self, now: datetime, rate: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._shown = now.astimezone(UTC)
        self._since = time.monotonic()
        self._rate = rate

    def now(self) -> datetime:
        """The current simulated time."""
        with self._lock:
            return self._now()

    @property
    def rate(self) -> float:
        """Simulated seconds per real second."""
        return self._rate

    def set(self, now: datetime) -> None:
        """Set the time."""
        with self._lock:
            self._restart(now.astimezone(UTC), self._rate)

    def step(self, by: timedelta) -> None:
        """Move the time forward, or back if negative."""
        with self._lock:
            self._restart(self._now() + by, self._rate)

    def run(self, rate: float) -> None:
        """Change the rate."""
        with self._lock:
            self._restart(self._now(), rate)

    def _now(self) -> datetime:
        if not self._rate:
            return self._shown
        return self._shown + timedelta(seconds=(time.monotonic() - self._since) * self._rate)

    def _restart(self, shown: datetime, rate: float) -> None:
        self._shown, self._since, self._rate = shown, time.monotonic(), rate
