"""The report in words: what each picture shows, made of the same rows.

They are the text alternatives of the charts, and the summary at the top of the page.
"""

from collections import Counter
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from pipeline.report.charts import RATE_NAMES, named, short
from pipeline.report.facts import CALENDAR_WEEKS, RECENT_DAYS, Account, Row, Rows

NONE: Final = "\N{EN DASH}"
_NAMED_DAYS: Final = 3
"""What stands where there is no rate."""

_WEEKDAYS: Final = (
    *("Monday", "Tuesday", "Wednesday", "Thursday"),
    *("Friday", "Saturday", "Sunday"),
)


def percent(value: float | None) -> str:
    """A ratio as it is read; a dash if there is none."""
    return NONE if value is None else f"{value:.2%}"


def span(first: date, last: date) -> str:
    """A range of days, both included."""
    return f"{short(first)} to {short(last)} {last.year}"


def many(n: float, one: str) -> str:
    """A number with its noun."""
    return f"{n:,.0f} {one}" if n == 1 else f"{n:,.0f} {one}s"


def summary(account: Account) -> list[str]:
    """The account's last weeks in a few sentences."""
    recent = account.headline["recent"]
    told = (
        f"In the {RECENT_DAYS} days from {span(recent['first_day'], recent['last_day'])}, "
        f"{many(recent['operations'], 'operation')} sent {many(recent['emails'], 'email')}. "
    )
    if recent["delivery_rate"] is not None:
        told += (
            f"{percent(recent['delivery_rate'])} of those attempted were delivered, and "
            f"{percent(recent['open_rate'])} of these opened."
        )
    elif recent["completeness"] == "gaps":
        told += "Hours of them are lost, so there is no rate."
    return [told, unusual(account), known(account)]


def unusual(account: Account) -> str:
    """Which days left the band of the days before."""
    days = [list(rows) for _, rows in groupby(account.anomalies, lambda one: one["created_date"])]
    if not days:
        return "No day was unusual."
    count = "One day was unusual" if len(days) == 1 else f"{len(days)} days were unusual"
    shown = "; ".join(
        f"{named(rows[0]['created_date'])}: {_rates(rows)}" for rows in days[:_NAMED_DAYS]
    )
    return f"{count}. {shown}{'; and earlier ones' if len(days) > _NAMED_DAYS else ''}."


def _rates(anomalies: Rows) -> str:
    return ", ".join(
        f"{RATE_NAMES[one['rate']].lower()} {percent(one['value'])} "
        f"(expected {percent(one['low'])} to {percent(one['high'])})"
        for one in anomalies
    )


def known(account: Account) -> str:
    """How far the archive knows its days."""
    states = Counter(row["state"] for row in account.coverage)
    lost = sum(row["gap_slots"] for row in account.coverage)
    gaps = f"{many(lost, 'hour')} of {many(states['gap'], 'day')} are lost" if lost else ""
    told = [
        f"{many(states['final'], 'day')} {'is' if states['final'] == 1 else 'are'} final",
        f"{states['changing']} still changing" if states["changing"] else "",
        f"{states['closed']} closed without a final scan" if states["closed"] else "",
        gaps or "no hour is lost",
    ]
    return f"{', '.join(text for text in told if text)}."


def volume(account: Account) -> str:
    """The chart of emails over time."""
    unit = "week" if account.is_weekly else "day"
    most = max(account.series, key=lambda row: row["emails"])
    total = sum(row["emails"] for row in account.series)
    when = named(most["period"], is_weekly=account.is_weekly)
    return (
        f"{many(total, 'email')} in {many(len(account.series), unit)}; the most, {most['emails']:,}, "
        f"{'in the' if account.is_weekly else 'on'} {when}.{_changing(account.series, unit)}"
    )


def rate(account: Account, name: str) -> str:
    """The chart of one rate over time."""
    unit = "week" if account.is_weekly else "day"
    rows = [row for row in account.series if row[name] is not None]
    if not rows:
        return f"No {unit} has a {RATE_NAMES[name].lower()}."
    low = min(rows, key=lambda row: row[name])
    high = max(rows, key=lambda row: row[name])
    left = [one for one in account.anomalies if one["rate"] == name]
    told = (
        f"{RATE_NAMES[name]}: between {percent(low[name])} "
        f"({named(low['period'], is_weekly=account.is_weekly)}) and {percent(high[name])} "
        f"({named(high['period'], is_weekly=account.is_weekly)})."
    )
    if not left:
        return f"{told} No day left its expected range."
    return told + "".join(
        f" {named(one['created_date'])} was {one['direction']} what was expected, "
        f"{percent(one['low'])} to {percent(one['high'])}."
        for one in left[:3]
    )


