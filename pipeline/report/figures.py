"""The charts of an account, each with its title and its text alternative."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from pipeline.report import charts, sentences, series
from pipeline.report.data import Account, Rows

LEGEND: Final = (
    "filled: final; hollow: still changing; pale: partly known or closed; ◆ unusual, with the range "
    "expected; ✕ lost hours"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and text.

    Attributes:
        key: its name in the page, in file names and in Dagster.
        title: its title.
        text: the text alternative: what the chart shows, in sentences.
        chart: the chart.
        note: how to read it; may be empty.
    """

    key: str
    title: str
    text: str
    chart: charts.Chart
    note: str = ""


_READ: Final = {"delivery_rate", "open_rate", "delivery_curve", "open_rate_by_hour", "sizes"}
"""Figures that depend on the reading of the counts."""


def figures(account: Account) -> Iterator[Figure]:
    """The figures of an account, in the page's order; none if it has no operations."""
    assumed = sentences.assumption(account)
    for figure in _figures(account):
        yield replace(figure, text=figure.text + assumed) if figure.key in _READ else figure


def _figures(account: Account) -> Iterator[Figure]:
    if not account.series:
        return
    unit = "week" if account.is_weekly else "day"
    yield Figure(
        "volume",
        f"Emails by {unit} of creation",
        sentences.volume(account),
        series.volume(account.series, is_weekly=account.is_weekly),
        LEGEND,
    )
    for name, title in sentences.RATE_NAMES.items():
        chart = series.rate(account.series, account.anomalies, name, is_weekly=account.is_weekly)
        yield Figure(name, f"{title} by {unit}", sentences.rate(account, name), chart, LEGEND)
    if account.curve:
        yield Figure(
            "delivery_curve",
            "Delivered and opened by age",
            sentences.curve(account.curve),
            charts.curve(account.curve),
            sentences.resolution(account.curve),
        )
    if any(row["known_hours"] for row in account.weekday_hour):
        yield from _heat_maps(account.weekday_hour)
    if account.sizes:
        yield Figure(
            "sizes",
            "Emails by size of operation",
            sentences.sizes(account.sizes),
            charts.sizes(account.sizes),
        )
    yield Figure(
        "coverage",
        "How far each day is known",
        sentences.coverage(account),
        charts.coverage(account.coverage),
    )


def _heat_maps(hours: Rows) -> Iterator[Figure]:
    yield Figure(
        "weekday_hour",
        "Operations by weekday and hour",
        sentences.weekday_hour(hours),
        charts.weekday_hour(hours, "operations_per_hour"),
        "Mean of the weeks in which the hour is final or closed. Blank: unknown so far",
    )
    yield Figure(
        "open_rate_by_hour",
        "Open rate by weekday and hour",
        sentences.open_rate_by_hour([row for row in hours if charts.has_rate(row)]),
        charts.weekday_hour(hours, "open_rate"),
        f"A dot: fewer than {charts.FEWEST_DELIVERED} emails delivered. Blank: unknown so far",
    )
