"""The report in words: what each picture shows, made of the same rows.

They are the text alternatives of the charts, and the summary at the top of the page.
"""

from collections import Counter
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from pipeline.report.charts import RATE_NAMES, named, short
from pipeline.report.facts import CALENDAR_WEEKS, Account, Row, Rows
from pipeline.warehouse import ANOMALY_FEWEST_DAYS

NONE: Final = "\N{EN DASH}"
"""What stands where there is no rate."""

HOURS_OF_WEEK: Final = 168
_NAMED_DAYS: Final = 3

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
    recent = account.headline.get("recent")
    return [*([_recent(recent)] if recent else []), unusual(account), known(account)]


BOTH_READINGS: Final = (
    "SELECT created_date, delivery_rate_cumulative, delivery_rate_exclusive, open_rate_cumulative, "
    "open_rate_exclusive FROM delivery_daily"
)
"""The query for the rates under both readings."""


def assumption(account: Account) -> str:
    """What a rate rests on whose reading the account's counts don't show; empty if they do."""
    if account.reading is None or account.reading.warning is None:
        return ""
    return f" {account.reading.reading.capitalize()} counting is assumed."


def undecided(account: Account) -> str:
    """The banner where the reading is not decided: what is assumed, and what the rates would be otherwise."""
    recent = account.headline.get("recent")
    if account.reading is None or account.reading.warning is None:
        return ""
    told = f"{account.reading.warning}."
    if recent is None or recent["delivery_rate"] is None:
        return told
    return (
        f"{told} In the {period(recent)}, the delivery rate is {percent(recent['delivery_rate'])} if "
        f"counting is cumulative and {percent(recent['delivery_rate_exclusive'])} if it is exclusive; "
        f"the open rate {percent(recent['open_rate'])} or {percent(recent['open_rate_exclusive'])}."
    )


def _recent(recent: Row) -> str:
    told = (
        f"In the {period(recent)}, {many(recent['operations'], 'operation')} with "
        f"{many(recent['emails'], 'email')} {'was' if recent['operations'] == 1 else 'were'} created."
    )
    if recent["unscanned_hours"]:
        told += f" {many(recent['unscanned_hours'], 'hour')} of them not scanned yet."
    if recent["lost_hours"]:
        return f"{told} {many(recent['lost_hours'], 'hour')} of them lost, so there is no rate."
    if recent["delivery_rate"] is None:
        return told
    so_far = "So far, " if recent["is_changing"] else ""
    return (
        f"{told} {so_far}{percent(recent['delivery_rate'])} of the attempted emails were delivered, and "
        f"{percent(recent['open_rate'])} of these opened."
    )


