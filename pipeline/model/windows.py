"""Slots, days, windows and deadlines: pure functions of UTC times.

No clock is read: `now` is always an argument (R10).

A *slot* is one UTC hour of ``created_at``, a *day* one UTC date of it, and a *window* a half-open range
``[start, end)`` within one day. The *deadline* of a slot is its start plus seven days: from then on the API
may have dropped part of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pipeline.model.times import iso_seconds

SLOT = timedelta(hours=1)
DAY = timedelta(days=1)

RETENTION = timedelta(days=7)
"""How long the API keeps an operation from its creation (reference: "7 days after creation")."""

FINAL_WITHIN = timedelta(hours=12)
"""A scan of a slot is a final scan if it begins at most this long before the slot's deadline."""

FINAL_LATEST = timedelta(hours=8)
"""The least time before a deadline at which final scans may begin. Any later, slots would be at risk."""

RISK_WITHIN = timedelta(hours=6)
"""A slot without a final scan is at risk if less time is left: scans are late or fail."""

CLOCK_MARGIN = timedelta(hours=1)
"""The largest difference between two correct clocks. A wrong time zone makes a difference of an hour."""

MARGIN = timedelta(seconds=1)
"""A query extends its window by this margin on both sides.

The reference does not say whether a bound is inclusive, and the API's times may be whole seconds. With a
margin of one second, and records outside the window dropped, the result is right in every case (R7).
"""


def require_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; raise ``ValueError`` if it has no time zone."""
    if moment.tzinfo is None:
        msg = f"expected a time with a time zone, got {moment.isoformat()}: add Z or an offset"
        raise ValueError(msg)
    return moment.astimezone(UTC)


def midnight(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime.combine(day, time.min, tzinfo=UTC)


def slot_start(moment: datetime) -> datetime:
    """The start of the slot that holds `moment`."""
    return require_utc(moment).replace(minute=0, second=0, microsecond=0)


def deadline(moment: datetime) -> datetime:
    """The deadline of the slot that holds `moment`."""
    return slot_start(moment) + RETENTION


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A half-open range ``[start, end)`` of ``created_at`` within one UTC day, which one scan lists.

    Raises:
        ValueError: a bound has no time zone, the range is empty, or it extends beyond its day.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc(self.start))
        object.__setattr__(self, "end", require_utc(self.end))
        if self.start >= self.end:
            msg = f"expected a window whose start lies before its end, got {self}"
            raise ValueError(msg)
        if self.end > midnight(self.start.date()) + DAY:
            msg = f"expected a window inside one UTC day, got {self}: cut it with windows_between()"
            raise ValueError(msg)

    @classmethod
    def of_day(cls, day: date) -> "Window":
        """The window that is a whole UTC day."""
        return cls(midnight(day), midnight(day) + DAY)

    @property
    def day(self) -> date:
        """The UTC day that the window lies in: its partition."""
        return self.start.date()

    def query_bounds(self) -> tuple[datetime, datetime]:
        """The bounds of the API query: whole seconds, with `MARGIN` on both sides (R7)."""
        start = self.start.replace(microsecond=0)
        end = self.end
        if end.microsecond:
            end = end.replace(microsecond=0) + timedelta(seconds=1)
        return start - MARGIN, end + MARGIN

    def slots(self) -> Iterator[datetime]:
        """The starts of the slots that the window touches, in order."""
        slot = slot_start(self.start)
        while slot < self.end:
            yield slot
            slot += SLOT

    def __str__(self) -> str:
        return f"{iso_seconds(self.start)}/{iso_seconds(self.end)}"


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included; empty if `first` is after `last`."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def windows_between(start: datetime, end: datetime) -> list[Window]:
    """``[start, end)`` split at midnight: one window per UTC day."""
    start, end = require_utc(start), require_utc(end)
    return [
        Window(max(start, midnight(day)), min(end, midnight(day) + DAY))
        for day in days_between(start.date(), end.date())
        if max(start, midnight(day)) < min(end, midnight(day) + DAY)
    ]


def retained_days(now: datetime) -> list[date]:
    """The days that the API may still have operations of: the last seven and today."""
    today = require_utc(now).date()
    return days_between(today - RETENTION, today)
