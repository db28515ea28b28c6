"""What the page shows of a period: cards, the funnel, operations and reasons, as texts for the template."""

from dataclasses import dataclass
from typing import Any, Final

from pipeline.report import sentences
from pipeline.report.data import Account
from pipeline.report.formats import NO_RATE, RATE_NAMES, number, percent
from pipeline.report.operations import MOST_REASONS
from pipeline.report.rows import Row, Rows

COUNT_OF: Final = {
    "delivery_rate": ("Delivered", "delivered", "attempted"),
    "open_rate": ("Opened", "opened", "delivered"),
    "undelivered_rate": ("Undelivered", "undelivered", "attempted"),
    "failure_rate": ("Failed", "failed", "attempted"),
}
"""Of each rate: what it counts, its numerator and its denominator."""

_SETTLED: Final = {"emails": "Emails", "operations": "Operations", **RATE_NAMES}


@dataclass(frozen=True, slots=True)
class Card:
    """A figure in large type.

    Attributes:
        key: its name in the page.
        title: what it is.
        value: the figure.
        beside: the count that it stands for; may be empty.
        otherwise: the rate under the other reading of the counts; empty if the reading is decided.
    """

    key: str
    title: str
    value: str
    beside: str = ""
    otherwise: str = ""


def cards(account: Account, period: Row) -> list[Card]:
    """The figures of a period."""
    rates = [_rate_card(account, period, key) for key in COUNT_OF]
    waiting = _sum(period, "queued", "scheduled")
    return [
        Card("emails", "Emails", number(period["emails"])),
        Card("operations", "Operations", number(period["operations"])),
        *rates,
        Card("canceled", "Canceled", number(period["canceled"]), "emails"),
        Card("waiting", "Queued or scheduled", number(waiting), "emails, not attempted yet"),
    ]


def _rate_card(account: Account, period: Row, key: str) -> Card:
    title, numerator, denominator = COUNT_OF[key]
    is_read = key in {"delivery_rate", "open_rate"} and sentences.assumption(account)
    return Card(
        key,
        title,
        percent(period[key]),
        f"{number(period[numerator])} of {number(period[denominator])} {denominator}",
        percent(period[f"{key}_exclusive"]) if is_read else "",
    )


def _sum(period: Row, *names: str) -> int | None:
    values = [period[name] for name in names if period[name] is not None]
    return sum(values) if values else None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the funnel: its emails, their share of all, and what became of those missing."""

    name: str
    emails: int
    share: float
    lost: str


def funnel(period: Row) -> list[Step]:
    """From the emails that were asked for to those that were opened; empty if a count is unknown."""
    emails, attempted, delivered, opened = (
        period[name] for name in ("emails", "attempted", "delivered", "opened")
    )
    if not emails or None in {attempted, delivered, opened}:
        return []
    before = {
        "canceled": period["canceled"],
        "queued or scheduled": _sum(period, "queued", "scheduled"),
    }
    after = {name: period[name] for name in ("undelivered", "failed")}
    return [
        Step("Emails", emails, 1, ""),
        Step(
            "Attempted",
            attempted,
            attempted / emails,
            _lost(emails - attempted, before, "not counted"),
        ),
        Step(
            "Delivered",
            delivered,
            delivered / emails,
            _lost(attempted - delivered, after, "on the way"),
        ),
        Step("Opened", opened, opened / emails, ""),
    ]


def _lost(missing: int, known: dict[str, int | None], rest: str) -> str:
    """The known parts of what is missing, and the rest."""
    parts = {name: count for name, count in known.items() if count}
    left = missing - sum(parts.values())
    parts |= {rest: left} if left > 0 else {}
    return ", ".join(f"{count:,} {name}" for name, count in parts.items())


def comparison(account: Account) -> list[dict[str, str]]:
    """The last settled week beside the week before; empty if there is none."""
    week, before = account.periods.get("settled"), account.periods.get("settled_before")
    if week is None:
        return []
    return [
        {
            "title": title,
            "week": _shown(week, name),
            "before": _shown(before, name) if before else "",
            "change": change(week, before, name) if before else "",
        }
        for name, title in _SETTLED.items()
    ]


def _shown(period: Row, name: str) -> str:
    return percent(period[name]) if name.endswith("_rate") else number(period[name])


def change(period: Row, before: Row, name: str) -> str:
    """The change from the period before; empty if one of the two has no value."""
    new, old = period[name], before[name]
    if new is None or old is None:
        return ""
    if name.endswith("_rate"):
        points = 100 * (new - old)
        return f"{_sign(round(points, 2))}{abs(points):.2f} points"
    if not old:
        return ""
    ratio = new / old - 1
    return f"{_sign(round(100 * ratio, 1))}{abs(ratio):.1%}"


def _sign(value: float) -> str:
    return "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else "±"


def operation_rows(operations: Rows) -> list[dict[str, Any]]:
    """The rows of a list of operations."""
    return [
        {
            "id": one["operation_id"],
            "account": one["account"],
            "created": f"{one['created_at']:%Y-%m-%d %H:%M}",
            "status": one["status"].lower(),
            "emails": number(one["emails"]),
            "delivered": _of(one["delivered"], one["attempted"]),
            "opened": _of(one["opened"], one["delivered"]),
            "undelivered": number(one["undelivered"]),
            "failed": number(one["failed"]),
        }
        for one in operations
    ]


def _of(count: int | None, whole: int | None) -> str:
    return (
        f"{number(count)} ({percent(count / whole)})"
        if count is not None and whole
        else number(count)
    )


def reason_rows(reasons: Rows) -> list[dict[str, str]]:
    """The rows of the reasons; the less frequent ones are added up."""
    rows = [
        {
            "code": one["code"] or NO_RATE,
            "message": one["message"] or ""
            if one["messages"] == 1
            else f"{one['message']} (one of {one['messages']:,} messages)",
            "operations": number(one["operations"]),
            "errors": number(one["occurrences"]),
        }
        for one in reasons[:MOST_REASONS]
    ]
    others = reasons[MOST_REASONS:]
    if others:
        errors = sum(one["occurrences"] for one in others)
        rows.append(
            {
                "code": "",
                "message": f"{len(others):,} other reasons",
                "operations": "",
                "errors": number(errors),
            }
        )
    return rows
