"""The benchmark's figures: a table for the screen, and docs/performance.md."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

_LIBRARIES: Final = ("pyarrow", "duckdb", "msgspec", "dagster")
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure.

    Attributes:
        measure: what was measured.
        found: the figure, with its parts.
        target: the target; empty if there is none.
        holds: whether the figure meets it; None if there is no target.
    """

    measure: str
    found: str
    target: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        scale: 1 for the targets' sizes; smaller for a quick look.
        runs: of which each figure is the median.
        folder: for what is written.
    """

    scale: float
    runs: int
    folder: Path

    def of(self, size: int) -> int:
        """A size at this scale."""
        return max(int(size * self.scale), 1)

    def median(self, measure: Callable[[], Sequence[float]]) -> list[float]:
        """The median of each of some figures that are measured together, in several runs."""
        return [
            median(values) for values in zip(*(measure() for _ in range(self.runs)), strict=True)
        ]


def check(claim: bool, what: str) -> None:
    """Correctness is not traded: a result that is not the truth ends the benchmark.

    Raises:
        AssertionError: it is not.
    """
    if not claim:
        raise AssertionError(what)


def at_most(measure: str, value: float, most: float, unit: str, made_of: str = "") -> Figure:
    """A figure that should not be above a bound."""
    found = f"{_number(value)} {unit}" + (f" ({made_of})" if made_of else "")
    return Figure(measure, found, f"at most {_number(most)} {unit}", holds=value <= most)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> Table:
    """All figures for a terminal."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("measure", "figure", "target", ""):
        shown.add_column(name, overflow="merge")
    for one in figures:
        verdict = {True: "[green]holds[/]", False: "[red]missed[/]", None: ""}[one.holds]
        shown.add_row(one.measure, one.found, one.target, verdict)
    return shown


def write(file: Path, figures: Sequence[Figure], command: str) -> None:
    """Put the figures, the machine and the command into the document, between its two marks."""
    replace_between(file, _BEGIN, _END, document(figures, command))


def replace_between(file: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two marks of a file, in place of what is there."""
    before, _, rest = file.read_text().partition(begin)
    after = rest.partition(end)[2]
    file.write_text(before + begin + text + end + after)


def document(figures: Sequence[Figure], command: str) -> str:
    """The figures as Markdown, with the machine, the versions and the command."""
    verdicts = {True: "holds", False: "**missed**", None: ""}
    rows = [
        f"| {one.measure} | {one.found} | {one.target} | {verdicts[one.holds]} |" for one in figures
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return "\n".join(
        [
            "",
            f"`{command}` on {machine()}; Python {platform.python_version()}, {versions}.",
            "",
            "| measure | figure | target | |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "",
        ]
    )


def machine() -> str:
    """The machine in a few words: cores, memory, system."""
    cpus, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if not cpus.exists():
        return f"{platform.system()} {platform.machine()}"
    models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    gigabytes = int(memory.read_text().split()[1]) / 1024**2
    return f"{len(models) or 1} cores of {name}, {gigabytes:.0f} GiB, {platform.system()}"