def _changing(rows: Rows, unit: str) -> str:
    changing = sum(row["completeness"] == "changing" for row in rows)
    gaps = sum(row["completeness"] == "gaps" for row in rows)
    told = f" {many(changing, unit)} can still change." if changing else ""
    return told + (f" {many(gaps, unit)} with lost hours." if gaps else "")


def curve(ages: Rows) -> str:
    """The delivery curves, between the bounds that scans give."""
    first = next((row for row in ages if row["delivered_at_least"] >= _MOST), ages[-1])
    last = ages[-1]
    return (
        f"Within {first['age']}, at least {percent(first['delivered_at_least'])} and at most "
        f"{percent(first['delivered_at_most'])} of {many(last['attempted'], 'attempted email')} were "
        f"delivered; {percent(last['delivered_at_least'])} within {last['age']}, as far as scans saw. "
        f"Opened: {percent(first['opened_at_least'])} to {percent(first['opened_at_most'])} within "
        f"{first['age']}, {percent(last['opened_at_least'])} within {last['age']}."
    )


_MOST: Final = 0.5


def resolution(ages: Rows) -> str:
    """How finely scans saw the curves: what keeps a reader from reading more into them."""
    first = next((row for row in ages if row["seen_hours"] * 2 >= row["hours"]), ages[-1])
    before, after = first["scan_before_minutes"], first["scan_after_minutes"]
    told = f"{_cohort(first)} By the age of {first['age']}, {first['seen_hours']:,} of them had been scanned"
    if before is not None and after is not None:
        told += (
            f", half of them at an age of {duration(before)} or more, and half were scanned next at "
            f"{duration(after)} or later"
        )
    return (
        f"{told}. What happened between two scans nobody saw: the truth lies in the boxes, from what the "
        "last scan by an age had found to what was known once a later one had looked at all of the hour. "
        "From an hour's final scan to its deadline nobody looked either."
    )


def _cohort(age: Row) -> str:
    """Which hours of creation the curves are of: those that are known to their end."""
    hours, past = age["hours"], age["past_hours"]
    if hours == past:
        whole = "the one hour" if past == 1 else f"all {past:,} hours"
        return f"Of {whole} of creation past the deadline; each had its final scan."
    return (
        f"Of {hours:,} of the {past:,} hours of creation past the deadline, {hours / past:.0%}: those that "
        "had their final scan. What the others came to nobody knows."
    )


def duration(minutes: float) -> str:
    """Minutes as they are read."""
    hour = 60
    return f"{minutes:.0f} min" if minutes < hour else f"{minutes / hour:.1f} h"


def weekday_hour(rows: Rows) -> str:
    """The heat map of operations."""
    total = sum(row["operations"] for row in rows)
    if not total:
        return "No hour is past its deadline yet."
    most = max(rows, key=lambda row: row["operations"])
    return (
        f"{many(total, 'operation')} of hours that nothing can change any more; the busiest hour of the "
        f"week is {_WEEKDAYS[most['weekday'] - 1]} {most['hour']:02}:00 UTC with "
        f"{many(most['operations'], 'operation')}."
    )


def open_rate_by_hour(rated: Rows) -> str:
    """The heat map of open rates; of the cells that have one."""
    if not rated:
        return "No hour of the week has enough delivered emails for a rate."
    low = min(rated, key=lambda row: row["open_rate"])
    high = max(rated, key=lambda row: row["open_rate"])
    return (
        f"{len(rated)} hours of the week have enough delivered emails for a rate: from "
        f"{percent(low['open_rate'])} ({_at(low)}) to {percent(high['open_rate'])} ({_at(high)}). "
        "Few emails have much chance in them."
    )


def _at(row: Row) -> str:
    return f"{_WEEKDAYS[row['weekday'] - 1]} {row['hour']:02}:00 UTC"


def sizes(rows: Rows) -> str:
    """The chart of size classes."""
    emails = sum(row["emails"] for row in rows)
    if not emails:
        return "No emails yet."
    most = max(rows, key=lambda row: row["emails"])
    share = most["emails"] / emails
    size = "1 email" if most["size_class"] == "1" else f"{most['size_class']} emails"
    return (
        f"Operations of {size} make the most, {share:.0%} of "
        f"{many(emails, 'email')}; {percent(most['delivery_rate'])} of them were delivered."
    )


def coverage(account: Account) -> str:
    """The calendar."""
    newest = max(row["created_date"] for row in account.coverage)
    first = newest - timedelta(days=newest.weekday(), weeks=CALENDAR_WEEKS - 1)
    earlier = sum(row["created_date"] < first for row in account.coverage)
    text = known(account)
    shown = f" The calendar leaves out the first {many(earlier, 'day')}." if earlier else ""
    return f"{text[0].upper()}{text[1:]}{shown}"
