"""The demo's report as a reader uses it, in Chromium."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.report.write import report
from tests.end_to_end.conftest import Demo
from tests.support import page
from tests.support.factories import ACCOUNT, DAY, OTHER_ACCOUNT, record
from tests.support.reports import on, published


@pytest.fixture
def tab(chromium: Browser, page_of_largest: Path) -> Iterator[Page]:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900},
        permissions=["clipboard-read", "clipboard-write"],
        timezone_id="America/Los_Angeles",  # whatever the reader's zone, days are UTC
    )
    opened = context.new_page()
    opened.goto(page_of_largest.as_uri())
    opened.wait_for_selector("html[data-drawn-period='28']")
    yield opened
    context.close()


def choose(tab: Page, period: str) -> None:
    tab.locator(f"label:has(#period-{period})").click()
    tab.wait_for_selector(f"html[data-drawn-period='{period}']")


def bars(tab: Page) -> int:
    return tab.locator("[data-chart=volume] .mark-rect path").count()


def column(tab: Page, number: int) -> list[str]:
    return tab.locator(f"table.series tbody td:nth-of-type({number})").all_inner_texts()


@pytest.mark.parametrize(("period", "days"), [("7", 7), ("90", 30), ("all", 30)])
def test_period_changes_figures_charts_and_table(
    tab: Page, page_of_largest: Path, period: str, days: int
):
    assert (bars(tab), len(column(tab, 1))) == (28, 28)
    choose(tab, period)
    assert (bars(tab), len(column(tab, 1))) == (days, days)
    shown = [card.inner_text() for card in tab.locator("[data-card=emails] .value:visible").all()]
    text = page.read(page_of_largest)
    assert shown == [page.cards(text, period)["emails"][1]]
    caption = tab.locator("figure.volume figcaption").inner_text()
    assert caption.startswith(f"The operations created in {days} days have {shown[0]} emails")


def test_changing_days_are_hollow(tab: Page):
    fills = tab.locator("[data-chart=volume] .mark-rect path").evaluate_all(
        "paths => paths.map(path => path.getAttribute('fill'))"
    )
    assert [fill.lower() for fill in fills] == ["#0072b2"] * 21 + ["#ffffff"] * 7


def test_labels_are_below_their_bars(tab: Page):
    """Each label's middle is within a bar, and its day is that bar's."""
    places = tab.locator("[data-chart=volume]").evaluate("""box => {
        const middle = (element) => {
            const at = element.getBoundingClientRect();
            return (at.left + at.right) / 2;
        };
        const bars = [...box.querySelectorAll('.mark-rect path')].map(middle);
        return [...box.querySelectorAll('.role-axis-label text')]
            .filter(text => / Sep/.test(text.textContent) && getComputedStyle(text).opacity !== '0')
            .map(text => [text.textContent,
                bars.findIndex(bar => Math.abs(bar - middle(text)) < 4)]);
    }""")
    assert len(places) > 5
    assert [label for label, _ in places] == [f"{bar + 3} Sep" for _, bar in places]


def test_table_of_days_fits_the_page(chromium: Browser, demo: Demo):
    """Also with a day that is known in part."""
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    opened.goto((demo.data / "report.html").as_uri())
    opened.wait_for_selector("html[data-drawn-period='28']")
    widths = opened.locator(".days:visible").evaluate_all(
        "boxes => boxes.map(box => box.scrollWidth - box.clientWidth)"
    )
    opened.close()
    assert len(widths) == 3
    assert set(widths) == {0}


def test_table_is_sorted_by_a_click(tab: Page):
    tab.locator("[data-column=emails] button").click()
    shown = [int(text.replace(",", "")) for text in column(tab, 3)]
    assert shown == sorted(shown, reverse=True)
    tab.locator("[data-column=emails] button").click()
    assert [int(text.replace(",", "")) for text in column(tab, 3)] == shown[::-1]
    heads = tab.locator("table.series th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in heads.all()] == ["ascending"]


def test_table_is_saved_as_csv(tab: Page, page_of_largest: Path):
    choose(tab, "7")
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="Download as CSV").click()
    assert saved.value.suggested_filename.endswith("-7-days.csv")
    with saved.value.path().open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    days = page.tables(page.read(page_of_largest))["days"][:-8:-1]
    assert [row["created_date"] for row in rows] == [day["period"] for day in days]
    assert [int(row["delivered"]) for row in rows] == [day["delivered"] for day in days]
    rates = [float(row["open_rate"]) for row in rows]
    assert rates == pytest.approx([day["open_rate"] for day in days], rel=1e-12)


def test_id_of_an_operation_is_copied(tab: Page):
    row = tab.locator("table.worst tbody tr:visible").first
    row.get_by_role("button", name="Copy").click()
    row.get_by_role("button", name="Copied").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == row.locator("code").inner_text()
    assert copied.startswith("comms_operation_")


def test_touch_shows_figures_and_has_its_own_words(chromium: Browser, page_of_largest: Path):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    tab = context.new_page()
    tab.goto(page_of_largest.as_uri())
    tab.wait_for_selector("html[data-drawn]")
    gestures = tab.locator(".gestures:visible").all_inner_texts()
    assert gestures == ["Tap a bar or a point for its figures, drag sideways to move."]
    tab.locator("[data-chart=volume] .mark-rect path").nth(10).tap()
    tip = tab.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert "Sun 13 Sep 2026" in tip.inner_text()
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_page_without_javascript_shows_its_figures(chromium: Browser, page_of_largest: Path):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page_of_largest.as_uri())
    assert tab.locator("table.series tbody tr").count() == 28
    assert tab.locator("noscript p:visible").count() == 1
    tab.locator("label:has(#period-7)").click()
    assert tab.locator("article:visible h3").all_inner_texts() == [
        "The 7 days from 24 Sep 2026 00:00 UTC, still changing"
    ]
    assert tab.locator("button:visible").count() == 0
    context.close()


def test_account_can_be_chosen(chromium: Browser, tmp_path: Path):
    """The total and each account have a section; the choice leaves one."""
    scans = [on(DAY, record(n), account_id=sid) for n, sid in ((1, ACCOUNT), (2, OTHER_ACCOUNT))]
    tab = chromium.new_page()
    tab.goto(report(published(tmp_path, *scans)).path.as_uri())
    tab.wait_for_selector("html[data-drawn]")
    names = tab.locator("h2:visible")
    assert names.all_inner_texts() == ["All accounts", ACCOUNT, OTHER_ACCOUNT]
    tab.locator("#account").select_option(OTHER_ACCOUNT)
    assert names.all_inner_texts() == [OTHER_ACCOUNT]
    tab.locator("[data-chart=volume]:visible .mark-rect path").first.wait_for()
    tab.close()