def period(recent: Row) -> str:
    """The recent period as it is covered: how long it is, and since when."""
    first = recent["first_hour"]
    hours = round((recent["as_of"] - first).total_seconds() / 3600)
    parts = (many(n, unit) for n, unit in ((hours // 24, "day"), (hours % 24, "hour")) if n)
    length = " and ".join(parts) or "hour"
    return f"{length} from {short(first)} {first:%Y %H:%M} UTC"


def unusual(account: Account) -> str:
    """Which days left the band of the days before."""
    if not any(account.judged_days.values()):
        return f"No day has an expected range yet: that takes {ANOMALY_FEWEST_DAYS} earlier days with rates."
    days = [list(rows) for _, rows in groupby(account.anomalies, lambda one: one["created_date"])]
    if not days:
        judged = max(account.judged_days.values())
        return f"Of the {many(judged, 'day')} with an expected range, none was unusual."
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
        f"{states['partial']} partly known" if states["partial"] else "",
        gaps or "no hour is lost",
    ]
    return f"{', '.join(text for text in told if text)}."


def volume(account: Account) -> str:
    """The chart of emails over time."""
    unit = "week" if account.is_weekly else "day"
    most = max(account.series, key=lambda row: row["emails"])
    total = sum(row["emails"] for row in account.series)
    when = named(most["period"], is_weekly=account.is_weekly)
    is_final = all(row["completeness"] == "final" for row in account.series)
    return (
        f"The operations created in {many(len(account.series), unit)} have "
        f"{many(total, 'email')}{'' if is_final else ', as far as known'}; the most, {most['emails']:,}, "
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
    is_final = all(row["completeness"] == "final" for row in rows)
    told = (
        f"{RATE_NAMES[name]}{'' if is_final else ', as far as known'}: between {percent(low[name])} "
        f"({named(low['period'], is_weekly=account.is_weekly)}) and {percent(high[name])} "
        f"({named(high['period'], is_weekly=account.is_weekly)}).{_changing(account.series, unit)}"
    )
    judged = account.judged_days.get(name, 0)
    if not judged:
        return f"{told} No day has an expected range yet."
    if not left:
        return f"{told} Of the {many(judged, 'day')} with an expected range, none left it."
    return told + "".join(
        f" {named(one['created_date'])} was {one['direction']} what was expected, "
        f"{percent(one['low'])} to {percent(one['high'])}."
        for one in left[:3]
    )


def _changing(rows: Rows, unit: str) -> str:
    changing = sum(row["completeness"] == "changing" for row in rows)
    gaps = sum(row["completeness"] == "gaps" for row in rows)
    partial = sum(row["completeness"] == "partial" for row in rows)
    told = f" {many(changing, unit)} can still change." if changing else ""
    told += f" {many(partial, unit)} partly known." if partial else ""
    return told + (f" {many(gaps, unit)} with lost hours." if gaps else "")


def curve(ages: Rows) -> str:
    """The delivery curves, between the bounds that scans give."""
    first = next((row for row in ages if row["delivered_at_least"] >= _MOST), ages[-1])
    last = ages[-1]
    later = "" if first is last else f", at least {{}} within {last['age']}"
    return (
        f"Within {first['age']}, {_bounds(first, 'delivered')} of "
        f"{many(last['attempted'], 'attempted email')} were delivered"
        f"{later.format(percent(last['delivered_at_least']))}. Opened: {_bounds(first, 'opened')} within "
        f"{first['age']}{later.format(percent(last['opened_at_least']))}."
    )


def _bounds(age: Row, what: str) -> str:
    most = age[f"{what}_at_most"]
    least = f"at least {percent(age[f'{what}_at_least'])}"
    return least if most is None else f"{least} and at most {percent(most)}"


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
        "Where no later scan looked at all of them there is no upper bound. "
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
    known = [row for row in rows if row["known_hours"]]
    total = sum(row["operations"] for row in known)
    told = f"{many(total, 'operation')} in hours of creation that are final or closed"
    if len(known) < len(rows):
        return f"{told}. {len(known)} of the {len(rows)} hours of the week are known so far."
    most = max(known, key=lambda row: row["operations_per_hour"])
    return (
        f"{told}; the busiest hour of the week is {_at(most)} with {most['operations_per_hour']:,.3g} "
        f"operations in the mean of {many(most['known_hours'], 'week')}."
    )


def open_rate_by_hour(rated: Rows) -> str:
    """The heat map of open rates; of the cells that have one."""
    if not rated:
        return "No hour of the week has enough delivered emails for a rate."
    low = min(rated, key=lambda row: row["open_rate"])
    high = max(rated, key=lambda row: row["open_rate"])
    return (
        f"{len(rated)} of the {HOURS_OF_WEEK} hours of the week have enough delivered emails for a rate: "
        f"from {percent(low['open_rate'])} ({_at(low)}) to {percent(high['open_rate'])} ({_at(high)}). "
        "Few emails have much chance in them."
    )


def _at(row: Row) -> str:
    return f"{_WEEKDAYS[row['weekday'] - 1]} {row['hour']:02}:00 UTC"


def sizes(rows: Rows) -> str:
    """The chart of size classes."""
    when = span(rows[0]["first_day"], rows[0]["last_day"])
    emails = sum(row["emails"] for row in rows)
    if not emails:
        return f"No emails from {when}."
    most = max(rows, key=lambda row: row["emails"])
    share = most["emails"] / emails
    size = "1 email" if most["size_class"] == "1" else f"{most['size_class']} emails"
    return (
        f"From {when}, in {many(rows[0]['days'], 'day')} without lost or unknown hours, operations of {size} "
        f"make the most so far, {share:.0%} of {many(emails, 'email')}; their delivery rate is "
        f"{percent(most['delivery_rate'])}."
    )


def coverage(account: Account) -> str:
    """The calendar."""
    newest = max(row["created_date"] for row in account.coverage)
    first = newest - timedelta(days=newest.weekday(), weeks=CALENDAR_WEEKS - 1)
    earlier = sum(row["created_date"] < first for row in account.coverage)
    text = known(account)
    shown = f" The calendar leaves out the first {many(earlier, 'day')}." if earlier else ""
    return f"{text[0].upper()}{text[1:]}{shown}"
