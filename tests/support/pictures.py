"""Pictures of the demo's report for docs/, by Chromium: ``python -m tests.support.pictures FOLDER``."""

import io
import shutil
import sys
from pathlib import Path

import pypdfium2
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.lake.layout import Lake
from tests.support.reports import of_largest

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_COLOURS = 128
_CHARTS = ("volume", "delivery_rate", "delivery_curve", "weekday_hour", "coverage")
_TABLES = ("worst", "series")


def main(folder: Path) -> None:
    """Take pictures of the archive in ``folder/data/demo``."""
    every = folder / "data" / "demo" / "report.html"
    one = of_largest(Lake(every.parent), folder)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, size, scheme in (
            ("light", (1180, 1000), "light"),
            ("dark", (1180, 1000), "dark"),
            ("phone", (390, 844), "light"),
        ):
            tab = _opened(chromium, every, size, scheme)
            _save(name, tab.screenshot())
            tab.context.close()
        tab = _opened(chromium, one, (720, 1000), "light", scale=2)
        for name in _CHARTS:
            _save(name, tab.locator(f"figure.{name}").screenshot())
        tab = _opened(chromium, one, (1180, 1000), "light", scale=2)
        for name in _TABLES:
            _save(name, tab.locator(f".scroll:has(table.{name}):visible").screenshot())
        _save("print", _first_pages(tab.pdf(format="A4", print_background=True)))
        chromium.close()


def _opened(
    chromium: Browser, page: Path, size: tuple[int, int], scheme: str, scale: int = 1
) -> Page:
    width, height = size
    context = chromium.new_context(
        device_scale_factor=scale,
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 400,
    )
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector(f"html[data-drawn={scheme}]")
    return tab


def _first_pages(paper: bytes) -> bytes:
    """The first two pages, side by side."""
    left, right = (page.render(scale=1).to_pil() for page in list(pypdfium2.PdfDocument(paper))[:2])
    both = Image.new("RGB", (left.width + right.width + 8, left.height), "grey")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 8, 0))
    content = io.BytesIO()
    both.save(content, "PNG")
    return content.getvalue()


def _save(name: str, picture: bytes) -> None:
    """Store a picture with few colours: a third of the bytes."""
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(_IMAGES / f"report-{name.replace('_', '-')}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
