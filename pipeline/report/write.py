"""report(): the page, written whole or not at all."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pipeline.lake.layout import Lake
from pipeline.report import page
from pipeline.report.facts import Account, read_accounts
from pipeline.report.figures import Figure, figures
from pipeline.sink import opened

log = logging.getLogger(__name__)

REPORT: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page that is not written yet.

    Attributes:
        content: the HTML, in UTF-8.
        accounts: what it shows, each with its figures.
    """

    content: bytes
    accounts: Sequence[tuple[Account, Sequence[Figure]]]


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written.

    Attributes:
        path: where it lies, absolute.
        accounts: what it shows, each with its figures.
        size: bytes.
        is_new: whether it is another page than the one that was there, which is left alone else.
    """

    path: Path
    accounts: Sequence[tuple[Account, Sequence[Figure]]]
    size: int
    is_new: bool


def report(lake: Lake, output: Path | None = None, *, account_id: str | None = None) -> Report:
    """Write the report of the published warehouse as one HTML file.

    Args:
        lake: the archive.
        output: the file to make or to replace, a pipe or a device; ``report.html`` in the archive's folder
            by default. Of a symbolic link, what it leads to.
        account_id: this account alone; None for all.

    Raises:
        UsageError: there is no archive, warehouse, account or folder of that name.
        ArchiveError: the warehouse can't be read; an old report stays.
    """
    began = time.monotonic()
    drawn = draw(lake, account_id=account_id)
    target = (output or lake.root / REPORT).absolute()
    is_new = not _has(target, drawn.content)
    if is_new:
        with opened(target, lake.files) as file:
            file.write(drawn.content)
    else:
        lake.files.keep(target.resolve())
    about = {
        "event": "report",
        "report": str(target),
        "bytes": len(drawn.content),
        "new": is_new,
        "seconds": round(time.monotonic() - began, 6),
    }
    log.info("wrote %s" if is_new else "%s is as it was", target, extra=about)
    return Report(target, drawn.accounts, len(drawn.content), is_new)


def draw(lake: Lake, *, account_id: str | None = None) -> Drawn:
    """Make the report of the published warehouse, and write it nowhere.

    It holds aggregates alone, less than 1 MB an account, and 0.9 MB of script: see `facts` for the
    bounds. The same warehouse gives the same page.

    Args:
        lake: the archive.
        account_id: this account alone; None for all.

    Raises:
        UsageError: there is no archive, warehouse or account of that name.
        ArchiveError: the warehouse can't be read.
    """
    found, left_out = read_accounts(lake, account_id)
    accounts = [(account, tuple(figures(account))) for account in found]
    has_charts = any(drawn for _, drawn in accounts)
    text = page.render(accounts, left_out, _vega(lake) if has_charts else "")
    return Drawn(text.encode(), accounts)


def _has(file: Path, content: bytes) -> bool:
    """Whether a regular file has this content already."""
    if not file.is_file() or file.stat().st_size != len(content):
        return False
    return file.read_bytes() == content


def _vega(lake: Lake) -> str:
    """Vega's script; kept in the archive's folder, since making it takes seconds."""
    kept = lake.derived(f"vega-{version('vl-convert-python')}.js")
    try:
        return kept.read_text(encoding="utf-8")
    except FileNotFoundError:
        script = page.vega()
    with lake.files.replacing(kept, lake.temporary_file("vega.js")) as file:
        file.write(script.encode())
    return script
