"""The report's sentences: the text alternative of each chart, the summary, and how values are written."""

from collections import Counter
from datetime import date, timedelta
from itertools import groupby
from typing import Final

from pipeline.outputs.warehouse import ANOMALY_FEWEST_DAYS
from pipeline.report.data import CALENDAR_WEEKS, Account, Row, Rows

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
_HOURS_OF_WEEK: Final = 168
_NAMED_DAYS: Final = 3
_FULL_WEEKDAYS: Final = (
    *("Monday", "Tuesday", "Wednesday", "Thursday"),
    *("Friday", "Saturday", "Sunday"),
)
_MOST: Final = 0.5


def named(day: date, *, is_weekly: bool = False) -> str:
    """A day or a week, in English in any locale."""
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


def span(first: date, last: date) -> str:
    """A range of days, both included."""
    return f"{short(first)} to {short(last)} {last.year}"


def many(n: float, one: str) -> str:
    """A number with its noun in singular or plural."""
    return f"{n:,.0f} {one}" if n == 1 else f"{n:,.0f} {one}s"


def summary(account: Account) -> list[str]:
    """The account's last weeks in a few sentences."""
    recent = account.headline.get("recent")
    return [*([_recent(recent)] if recent else []), unusual(account), known(account)]


BOTH_READINGS: Final = (
    "SELECT created_date, delivery_rate_cumulative, delivery_rate_exclusive, open_rate_cumulative, "
    "open_rate_exclusive FROM delivery_readings"
)
"""The query for the rates under both readings."""


def assumption(account: Account) -> str:
    """The reading that is assumed; empty if the account's counts decide it."""
    if account.reading is None or account.reading.warning is None:
        return ""
    return f" {account.reading.reading.capitalize()} counting is assumed."


def undecided(account: Account) -> str:
    """The banner of an undecided reading, with the rates under both; empty if it is decided."""
    recent = account.headline.get("recent")
    if account.reading is None or account.reading.warning is None:
        return ""
    text = f"{account.reading.warning}."
    if recent is None or recent["delivery_rate"] is None:
        return text
    return (
        f"{text} In the {period(recent)}, the delivery rate is {percent(recent['delivery_rate'])} if "
        f"counting is cumulative and {percent(recent['delivery_rate_exclusive'])} if it is exclusive; "
        f"the open rate {percent(recent['open_rate'])} or {percent(recent['open_rate_exclusive'])}."
    )


def _recent(recent: Row) -> str:
    text = (
        f"In the {period(recent)}, {many(recent['operations'], 'operation')} with "
        f"{many(recent['emails'], 'email')} {'was' if recent['operations'] == 1 else 'were'} created."
    )
    if recent["unscanned_hours"]:
        text += f" {many(recent['unscanned_hours'], 'hour')} of them not scanned yet."
    if recent["lost_hours"]:
        return f"{text} {many(recent['lost_hours'], 'hour')} of them lost, so there is no rate."
    if recent["delivery_rate"] is None:
        return text
    so_far = "So far, " if recent["is_changing"] else ""
    return (
        f"{text} {so_far}{percent(recent['delivery_rate'])} of the attempted emails were delivered, and "
        f"{percent(recent['open_rate'])} of these opened."
    )


