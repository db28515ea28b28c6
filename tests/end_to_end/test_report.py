"""The demo's report: each number equals the truth, and it looks right in a browser."""

from collections.abc import Callable
from datetime import date, timedelta
from operator import itemgetter
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser

from pipeline.access.archive import Archive
from pipeline.cli.demo import OUTAGE
from pipeline.lake.layout import Lake
from pipeline.outputs.published import ask_warehouse
from pipeline.report.data import Account, read_accounts
from tests.end_to_end.conftest import Demo
from tests.support import page
from tests.support.demo_truth import DemoTruth, sums

KNOWN = {"final": "final", "changing": "still changing"}
PARTS = {
    "delivery_rate": ("delivered", "attempted"),
    "open_rate": ("opened", "delivered"),
    "undelivered_rate": ("undelivered", "attempted"),
    "failure_rate": ("failed", "attempted"),
}
RATES = tuple(PARTS)
COUNTS = (
    *("operations", "emails", "attempted", "delivered", "opened", "undelivered", "failed"),
    "canceled",
)
CHARTS = {
    "volume",
    *RATES,
    "delivery_curve",
    "weekday_hour",
    "open_rate_by_hour",
    "sizes",
    "coverage",
}


@pytest.fixture(scope="module")
def report(page_of_largest: Path) -> str:
    return page.read(page_of_largest)


@pytest.fixture(scope="module")
def account(demo: Demo) -> Account:
    accounts, _ = read_accounts(Lake(demo.data))
    return next(one for one in accounts if one.account_id)


@pytest.fixture(scope="module")
def truth(demo: Demo) -> DemoTruth:
    """Operations were listed at the demo's moments; what was looked at later was asked by its id."""
    seen = Archive(demo.data).operations(columns=["operation_id", "created_at", "observed_at"])
    late = seen[seen["observed_at"] >= seen["created_at"] + timedelta(days=7)]
    return DemoTruth(dict(zip(late["operation_id"], late["observed_at"], strict=True)))


def near(value: float | None) -> object:
    return None if value is None else pytest.approx(value, rel=1e-12, abs=1e-15)


def test_counts_and_rates_of_each_day_are_true(report: str, truth: DemoTruth):
    days = page.tables(report)["days"]
    assert [row["period"] for row in days] == [f"{day}" for day in truth.days()]
    assert [row["completeness"] for row in days] == [*map(truth.completeness, truth.days())]
    for row, day in zip(days, truth.days(), strict=True):
        true = truth.of_day(day)
        assert {name: row[name] for name in COUNTS} == {name: true[name] for name in COUNTS}
        assert [row[name] for name in RATES] == [near(true[name]) for name in RATES]
    assert page.table(report, "series") == [
        [
            f"{day:%a} {day.day} {day:%b %Y}",
            KNOWN[truth.completeness(day)],
            *(f"{truth.of_day(day)[name]:,}" for name in COUNTS),
            *(f"{truth.of_day(day)[name]:.2%}" for name in RATES),
        ]
        for day in truth.days()[:1:-1]
    ]


@pytest.mark.parametrize(("period", "first"), [("7", 24), ("28", 3), ("90", 1), ("all", 1)])
def test_cards_of_each_period_are_true(report: str, truth: DemoTruth, period: str, first: int):
    true = truth.of_days(date(2026, 9, first), date(2026, 9, 30))
    shown = page.text(page.chosen(report, period))
    assert f"The {31 - first} days from {first} Sep 2026 00:00 UTC, still changing" in shown
    cards = page.cards(report, period)
    assert {name: cards[name][1] for name in ("emails", "operations", "canceled")} == {
        name: f"{true[name]:,}" for name in ("emails", "operations", "canceled")
    }
    assert {name: cards[name][1:] for name in RATES} == {
        name: [f"{true[name]:.2%}", f"{true[part]:,} of {true[whole]:,} {whole}"]
        for name, (part, whole) in PARTS.items()
    }


def test_settled_weeks_are_true_and_compared(report: str, truth: DemoTruth):
    week = truth.of_days(date(2026, 9, 17), date(2026, 9, 23))
    before = truth.of_days(date(2026, 9, 10), date(2026, 9, 16))
    expected = {}
    for name in ("emails", "operations"):
        change = week[name] / before[name] - 1
        sign = "+" if change > 0 else "\N{MINUS SIGN}"
        expected[name] = [f"{week[name]:,}", f"{before[name]:,}", f"{sign}{abs(change):.1%}"]
    for name in RATES:
        points = 100 * (week[name] - before[name])
        sign = "+" if points > 0 else "\N{MINUS SIGN}"
        expected[name] = [
            f"{week[name]:.2%}",
            f"{before[name]:.2%}",
            f"{sign}{abs(points):.2f} points",
        ]
    shown = {row[0].lower().replace(" ", "_"): row[1:] for row in page.table(report, "settled")}
    assert shown == expected


