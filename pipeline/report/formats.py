"""How the report writes days, rates and counts: in English in any locale, in UTC."""

from datetime import date, datetime
from typing import Final

from pipeline.report.rows import Row

RATE_NAMES: Final = {
    "delivery_rate": "Delivery rate",
    "open_rate": "Open rate",
    "undelivered_rate": "Undelivered rate",
    "failure_rate": "Failure rate",
}
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905 - readable
_COMPLETENESS: Final = {
    "final": "final",
    "changing": "still changing",
    "closed": "closed: no final scan",
    "partial": "partly known",
    "before": "before the archive",
    "gaps": "lost hours",
}
NO_RATE: Final = "\N{EN DASH}"


def named(day: date, *, is_weekly: bool = False) -> str:
    """A day or a week."""
    text = f"{WEEKDAYS[day.weekday()]} {short(day)} {day.year}"
    return f"week from {text}" if is_weekly else text


def short(day: date) -> str:
    """A day without its year."""
    return f"{day.day} {_MONTHS[day.month - 1]}"


def how_known(row: Row) -> str:
    """The completeness of a period."""
    text, archived, hours = _COMPLETENESS[row["completeness"]], row["archived_hours"], row["hours"]
    if row["completeness"] == "gaps":
        return f"{text}: {row['lost_hours']} of {hours}"
    if row["completeness"] in {"changing", "partial"} and archived < hours:
        return f"{text}: {archived} of {hours} hours"
    return text


def percent(value: float | None) -> str:
    """A ratio as a percentage; a dash for None."""
    return NO_RATE if value is None else f"{value:.2%}"


def number(value: int | None) -> str:
    """A count; a dash if it is unknown."""
    return NO_RATE if value is None else f"{value:,}"


def span(first: date, last: date) -> str:
    """A range of days, both included."""
    return f"{short(first)} to {short(last)} {last.year}"


def many(n: float, one: str) -> str:
    """A number with its noun in singular or plural."""
    return f"{n:,.0f} {one}" if n == 1 else f"{n:,.0f} {one}s"


def moment(at: datetime) -> str:
    """A moment in UTC, to the minute."""
    return f"{named(at.date())} {at:%H:%M} UTC"


def duration(minutes: float) -> str:
    """Minutes, or hours from 60 minutes on."""
    hour = 60
    return f"{minutes:.0f} min" if minutes < hour else f"{minutes / hour:.1f} h"