def period(recent: Row) -> str:
    """The length and the start of the recent period."""
    first = recent["first_hour"]
    hours = round((recent["as_of"] - first).total_seconds() / 3600)
    parts = (many(n, unit) for n, unit in ((hours // 24, "day"), (hours % 24, "hour")) if n)
    length = " and ".join(parts) or "hour"
    return f"{length} from {short(first)} {first:%Y %H:%M} UTC"


def unusual(account: Account) -> str:
    """The days with unusual rates."""
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
    """The number of days in each state of coverage."""
    states = Counter(row["state"] for row in account.coverage)
    lost = sum(row["gap_slots"] for row in account.coverage)
    gaps = f"{many(lost, 'hour')} of {many(states['gap'], 'day')} are lost" if lost else ""
    parts = [
        f"{many(states['final'], 'day')} {'is' if states['final'] == 1 else 'are'} final",
        f"{states['changing']} still changing" if states["changing"] else "",
        f"{states['closed']} closed without a final scan" if states["closed"] else "",
        f"{states['partial']} partly known" if states["partial"] else "",
        gaps or "no hour is lost",
    ]
    return f"{', '.join(part for part in parts if part)}."


def volume(account: Account) -> str:
    """Text of the chart of emails over time."""
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
    """Text of the chart of one rate over time."""
    unit = "week" if account.is_weekly else "day"
    rows = [row for row in account.series if row[name] is not None]
    if not rows:
        return f"No {unit} has a {RATE_NAMES[name].lower()}."
    low = min(rows, key=lambda row: row[name])
    high = max(rows, key=lambda row: row[name])
    left = [one for one in account.anomalies if one["rate"] == name]
    is_final = all(row["completeness"] == "final" for row in rows)
    text = (
        f"{RATE_NAMES[name]}{'' if is_final else ', as far as known'}: between {percent(low[name])} "
        f"({named(low['period'], is_weekly=account.is_weekly)}) and {percent(high[name])} "
        f"({named(high['period'], is_weekly=account.is_weekly)}).{_changing(account.series, unit)}"
    )
    judged = account.judged_days.get(name, 0)
    if not judged:
        return f"{text} No day has an expected range yet."
    if not left:
        return f"{text} Of the {many(judged, 'day')} with an expected range, none left it."
    return text + "".join(
        f" {named(one['created_date'])} was {one['direction']} what was expected, "
        f"{percent(one['low'])} to {percent(one['high'])}."
        for one in left[:3]
    )


def _changing(rows: Rows, unit: str) -> str:
    changing = sum(row["completeness"] == "changing" for row in rows)
    gaps = sum(row["completeness"] == "gaps" for row in rows)
    partial = sum(row["completeness"] == "partial" for row in rows)
    text = f" {many(changing, unit)} can still change." if changing else ""
    text += f" {many(partial, unit)} partly known." if partial else ""
    return text + (f" {many(gaps, unit)} with lost hours." if gaps else "")


def curve(ages: Rows) -> str:
    """Text of the delivery curves, with their bounds."""
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


def resolution(ages: Rows) -> str:
    """The resolution of the curves: at which ages scans took place."""
    first = next((row for row in ages if row["seen_hours"] * 2 >= row["hours"]), ages[-1])
    before, after = first["scan_before_minutes"], first["scan_after_minutes"]
    text = f"{_cohort(first)} By the age of {first['age']}, {first['seen_hours']:,} of them had been scanned"
    if before is not None and after is not None:
        text += (
            f", half of them at an age of {duration(before)} or more, and half were scanned next at "
            f"{duration(after)} or later"
        )
    return (
        f"{text}. Changes between two scans are not observed: the true value lies in the box, between "
        "what the last scan by an age found and what a later scan of the whole hour found. Without such a "
        "later scan there is no upper bound. Changes between an hour's final scan and its deadline are not "
        "observed either."
    )


def _cohort(age: Row) -> str:
    """The hours of creation in the curves: those with a final scan."""
    hours, past = age["hours"], age["past_hours"]
    if hours == past:
        whole = "the one hour" if past == 1 else f"all {past:,} hours"
        return f"Of {whole} of creation past the deadline; each had its final scan."
    return (
        f"Of {hours:,} of the {past:,} hours of creation past the deadline, {hours / past:.0%}: those that "
        "had their final scan. The results of the others are unknown."
    )


def duration(minutes: float) -> str:
    """Minutes, or hours from 60 minutes on."""
    hour = 60
    return f"{minutes:.0f} min" if minutes < hour else f"{minutes / hour:.1f} h"


def weekday_hour(rows: Rows) -> str:
    """Text of the heat map of operations."""
    known = [row for row in rows if row["known_hours"]]
    total = sum(row["operations"] for row in known)
    text = f"{many(total, 'operation')} in hours of creation that are final or closed"
    if len(known) < len(rows):
        return f"{text}. {len(known)} of the {len(rows)} hours of the week are known so far."
    most = max(known, key=lambda row: row["operations_per_hour"])
    return (
        f"{text}; the busiest hour of the week is {_at(most)} with {most['operations_per_hour']:,.3g} "
        f"operations in the mean of {many(most['known_hours'], 'week')}."
    )


def open_rate_by_hour(rated: Rows) -> str:
    """Text of the heat map of open rates; `rated` are the hours that have one."""
    if not rated:
        return "No hour of the week has enough delivered emails for a rate."
    low = min(rated, key=lambda row: row["open_rate"])
    high = max(rated, key=lambda row: row["open_rate"])
    return (
        f"{len(rated)} of the {_HOURS_OF_WEEK} hours of the week have enough delivered emails for a rate: "
        f"from {percent(low['open_rate'])} ({_at(low)}) to {percent(high['open_rate'])} ({_at(high)}). "
        "With few emails, a rate depends much on chance."
    )


def _at(row: Row) -> str:
    return f"{_FULL_WEEKDAYS[row['weekday'] - 1]} {row['hour']:02}:00 UTC"


def sizes(rows: Rows) -> str:
    """Text of the chart of size classes."""
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
    """Text of the calendar of coverage."""
    newest = max(row["created_date"] for row in account.coverage)
    first = newest - timedelta(days=newest.weekday(), weeks=CALENDAR_WEEKS - 1)
    earlier = sum(row["created_date"] < first for row in account.coverage)
    states = known(account)
    shown = f" The calendar leaves out the first {many(earlier, 'day')}." if earlier else ""
    return f"{states[0].upper()}{states[1:]}{shown}"
