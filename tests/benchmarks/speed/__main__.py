"""The speed benchmark: ``python -m tests.benchmarks.speed`` measures, shows the figures, writes them down.

``--only load,rescan`` measures some alone, ``--scale 0.05`` takes smaller sizes: both for a quick look, which
is shown and not written. Every result is checked against the truth; where one is wrong or fails, the table
says so in place of the figure, and the command ends with 1.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from traceback import format_exception
from typing import Final

from rich.console import Console

from pipeline import process
from tests.benchmarks.speed import accounts, on_disk, over_http, report
from tests.benchmarks.speed.process import ROOT
from tests.benchmarks.speed.report import Figure, Plan

MEASURES: Final[dict[str, Callable[[Plan], list[Figure]]]] = {
    "load": over_http.load,
    "memory": over_http.memory,
    "rescan": on_disk.rescan,
    "query": on_disk.query,
    "archive": on_disk.archive_size,
    "accounts": accounts.accounts,
    "start": over_http.start,
    "idle": over_http.idle,
    "pace": over_http.pace,
}

_EXCERPT: Final = 160


def measure(
    names: list[str], plan: Plan, tell: Callable[[str], None] = lambda _: None
) -> list[Figure]:
    """The figures of some measures, in order; one that fails is a figure too, and the others go on."""
    figures: list[Figure] = []
    for name in names:
        tell(f"measuring {name}")
        try:
            figures += MEASURES[name](plan)
        except Exception as error:  # noqa: BLE001 - hours of figures are not to be lost for one
            tell("".join(format_exception(error)))
            why = " ".join(f"{type(error).__name__}: {error}".split())[:_EXCERPT]
            figures.append(Figure(name, f"failed: {why}", "to be measured", holds=False))
    return figures


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure what the archive costs.")
    parser.add_argument("--only", default="", help=f"some of {', '.join(MEASURES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes; 1 is the targets'")
    parser.add_argument("--runs", type=int, default=3, help="of which each figure is the median")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name] or list(MEASURES)
    if unknown := set(names) - set(MEASURES):
        parser.error(f"expected some of {', '.join(MEASURES)}; got {', '.join(sorted(unknown))}")
    console = Console()
    process.prepare()  # as the command does
    with tempfile.TemporaryDirectory(prefix="email-archive-bench-") as folder:
        plan = Plan(asked.scale, asked.runs, Path(folder))
        figures = measure(names, plan, lambda text: console.print(text, style="dim", markup=False))
    console.print(report.table(figures))
    if names == list(MEASURES) and asked.scale == 1:
        report.write(ROOT / "docs" / "performance.md", figures, "make bench")
        console.print("written: docs/performance.md", highlight=False)
    if any(figure.measure in MEASURES for figure in figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
