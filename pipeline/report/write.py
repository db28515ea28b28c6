"""report(): the page, written whole or not at all."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.report import page
from pipeline.report.facts import Account, read_accounts
from pipeline.report.figures import Figure, figures

log = logging.getLogger(__name__)

REPORT: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written.

    Attributes:
        path: where it lies, absolute.
        accounts: what it shows, each with its figures.
        size: bytes.
    """

    path: Path
    accounts: Sequence[tuple[Account, Sequence[Figure]]]
    size: int


def report(lake: Lake, output: Path | None = None, *, account_id: str | None = None) -> Report:
    """Write the report of the published warehouse as one HTML file.

    It holds aggregates alone, less than 1 MB an account, and 0.9 MB of script: see `facts` for the
    bounds. The same warehouse gives the same page.

    Args:
        lake: the archive.
        output: the file to make or to replace; ``report.html`` in the archive's folder by default.
        account_id: this account alone; None for all.

    Raises:
        UsageError: there is no archive, warehouse, account or folder of that name.
        ArchiveError: the warehouse can't be read; an old report stays.
    """
    began = time.monotonic()
    found, left_out = read_accounts(lake, account_id)
    accounts = [(account, tuple(figures(account))) for account in found]
    has_charts = any(drawn for _, drawn in accounts)
    text = page.render(accounts, left_out, _vega(lake) if has_charts else "")
    target, temporary = _place(lake, output)
    content = text.encode()
    with (
        lake.files.locked(lake.lock_file("report"), "the report"),
        lake.files.replacing(target, temporary) as file,
    ):
        file.write(content)
    seconds = round(time.monotonic() - began, 6)
    about = {"event": "report", "report": str(target), "bytes": len(content), "seconds": seconds}
    log.info("wrote %s", target, extra=about)
    return Report(target, accounts, len(content))


def _place(lake: Lake, output: Path | None) -> tuple[Path, Path]:
    """Where the report goes, and where it is written first."""
    if output is None:
        return (lake.root / REPORT).absolute(), lake.temporary_file(REPORT)
    target = output.absolute()
    if not target.parent.is_dir() or target.is_dir():
        msg = f"expected a file in a folder that exists, got {output}"
        raise UsageError(msg)
    return target, target.with_name(f".{target.name}.tmp")


def _vega(lake: Lake) -> str:
    """Vega's script; kept in the archive's folder, since making it takes seconds."""
    kept = lake.root / ".cache" / f"vega-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except FileNotFoundError:
        script = page.vega()
    with lake.files.replacing(kept, lake.temporary_file("vega.js")) as file:
        file.write(script.encode())
    return script
