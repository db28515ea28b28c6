"""Arithmetic on time: slots, days, windows and deadlines.

Everything here is pure and in UTC. No clock is read: `now` is always an argument (R10).

The words are those of the design: a *slot* is one UTC hour of ``created_at``, a *day* one UTC date
of it, a *window* a half-open range ``[start, end)`` inside one day, and the *deadline* of a slot is
its start plus seven days: from then on the API may have forgotten part of it.
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
"""A scan that begins with no more time left before a slot's deadline is a final scan of it."""

FINAL_LATEST = timedelta(hours=8)
"""The final scans begin with no less time left: so much later, a slot would be at risk meanwhile."""

RISK_WITHIN = timedelta(hours=6)
"""A slot with less time left and without a final scan is at risk: something keeps the scans off."""

CLOCK_MARGIN = timedelta(hours=1)
"""Two clocks that differ by no more agree. A wrong time zone is an hour off at the least, and then some."""

MARGIN = timedelta(seconds=1)
"""What a window is widened by on both sides when it is queried.

The reference says "created after" and "created before" and leaves open whether a bound itself is
included, and the API's times may be whole seconds. Asking one second more on each side and dropping
what lies outside the window is right under every reading (R7).
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
    """When the API may begin to forget the slot that holds `moment`."""
    return slot_start(moment) + RETENTION


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A half-open range ``[start, end)`` of ``created_at`` inside one UTC day: what one scan lists.

    Raises:
        ValueError: if a bound has no time zone, if the range is empty, or if it leaves its day.
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
        """The bounds to send to the API: whole seconds, with `MARGIN` on both sides (R7)."""
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
    """Every day from `first` to `last`, both included; empty if `first` lies after `last`."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def windows_between(start: datetime, end: datetime) -> list[Window]:
    """Cut ``[start, end)`` at midnights: one window per UTC day that it touches."""
    start, end = require_utc(start), require_utc(end)
    return [
        Window(max(start, midnight(day)), min(end, midnight(day) + DAY))
        for day in days_between(start.date(), end.date())
        if max(start, midnight(day)) < min(end, midnight(day) + DAY)
    ]


def retained_days(now: datetime) -> list[date]:
    """The days of which the API may still know something: today-7 to today, eight in all."""
    today = require_utc(now).date()
    return days_between(today - RETENTION, today)
