"""``python -m tests.benchmarks.peers``: the same load with dlt, beside ours, into docs/performance.md.

dlt is no dependency of the project: the command makes an environment of its own from versions.txt.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.benchmarks.speed.load import Truth, columns, truth
from tests.benchmarks.speed.over_http import MIB, check_archive, ours
from tests.benchmarks.speed.process import ROOT, Cost, Server, run, serving
from tests.benchmarks.speed.report import check, machine, replace_between

_HERE: Final = Path(__file__).parent
_ENVIRONMENT: Final = ROOT / ".venv-peers"
_BEGIN, _END = "<!-- peers -->\n", "<!-- end of peers -->"
_HEAD: Final = (
    "tool",
    "operations",
    "CPU",
    "CPU per operation",
    "peak memory",
    "requests",
    "contains",
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one tool took for the load, and what its result contains."""

    tool: str
    operations: int
    cost: Cost
    requests: int
    contains: str

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        return (
            self.tool,
            f"{self.operations:,}",
            f"{self.cost.cpu:.1f} s",
            f"{1e6 * self.cost.cpu / self.operations:.1f} µs",
            f"{self.cost.memory / MIB:.0f} MiB",
            f"{self.requests:,}",
            self.contains,
        )


def environment() -> Path:
    """The interpreter of the peers' environment, made if it is not there."""
    python = _ENVIRONMENT / "bin" / "python"
    ready = _ENVIRONMENT / ".ready"
    versions = (_HERE / "versions.txt").read_text()
    if not ready.exists() or ready.read_text() != versions:
        run([sys.executable, "-m", "venv", _ENVIRONMENT])
        run([python, "-m", "pip", "install", "--quiet", "-r", _HERE / "versions.txt"])
        ready.write_text(versions)
    return python


def measure(operations: int, folder: Path) -> list[Row]:
    """Each tool's load of so many operations; one run each, once the server has compressed its pages."""
    python = environment()
    expected = truth(columns(operations))
    with serving(operations) as server:

        def row(tool: str, load: Callable[[], Cost], contains: str) -> Row:
            load()
            server.set()
            cost = load()
            return Row(tool, operations, cost, server.asked()["requests"], contains)

        rows = [
            row(
                "email-archive sync",
                lambda: ours(server, folder / "archive"),
                "newest states, history of states, proof of coverage, delivery tables with rates, views",
            )
        ]
        check_archive(folder / "archive", expected)
        for name, what in (
            ("filesystem", "Parquet files of records as they came; every further run appends"),
            ("duckdb", "one table of newest states, merged by id"),
        ):
            place = folder / name
            rows.append(
                row(f"dlt, {name}", lambda n=name, p=place: _with_dlt(python, server, n, p), what)
            )
            _check_dlt(place, name, expected)
    return rows


def _with_dlt(python: Path, server: Server, destination: str, folder: Path) -> Cost:
    run(["rm", "-rf", folder])
    folder.mkdir()
    # Telemetry off; what a user can set for speed and the documentation recommends stays as it comes.
    command = [python, _HERE / "load_with_dlt.py", server.url, destination, folder]
    return run(command, {"RUNTIME__DLTHUB_TELEMETRY": "false"}, folder)


def _check_dlt(folder: Path, destination: str, expected: Truth) -> None:
    """Its result has to be right too, or the comparison means nothing."""
    with duckdb.connect(
        str(folder / "dlt.duckdb") if destination == "duckdb" else ":memory:"
    ) as found:
        rows = (
            "twilio.operations"
            if destination == "duckdb"
            else f"read_parquet('{folder}/files/twilio/operations/*.parquet')"
        )
        query = f"SELECT count(*), count(DISTINCT id), sum(stats__delivered) FROM {rows}"
        got = found.execute(query).fetchone()
    wanted = (expected.operations, expected.operations, expected.sums["delivered"])
    check(got == wanted, f"dlt, {destination}: expected {wanted}, got {got}")


def main() -> None:
    """Measure, show and write down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0, help="of 1,000,000 operations")
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory(prefix="email-archive-peers-") as folder:
        rows = measure(int(1_000_000 * scale), Path(folder))
    shown = Table(*_HEAD, box=SIMPLE_HEAD)
    for row in rows:
        shown.add_row(*row.cells())
    Console().print(shown)
    if scale == 1:
        lines = [_HEAD, ("---",) * len(_HEAD), *(row.cells() for row in rows)]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        text = f"\n`make bench-peers` on {machine()}.\n\n{text}\n\n"
        replace_between(ROOT / "docs" / "performance.md", _BEGIN, _END, text)


if __name__ == "__main__":
    main()
