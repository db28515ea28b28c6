"""Play many seeds on all cores: ``python -m tests.simulation --seeds 1000``, or one: ``--seed 17``."""

import argparse
import logging
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.simulation.play import Outcome, play


def play_seed(seed: int) -> Outcome:
    """Live through a seed; what it raises is a problem too, since it would stop the others."""
    logging.disable(logging.CRITICAL)  # what fails here is meant to
    with tempfile.TemporaryDirectory() as folder:
        try:
            return play(seed, Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
            return Outcome(seed, problems=[f"it ended with {error!r}"])


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
    with ProcessPoolExecutor() as processes:
        playing = [processes.submit(play_seed, seed) for seed in seeds]
        done = track(as_completed(playing), "playing", len(playing), console=Console(stderr=True))
        outcomes = [one.result() for one in done]

    total, crashed_at, injected = Counter[str](), Counter[str](), Counter[str]()
    for one in outcomes:
        total += one.happened
        crashed_at += one.crashed_at
        injected += one.injected
    console.print(
        f"{len(outcomes):,} seeds, {sum(one.operations for one in outcomes):,} operations"
    )
    for title, counts in (
        ("happened", total),
        ("crashed before", crashed_at),
        ("faults", injected),
    ):
        listed = ", ".join(f"{name} {times:,}" for name, times in sorted(counts.items()))
        console.print(f"{title}: {listed or 'none'}")
    broken = sorted((one for one in outcomes if one.problems), key=lambda one: one.seed)
    for one in broken:
        console.print(f"\nseed {one.seed}: python -m tests.simulation --seed {one.seed}")
        for problem in one.problems[:10]:
            console.print(f"  {problem}", markup=False)
    console.print(f"\n{len(broken):,} seeds broke a rule")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
