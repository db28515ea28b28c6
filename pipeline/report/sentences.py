"""The report's sentences: the text alternative of each chart, and the summary."""

from collections import Counter
from datetime import timedelta
from itertools import groupby
from typing import Final

from pipeline.outputs.warehouse import ANOMALY_FEWEST_DAYS
from pipeline.report.data import CALENDAR_WEEKS, Account
from pipeline.report.formats import RATE_NAMES, duration, many, moment, named, percent, short, span
from pipeline.report.operations import DAYS, Operations
from pipeline.report.rows import CHOSEN, Row, Rows

_HOURS_OF_WEEK: Final = 168
_NAMED_DAYS: Final = 3
_FULL_WEEKDAYS: Final = (
    *("Monday", "Tuesday", "Wednesday", "Thursday"),
    *("Friday", "Saturday", "Sunday"),
)
_MOST: Final = 0.5
_NARROW: Final = 0.05
_UNUSUAL_OF_ACCOUNTS: Final = 5


def scanned_until(account: Account) -> str:
    """How fresh the data are."""
    if account.as_of is None:
        return "Never scanned."
    retired = "; the account is retired" if account.is_retired else ""
    return f"Scanned until {moment(account.as_of)}{retired}."


def period_name(period: str) -> str:
    """A period as a reader chooses it."""
    return "All" if period == "all" else f"{period} days"


def summary(account: Account, period: str) -> list[str]:
    """A period in a few sentences."""
    return [
        *([_recent(account.periods[period])] if period in account.periods else []),
        *(
            [unusual(account, period)]
            if account.account_id
            else _unusual_of_accounts(account, period)
        ),
    ]


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


def reading(account: Account) -> str:
    """The reading that the rates use; empty if it is assumed, which `undecided` says, or of all together."""
    if account.reading is None or not account.reading.decided:
        return ""
    if account.reading.reading == "exclusive":
        return (
            "The account's counts show that its delivered emails leave out opened ones, which are added here "
            "(exclusive counting)."
        )
    return "The account's counts show that its delivered emails include opened ones (cumulative counting)."


def undecided(account: Account) -> str:
    """The banner of an undecided reading, with the rates under both; empty if it is decided."""
    recent = account.periods.get(CHOSEN)
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


def unusual(account: Account, period: str) -> str:
    """The days of a period with unusual rates."""
    if not any(account.judged_days.values()):
        return f"No day has an expected range yet: that takes {ANOMALY_FEWEST_DAYS} earlier days with rates."
    days = [
        list(rows)
        for _, rows in groupby(_anomalies(account, period), lambda one: one["created_date"])
    ]
    if not days:
        return "No day was unusual."
    count = "One day was unusual" if len(days) == 1 else f"{len(days)} days were unusual"
    shown = "; ".join(
        f"{named(rows[0]['created_date'])}: {_rates(rows)}" for rows in days[:_NAMED_DAYS]
    )
    return f"{count}. {shown}{'; and earlier ones' if len(days) > _NAMED_DAYS else ''}."


def _unusual_of_accounts(total: Account, period: str) -> list[str]:
    """A line for each unusual day of an account, the newest first."""
    first = total.first_of(period)
    days = [
        list(rows)
        for _, rows in groupby(
            (one for one in total.anomalies_of_accounts if one["created_date"] >= first),
            lambda one: (one["created_date"], one["account_id"]),
        )
    ]
    lines = [
        f"Unusual for {rows[0]['account']}: {named(rows[0]['created_date'])}, {_rates(rows)}."
        for rows in days[:_UNUSUAL_OF_ACCOUNTS]
    ]
    more = len(days) - len(lines)
    return [*lines, f"And {many(more, 'more unusual day')}."] if more else lines


def _anomalies(account: Account, period: str) -> Rows:
    first = account.first_of(period)
    return [one for one in account.anomalies if one["created_date"] >= first]


def _rates(anomalies: Rows) -> str:
    return ", ".join(
        f"{RATE_NAMES[one['rate']].lower()} {percent(one['value'])} "
        f"(expected {percent(one['low'])} to {percent(one['high'])})"
        for one in anomalies
    )


def known(account: Account) -> str:
    """The number of days in each state."""
    states = Counter(row["state"] for row in account.coverage)
    lost = sum(row["gap_slots"] for row in account.coverage)
    if not account.coverage:
        states = Counter(
            "gap" if row["lost_hours"] else row["completeness"] for row in account.days
        )
        lost = sum(row["lost_hours"] for row in account.days)
    gaps = f"{many(lost, 'hour')} of {many(states['gap'], 'day')} are lost" if lost else ""
    parts = [
        f"{many(states['final'], 'day')} {'is' if states['final'] == 1 else 'are'} final",
        f"{states['changing']} still changing" if states["changing"] else "",
        f"{states['closed']} closed without a final scan" if states["closed"] else "",
        f"{states['partial']} partly known" if states["partial"] else "",
        gaps or "no hour is lost",
    ]
    return f"{', '.join(part for part in parts if part)}."


