"""The refresh benchmark: what the policy costs, and how near the truth it keeps the archive.

``python -m tests.benchmarks.refresh`` plays 14 days on the emulator's clock, at two sizes of account,
for this policy and three that a naive connector might have. It shows the figures, and writes them to
``docs/refresh.md`` and ``docs/images/refresh.png``. Nothing waits, and no machine's clock is read: the same
code always has the same figures.

World and policies start 8 days before the measured days. So every operation of these days was scanned for
its whole retention, and the first sync of an empty archive is not measured.

What a policy misses depends on when it scans which hours, and not on their number of operations. So errors
are measured for both sizes on the operations of the larger account, whose hours have the same distribution.
At 2,000 operations a day, one mailing to 10,000 recipients would outweigh all others.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console

from pipeline.emulator.world import World
from pipeline.extract.planner import RefreshPolicy
from pipeline.model.windows import DAY
from tests.benchmarks.errors import Errors, Population, measure
from tests.benchmarks.model import Log, archive, rescan, yesterday_once
from tests.benchmarks.output import HOURLY, OURS, QUARTERLY, YESTERDAY, Result, document, table
from tests.benchmarks.picture import draw
from tests.benchmarks.speed.report import replace_between

SEED: Final = 1
START: Final = datetime(2026, 9, 1, tzinfo=UTC)
FIRST: Final = START + 8 * DAY
LAST: Final = FIRST + 14 * DAY
SIZES: Final = (2_000, 200_000)
SAMPLE: Final = 15_000
POLICY: Final = RefreshPolicy(requests=5_000)
"""What the settings' defaults make."""

_MINUTE: Final = timedelta(minutes=1)
_DOCS: Final = Path(__file__).parents[2] / "docs"


def ticks(every: timedelta, after: timedelta = timedelta()) -> Iterator[datetime]:
    """When a policy runs: from the world's start to the end of the measured days."""
    now = START + after
    while now < LAST:
        yield now
        now += every


def play(per_day: int) -> dict[str, Log]:
    """What each policy does at one size of account."""
    world = World(SEED, per_day, START)
    rows = POLICY.page_rows
    return {
        OURS: archive(world, POLICY, ticks(10 * _MINUTE)),
        QUARTERLY: rescan(world, rows, ticks(15 * _MINUTE)),
        HOURLY: rescan(world, rows, ticks(60 * _MINUTE)),
        YESTERDAY: yesterday_once(world, rows, ticks(DAY, after=10 * _MINUTE)),
    }


def run() -> list[Result]:
    """Every policy's figures at every size, in order."""
    with ProcessPoolExecutor() as processes:
        logs = [
            (per_day, policy, log)
            for per_day, played in zip(SIZES, processes.map(play, SIZES), strict=True)
            for policy, log in played.items()
        ]
    # Listings of everything find the same at every size: they are measured once.
    scans = {tuple(log.seen): None for _, _, log in logs}
    population = Population.of(World(SEED, max(SIZES), START), LAST)
    errors = dict(zip(scans, measure(population, list(scans), FIRST, LAST, SAMPLE), strict=True))
    return [_result(per_day, policy, log, errors[tuple(log.seen)]) for per_day, policy, log in logs]


def _result(per_day: int, policy: str, log: Log, errors: Errors) -> Result:
    days = (LAST - FIRST) / DAY
    requests = {at: requests for at, requests in log.requests.items() if at >= FIRST}
    merges = {(seen.at, seen.start.date()) for seen in log.seen if seen.at >= FIRST}
    return Result(
        per_day,
        policy,
        requests_per_day=sum(requests.values()) / days,
        errors=errors,
        clock_per_day=len(requests) / days if policy == OURS else 0.0,
        merges_per_day=len(merges) / days,
    )


def main() -> None:
    """Run the benchmark, show its figures and write them down."""
    results = run()
    console = Console()
    for per_day in SIZES:
        console.print(table(results, per_day))
    text = f"\n{document(results, FIRST, LAST, SEED)}\n"
    replace_between(_DOCS / "refresh.md", "<!-- figures -->\n", "<!-- end of figures -->", text)
    draw(results, (LAST - FIRST) // DAY, _DOCS / "images" / "refresh.png")
    console.print("written: docs/refresh.md, docs/images/refresh.png", highlight=False)


if __name__ == "__main__":
    main()
