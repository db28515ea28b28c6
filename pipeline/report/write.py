"""report(): write the page atomically."""

import logging
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pipeline.access.sink import opened
from pipeline.lake.accounts import accounts_named
from pipeline.lake.layout import Lake
from pipeline.report import html, sentences
from pipeline.report.data import Account, read_accounts
from pipeline.report.figures import Figure, figures
from pipeline.report.formats import RATE_NAMES
from pipeline.report.rows import CHOSEN

log = logging.getLogger(__name__)

REPORT: Final = "report.html"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A page that is not written yet.

    Attributes:
        content: the HTML, in UTF-8.
        accounts: the accounts shown, each with its figures.
    """

    content: bytes
    accounts: Sequence[tuple[Account, Sequence[Figure]]]


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written.

    Attributes:
        path: the file, absolute.
        accounts: the accounts shown, each with its figures.
        size: in bytes.
        is_new: whether the page differs from the file before; an equal file is not rewritten.
    """

    path: Path
    accounts: Sequence[tuple[Account, Sequence[Figure]]]
    size: int
    is_new: bool

    @property
    def key_figures(self) -> dict[str, float | str]:
        """The figures of the first chosen period, of all accounts together, and a summary in sentences."""
        first = next((account for account, _ in self.accounts), None)
        if first is None or CHOSEN not in first.periods:
            return {}
        names = ("emails", "operations", *RATE_NAMES)
        known = {name: first.periods[CHOSEN][name] for name in names}
        figures = {name: value for name, value in known.items() if value is not None}
        return figures | {"summary": " ".join(sentences.summary(first, CHOSEN))}


def report(lake: Lake, output: Path | None = None, *, accounts: Collection[str] = ()) -> Report:
    """Write the report of the published warehouse as one HTML file.

    Args:
        lake: the archive.
        output: the file to create or replace, a pipe or a device. A symbolic link is followed. By default
            ``report.html`` in the archive's folder, and ``report-NAME.html`` for some accounts.
        accounts: only those with these SIDs or names; all if empty.

    Raises:
        UsageError: there is no archive, warehouse, account or folder of that name.
        ArchiveError: the warehouse can't be read; an old report stays.
    """
    began = time.monotonic()
    drawn = draw(lake, accounts=accounts)
    target = (output or lake.root / _file_name(lake, accounts)).absolute()
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
    log.info("wrote %s" if is_new else "%s is unchanged", target, extra=about)
    return Report(target, drawn.accounts, len(drawn.content), is_new)


def _file_name(lake: Lake, accounts: Collection[str]) -> str:
    """The report of some accounts must not replace that of all."""
    if not accounts:
        return REPORT
    named = sorted(accounts_named(lake.must_exist(), accounts), key=lambda one: one.name)
    # A name with other characters is replaced by the SID: two of them may be alike without these.
    parts = (one.name if re.fullmatch(r"[\w.-]+", one.name) else one.sid for one in named)
    return f"report-{'+'.join(parts)}.html"


def draw(lake: Lake, *, accounts: Collection[str] = ()) -> Drawn:
    """Make the report of the published warehouse without writing it.

    It has aggregates alone, with the limits of `data`. The same warehouse gives the same page.

    Args:
        lake: the archive.
        accounts: only those with these SIDs or names; all if empty.

    Raises:
        UsageError: there is no archive, warehouse or account of that name.
        ArchiveError: the warehouse can't be read.
    """
    found, left_out = read_accounts(lake, accounts)
    shown = [(account, tuple(figures(account))) for account in found]
    has_charts = any(drawn for _, drawn in shown)
    text = html.render(shown, left_out, _vega(lake) if has_charts else "")
    return Drawn(text.encode(), shown)


def _has(file: Path, content: bytes) -> bool:
    """Whether a regular file already has this content."""
    if not file.is_file() or file.stat().st_size != len(content):
        return False
    return file.read_bytes() == content


def _vega(lake: Lake) -> str:
    """Vega's script, cached in the archive's folder: building it takes seconds."""
    kept = lake.derived(f"vega-{version('vl-convert-python')}.txt")
    try:
        return kept.read_text(encoding="utf-8")
    except FileNotFoundError:
        script = html.vega()
    with lake.files.replacing(kept, lake.temporary_file("vega.txt")) as file:
        file.write(script.encode())
    return script