@pytest.mark.parametrize(("period", "first"), [("7", 24), ("28", 3)])
def test_worst_and_largest_operations_are_true(
    report: str, truth: DemoTruth, period: str, first: int
):
    states = [one for one in truth.states if one["created"].date() >= date(2026, 9, first)]
    of_all = sums(states)
    average = of_all["undelivered_rate"] + of_all["failure_rate"]

    def excess(one: dict) -> float:
        of_one = sums([one])
        lost = of_one["undelivered"] + of_one["failed"]
        return round(lost - average * of_one["attempted"], 6)

    def most(measure: Callable[[dict], float]) -> list[str]:
        def order(one: dict) -> tuple:
            return measure(one), one["created"], one["id"]

        return [one["id"] for one in sorted(states, key=order, reverse=True)[:5]]

    worst, largest = (page.table(report, name, period) for name in ("worst", "largest"))
    assert [row[0].split()[0] for row in worst] == most(excess)
    assert [row[0].split()[0] for row in largest] == most(itemgetter("total"))


def test_reasons_of_failures_are_counted(demo: Demo, report: str, account: Account):
    query = (
        "FROM operation_errors WHERE created_date >= DATE '2026-09-03' "
        f"AND account_id = '{account.account_id}'"
    )
    errors = pd.DataFrame(ask_warehouse(Lake(demo.data), query))
    counted = errors.groupby(["code", "message"]).agg(
        operations=("operation_id", "nunique"), errors=("occurrences", "sum")
    )
    assert sorted(page.table(report, "reasons")) == sorted(
        [code, message, f"{row.operations}", f"{row.errors}"]
        for (code, message), row in counted.iterrows()
    )
    failed = errors["operation_id"].nunique()
    assert f"{failed} operations with failed emails; the reasons of all" in page.chosen(report)


def test_summary_describes_the_month(report: str, truth: DemoTruth):
    recent, outage = truth.of_days(date(2026, 9, 3), date(2026, 9, 30)), truth.of_day(OUTAGE)
    bands = {name: truth.band(OUTAGE, name)[1:] for name in RATES[:3]}
    unusual = ", ".join(
        f"{name.replace('_', ' ')} {outage[name]:.2%} (expected {low:.2%} to {high:.2%})"
        for name, (low, high) in bands.items()
    )
    weeks = (
        f"In the 28 days from 3 Sep 2026 00:00 UTC, {recent['operations']:,} operations with "
        f"{recent['emails']:,} emails were created. So far, {recent['delivery_rate']:.2%} of the attempted "
        f"emails were delivered, and {recent['open_rate']:.2%} of these opened."
    )
    text = page.chosen(report).partition('<div class="summary">')[2].partition("</div>")[0]
    assert page.text(text).split("\n") == [
        weeks,
        f"One day was unusual. Wed 16 Sep 2026: {unusual}.",
    ]
    assert "Scanned until Wed 30 Sep 2026 23:59 UTC." in report
    assert "23 days are final, 7 still changing, no hour is lost." in report
    assert "its delivered emails include opened ones (cumulative counting)." in page.text(report)


def test_only_the_planted_outage_is_marked(report: str, truth: DemoTruth):
    charts = page.specs(report)
    marked = page.rows(charts["open_rate"], "period", "rate", "value", "low", "high")
    assert sorted(marked) == sorted(
        (
            f"{OUTAGE}",
            name,
            near(truth.of_day(OUTAGE)[name]),
            *map(near, truth.band(OUTAGE, name)[1:]),
        )
        for name in RATES[:3]
    )
    assert {row[0] for row in page.table(report, "anomalies")} == {"Wed 16 Sep 2026"}


def test_curves_are_bounds_by_what_scans_saw(report: str, account: Account, truth: DemoTruth):
    expected = truth.curve()
    bounds = ("delivered_at_least", "delivered_at_most", "opened_at_least", "opened_at_most")
    shown = [{name: row[name] for name in bounds} for row in account.curve]
    assert shown == [{name: near(row[name]) for name in bounds} for row in expected]
    assert [row[1:5] for row in page.table(report, "curve")] == [
        ["\N{EN DASH}" if row[name] is None else f"{row[name]:.2%}" for name in bounds]
        for row in expected
    ]
    boxes = page.rows(page.specs(report)["delivery_curve"], "what", "low", "high", "to")
    assert boxes == [
        (what, near(here[f"{what}_at_least"]), near(there[f"{what}_at_most"]), to["age_minutes"])
        for here, there, to in zip(expected, expected[1:], account.curve[1:], strict=False)
        for what in ("delivered", "opened")
    ]


