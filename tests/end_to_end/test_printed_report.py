"""The demo's report on paper: Chromium prints it, and each page is looked at."""

import io
from pathlib import Path

import pypdfium2
import pytest
from playwright.sync_api import Browser

MARGIN = 12 / 25.4 * 72
"""The margin that the page asks for on both sides, in points."""

AT_THE_RIGHT = ("30 Sep", "opened", "168 h", "40%", "34%", "Sat Sun", "14.42% 1.29% 0.20%")
"""What charts and the table of days have near their right edges."""

FOLLOWED_BY = {
    "Why emails failed": "operations with failed emails",
    "Largest operations": "comms_operation_",
    "The last settled week": "The newest 7 days in a row",
    "Over time": "The operations created in 28 days",
    "How fast emails arrive": "attempted emails were delivered",
    "By hour of the week": "the busiest hour of the week",
    "By size of operation": "operations of 1 email make the most",
    "Completeness": "23 days are final",
}
"""Headings, and what the captions of the charts below them say."""


@pytest.fixture(scope="module", params=["A4", "Letter"])
def paper(
    request: pytest.FixtureRequest, chromium: Browser, page_of_largest: Path
) -> pypdfium2.PdfDocument:
    return printed(chromium, page_of_largest, request.param, "light")


def printed(chromium: Browser, path: Path, size: str, scheme: str) -> pypdfium2.PdfDocument:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.wait_for_selector(f"html[data-drawn={scheme}]")
    content = tab.pdf(format=size, print_background=True)
    context.close()
    return pypdfium2.PdfDocument(io.BytesIO(content))


def texts(paper: pypdfium2.PdfDocument) -> list[str]:
    return [" ".join(page.get_textpage().get_text_range().split()) for page in paper]


def test_nothing_reaches_into_the_margins(paper: pypdfium2.PdfDocument):
    for page in paper:
        picture = page.render(scale=1).to_pil().convert("L")
        left, _, right, _ = picture.point(lambda grey: 255 if grey < 250 else 0).getbbox()
        assert left >= MARGIN - 1
        assert right <= picture.width - MARGIN + 1


def test_charts_are_printed_to_their_right_edge(paper: pypdfium2.PdfDocument):
    printed = " ".join(texts(paper))
    assert [text for text in AT_THE_RIGHT if text not in printed] == []


def test_headings_stay_with_their_charts(paper: pypdfium2.PdfDocument):
    pages = texts(paper)
    for heading, caption in FOLLOWED_BY.items():
        (page,) = [text for text in pages if heading in text]
        assert caption in page.partition(heading)[2], heading


def test_dark_scheme_is_printed_on_white(chromium: Browser, page_of_largest: Path):
    (first, *_) = printed(chromium, page_of_largest, "A4", "dark")
    shades = first.render(scale=0.5).to_pil().convert("L").histogram()
    assert shades[255] > 0.8 * sum(shades)