def volume(account: Account, period: str) -> str:
    """Text of the chart of emails over time."""
    rows, unit, is_weekly = _series(account, period)
    if not rows:
        return "No operations were created on these days."
    most = max(rows, key=lambda row: row["emails"])
    total = sum(row["emails"] for row in rows)
    when = named(most["period"], is_weekly=is_weekly)
    is_final = all(row["completeness"] == "final" for row in rows)
    return (
        f"The operations created in {many(len(rows), unit)} have "
        f"{many(total, 'email')}{'' if is_final else ', as far as known'}; the most, {most['emails']:,}, "
        f"{'in the' if is_weekly else 'on'} {when}.{_changing(rows, unit)}"
    )


def _series(account: Account, period: str) -> tuple[Rows, str, bool]:
    """The rows of a chart over time, their unit, and whether that is a week."""
    is_weekly = period == "all" and bool(account.weeks)
    return account.series(period), "week" if is_weekly else "day", is_weekly


def rate(account: Account, name: str, period: str) -> str:
    """Text of the chart of one rate over time."""
    every, unit, is_weekly = _series(account, period)
    rows = [row for row in every if row[name] is not None]
    if not rows:
        return f"No {unit} has a {RATE_NAMES[name].lower()}."
    low = min(rows, key=lambda row: row[name])
    high = max(rows, key=lambda row: row[name])
    is_final = all(row["completeness"] == "final" for row in rows)
    text = (
        f"{RATE_NAMES[name]}{'' if is_final else ', as far as known'}: between {percent(low[name])} "
        f"({named(low['period'], is_weekly=is_weekly)}) and {percent(high[name])} "
        f"({named(high['period'], is_weekly=is_weekly)}).{_changing(every, unit)}"
    )
    if not account.account_id:
        return text
    if not account.judged_days.get(name, 0):
        return f"{text} No day has an expected range yet."
    left = [one for one in _anomalies(account, period) if one["rate"] == name]
    if not left:
        return f"{text} No day was unusual."
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


def reasons(found: Operations) -> str:
    """How many of the operations with failed emails have a known reason."""
    if not found.with_failed:
        return "No operation has failed emails."
    text = f"{many(found.with_failed, 'operation')} with failed emails"
    if found.with_reason == found.with_failed:
        return f"{text}; the reasons of all are known. An operation can have several."
    return (
        f"{text}; the reasons of {found.with_reason:,} are known so far: they are looked up by id after the "
        "scan. An operation can have several."
    )


def listed(account: Account, period: str) -> str:
    """From when on operations are listed; empty if that is the whole period."""
    first = account.first_day
    if period != "all" or first is None or account.newest is None:
        return ""
    is_older = first <= account.newest.date() - timedelta(days=DAYS)
    return f"Operations and reasons are those of the last {DAYS} days." if is_older else ""


def curve(ages: Rows) -> str:
    """Text of the delivery curves, at the first age of which much is known, and the last."""
    first = next((row for row in ages if _is_narrow(row)), ages[-1])
    last = ages[-1]
    later = "" if first is last else f", at least {{}} within {last['age']}"
    return (
        f"Within {first['age']}, {_bounds(first, 'delivered')} of "
        f"{many(last['attempted'], 'attempted email')} were delivered"
        f"{later.format(percent(last['delivered_at_least']))}. Opened: {_bounds(first, 'opened')} within "
        f"{first['age']}{later.format(percent(last['opened_at_least']))}."
    )


def _is_narrow(age: Row) -> bool:
    """Whether the share delivered by this age is most of the emails, and known within 5 points."""
    least, most = age["delivered_at_least"], age["delivered_at_most"]
    return most is not None and least >= _MOST and most - least <= _NARROW


def _bounds(age: Row, what: str) -> str:
    most = age[f"{what}_at_most"]
    least = f"at least {percent(age[f'{what}_at_least'])}"
    return least if most is None else f"{least} and at most {percent(most)}"


def resolution(ages: Rows) -> str:
    """How to read the curves: from which hours they are, and how exact."""
    first = next((row for row in ages if row["seen_hours"] * 2 >= row["hours"]), ages[-1])
    before, after = first["scan_before_minutes"], first["scan_after_minutes"]
    text = f"{_cohort(first)} {first['seen_hours']:,} of them were scanned before the age of {first['age']}"
    if before is not None and after is not None:
        text += (
            f": half of these at {duration(before)} or later, and next at {duration(after)} or later "
            "(medians)"
        )
    return (
        f"{text}. Changes between two scans are not observed, so the true share lies between the two lines: "
        "the lower one is what the last scan before an age found, the upper one what a later scan found. "
        "Without a later scan there is no upper bound. Changes after the final scan are not observed."
    )


def _cohort(age: Row) -> str:
    """The hours of creation in the curves: those with a final scan."""
    hours, past = age["hours"], age["past_hours"]
    if hours == past:
        whole = "The one hour" if past == 1 else f"All {past:,} hours"
        return f"{whole} of creation past the deadline had a final scan."
    return (
        f"{hours:,} of the {past:,} hours of creation past the deadline, {hours / past:.0%}, had a final "
        "scan. The others are left out."
    )


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
