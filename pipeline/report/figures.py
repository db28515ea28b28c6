"""The charts of an account, each with its title and its text alternative."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pipeline.report import charts, sentences, series
from pipeline.report.data import Account
from pipeline.report.formats import RATE_NAMES
from pipeline.report.rows import CHOSEN, PERIODS, Rows


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and text.

    Attributes:
        key: its name in the page, in file names and in Dagster.
        title: its title.
        texts: the text alternative by period: what the chart shows, in sentences. A chart that has the same
            data in all periods has one text, of the first chosen one.
        chart: the chart, whose data have names.
        data: the rows by their names; the page's script makes those of the chosen days.
        note: how to read it; may be empty.
    """

    key: str
    title: str
    texts: Mapping[str, str]
    chart: charts.Chart
    data: Mapping[str, Rows]
    note: str = ""

    @property
    def text(self) -> str:
        """The text of the period that is chosen at first."""
        return self.texts[CHOSEN]


_READ: Final = {"delivery_rate", "open_rate", "delivery_curve", "open_rate_by_hour", "sizes"}
"""Figures that depend on the reading of the counts."""


def figures(account: Account) -> Iterator[Figure]:
    """The figures of an account, in the page's order; none if it has no operations."""
    assumed = sentences.assumption(account)
    for figure in _figures(account):
        if figure.key in _READ and assumed:
            texts = {period: text + assumed for period, text in figure.texts.items()}
            yield replace(figure, texts=texts)
        else:
            yield figure


def _figures(account: Account) -> Iterator[Figure]:
    if not account.days:
        return
    yield from _over_time(account)
    if account.curve:
        yield Figure(
            "delivery_curve",
            "Delivered and opened by age",
            {CHOSEN: sentences.curve(account.curve)},
            charts.curve(account.curve),
            {"boxes": charts.boxes(account.curve)},
            sentences.resolution(account.curve),
        )
    if any(row["known_hours"] for row in account.weekday_hour):
        yield from _heat_maps(account.weekday_hour)
    if account.sizes:
        yield Figure(
            "sizes",
            "Emails by size of operation",
            {CHOSEN: sentences.sizes(account.sizes)},
            charts.sizes(account.sizes),
            {"sizes": charts.size_rows(account.sizes)},
        )
    if account.coverage:
        yield Figure(
            "coverage",
            "State of each day",
            {CHOSEN: sentences.coverage(account)},
            charts.coverage(account.coverage),
            {"calendar": charts.calendar(account.coverage)},
        )


def _over_time(account: Account) -> Iterator[Figure]:
    data = {series.UNUSUAL: series.unusual_rows(account.anomalies)}
    volumes = {period: sentences.volume(account, period) for period in PERIODS}
    yield Figure("volume", "Emails", volumes, series.volume(), data)
    for name, title in RATE_NAMES.items():
        has_unusual = any(one["rate"] == name for one in account.anomalies)
        texts = {period: sentences.rate(account, name, period) for period in PERIODS}
        yield Figure(name, title, texts, series.rate(name, has_unusual=has_unusual), data)


def _heat_maps(hours: Rows) -> Iterator[Figure]:
    data = {"hours": charts.hours_of_week(hours)}
    yield Figure(
        "weekday_hour",
        "Operations by weekday and hour",
        {CHOSEN: sentences.weekday_hour(hours)},
        charts.weekday_hour("operations_per_hour"),
        data,
        "Mean of the weeks in which the hour is final or closed. Blank: unknown so far",
    )
    yield Figure(
        "open_rate_by_hour",
        "Open rate by weekday and hour",
        {CHOSEN: sentences.open_rate_by_hour([row for row in hours if charts.has_rate(row)])},
        charts.weekday_hour("open_rate"),
        data,
        f"A dot: fewer than {charts.FEWEST_DELIVERED} emails delivered. Blank: unknown so far",
    )
