"""Play many seeds on all cores: ``python -m tests.simulation --seeds 1000``, or one: ``--seed 17``."""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.simulation.play import Outcome, play


def play_seed(seed: int) -> Outcome:
    """Live through a seed; what it raises is a problem too, since it would stop the others."""
    logging.disable(logging.CRITICAL)  # what fails here is meant to
    in_memory = Path("/dev/shm")  # noqa: S108 - nothing here outlives the seed, and syncing is modelled
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        try:
            return play(seed, Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
            return Outcome(
                seed,
                problems=[f"it ended with {error!r}", *traceback.format_exc().splitlines()[-6:]],
            )


def main() -> None:
    """Play, show the figures, and end with 1 if a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone")
    wanted = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if wanted.seed is not None:
        seeds = range(wanted.seed, wanted.seed + 1)
    else:
        seeds = range(wanted.first, wanted.first + wanted.seeds)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(
        min(os.cpu_count() or 1, len(seeds)),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as processes:
        playing = [processes.submit(play_seed, seed) for seed in seeds]
        done = track(as_completed(playing), "playing", len(playing), console=Console(stderr=True))
        try:
            outcomes.extend(one.result() for one in done)
        except KeyboardInterrupt:  # what has been played so far is worth telling
            processes.shutdown(cancel_futures=True)
    _show(console, outcomes)
    broken = sorted((one for one in outcomes if one.problems), key=lambda one: one.seed)
    for one in broken:
        console.print(f"\nseed {one.seed}: make simulate SEED={one.seed}")
        for problem in one.problems[:10]:
            console.print(f"  {problem}", markup=False)
    console.print(
        f"\n{len(broken):,} of {len(outcomes):,} seeds broke a rule "
        f"(in {time.monotonic() - began:,.0f} s)"
    )
    sys.exit(bool(broken))


def _show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The figures of all seeds together."""
    operations = sum(one.operations for one in outcomes)
    console.print(f"{len(outcomes):,} seeds, {operations:,} operations")
    for title, name in (
        ("happened", "happened"),
        ("crashes before", "crashed_before"),
        ("crashes after", "crashed_after"),
        ("failures of the disk at", "failed_at"),
        ("faults of the API", "injected"),
    ):
        counts = sum((getattr(one, name) for one in outcomes), Counter[str]())
        listed = ", ".join(f"{kind} {times:,}" for kind, times in sorted(counts.items()))
        total = "" if name == "happened" else f"{counts.total():,} "
        console.print(f"{title}: {total}({listed or 'none'})")


if __name__ == "__main__":
    main()