def test_weekday_hours_and_sizes_are_true(report: str, truth: DemoTruth):
    charts = page.specs(report)
    cells = truth.by_weekday_hour()
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    shown = page.rows(charts["weekday_hour"], "weekday", "hour", "operations", "emails")
    assert shown == [
        (names[weekday], hour, cells[weekday, hour]["operations"], cells[weekday, hour]["emails"])
        for weekday in range(7)
        for hour in range(24)
    ]
    rates = page.rows(charts["open_rate_by_hour"], "weekday", "hour", "open_rate")
    assert [rate for _, _, rate in rates] == [
        near(cell["open_rate"]) if cell["delivered"] >= 30 else None
        for cell in (cells[weekday, hour] for weekday in range(7) for hour in range(24))
    ]
    sizes = truth.by_size(date(2026, 9, 3))
    emails = sum(one["emails"] for one in sizes.values())
    assert page.rows(charts["sizes"], "size", "emails", "operations", "share") == [
        (name, one["emails"], one["operations"], near(one["emails"] / emails))
        for name, one in sizes.items()
    ]
    assert page.table(report, "sizes") == [
        [name, f"{one['operations']:,}"]
        + [f"{one[rate]:.2%}" for rate in ("delivery_rate", "open_rate", "failure_rate")]
        for name, one in sizes.items()
    ]


def test_calendar_is_true(report: str, truth: DemoTruth):
    assert page.rows(page.specs(report)["coverage"], "text", "state", "lost") == [
        (f"{day.day}", KNOWN[truth.completeness(day)], 0) for day in truth.days()
    ]


def test_every_chart_has_its_text_alternative(report: str):
    assert set(page.specs(report)) == CHARTS
    for key, (_, caption) in page.alternatives(report).items():
        assert caption.endswith("."), key
        assert any(letter.isdigit() for letter in caption), key


def test_report_is_one_small_self_contained_file(report: str):
    assert len(report.encode()) < 650_000
    ours = report.replace(page.vega(report), "")
    assert len(ours) < 200_000
    for reference in ("src=", "@import", "url(", "<link rel=stylesheet", "http-equiv=refresh"):
        assert reference not in ours
    assert "default-src 'none'" in ours


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_browser_draws_every_chart_without_an_error_or_a_request(
    width: int, scheme: str, chromium: Browser, page_of_largest: Path
):
    seen = look(chromium, page_of_largest, width, scheme)
    assert seen.complaints == []
    assert seen.requests == [page_of_largest.as_uri()]
    assert seen.page_width == width
    assert seen.drawn == CHARTS
    assert seen.cut == []
    light, dark = "rgb(255, 255, 255)", "rgb(22, 27, 34)"
    assert seen.ground == (light if scheme == "light" else dark)


class Seen:
    """What a browser made of a page."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page_width = 0
        self.drawn: set[str] = set()
        self.cut: list[str] = []
        self.ground = ""


DRAWN = """() => [...document.querySelectorAll('[data-chart]')]
    .filter(box => box.parentElement.getAttribute('role') === 'img'
        && document.getElementById(box.parentElement.getAttribute('aria-describedby')).innerText
        && box.querySelectorAll('svg .mark-rect path, svg .mark-symbol path').length > 3)
    .map(box => box.dataset.chart)"""
# Texts of charts that reach over the edges of their box, or over each other on one axis.
CUT = """() => [...document.querySelectorAll('[data-chart]')].flatMap(box => {
    const edge = box.getBoundingClientRect();
    const shown = [...box.querySelectorAll('svg text')].filter(text => {
        const style = getComputedStyle(text);
        return text.textContent && style.opacity !== '0' && style.display !== 'none';
    });
    const over = shown.filter(text => {
        const at = text.getBoundingClientRect();
        return at.left < edge.left - 1 || at.right > edge.right + 1
            || at.top < edge.top - 1 || at.bottom > edge.bottom + 1;
    });
    const labels = [...box.querySelectorAll('svg .role-axis-label')].flatMap(axis => {
        const places = [...axis.querySelectorAll('text')]
            .filter(text => text.textContent && getComputedStyle(text).opacity !== '0')
            .map(text => text.getBoundingClientRect());
        return places.filter((a, i) => places.some((b, j) => j > i && a.left < b.right
            && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2));
    });
    return [...over.map(text => `${box.dataset.chart}: ${text.textContent}`),
        ...labels.map(() => `${box.dataset.chart}: labels overlap`)];
})"""


def look(chromium: Browser, path: Path, width: int, scheme: str) -> Seen:
    seen = Seen()
    context = chromium.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    tab = context.new_page()
    tab.on("console", lambda message: seen.complaints.append(message.text))
    tab.on("pageerror", lambda error: seen.complaints.append(str(error)))
    tab.on("request", lambda request: seen.requests.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector(f"html[data-drawn={scheme}]")
    seen.page_width = tab.evaluate("document.documentElement.scrollWidth")
    seen.drawn = set(tab.evaluate(DRAWN))
    seen.cut = tab.evaluate(CUT)
    seen.ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()
    return seen
