"""Fuzz the parsers of responses: ``python -m tests.fuzzing --seconds 60``, or one input: ``FILE``.

The fuzzer is atheris, guided by coverage. It starts from responses of the emulated API. An input that breaks
a rule of `tests.support.oracle` is kept in ``.fuzzing/``, and the command that repeats it is shown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from tests.fuzzing.corpus import write_corpus, write_dictionary
from tests.support.oracle import CHECKS

KEPT = Path(".fuzzing")
LONGEST = 8_192
SLOWEST_SECONDS = 10


def main() -> None:
    """Fuzz, show the figures, and end with 1 if an input broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("input", nargs="?", type=Path, help="check this input alone")
    parser.add_argument("--seconds", type=int, default=60, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer")
    wanted = parser.parse_args()
    if wanted.input is not None:
        content = wanted.input.read_bytes()
        for check in CHECKS:
            Console().print(f"{check.__name__}: {dict(check(content))}")
        return
    sys.exit(fuzz(wanted.seconds, wanted.seed, Console(highlight=False, soft_wrap=True)))


def fuzz(seconds: int, seed: int, console: Console) -> int:
    """Run atheris in a process of its own, since what it looks for may end it."""
    (found := KEPT / "found").mkdir(parents=True, exist_ok=True)
    known = set(KEPT.glob("*-*"))
    with tempfile.TemporaryDirectory() as place:
        corpus, figures, words = Path(place, "corpus"), Path(place, "figures"), Path(place, "words")
        corpus.mkdir()
        count = write_corpus(corpus)
        write_dictionary(words)
        console.print(f"fuzzing for {seconds} s from {count} answers")
        options = [
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}"),
            *(f"-timeout={SLOWEST_SECONDS}", f"-dict={words}", f"-artifact_prefix={KEPT}/"),
            "-verbosity=0",
        ]
        command = [sys.executable, "-m", "tests.fuzzing.target", str(figures), *options]
        done = subprocess.run([*command, str(found), str(corpus)], check=False)
        seen = Counter[str](json.loads(figures.read_text()) if figures.exists() else {})
    broken = sorted(set(KEPT.glob("*-*")) - known)
    console.print(
        f"{seen['inputs']:,} inputs, each as three kinds of answer: {seen['accepted']:,} accepted "
        f"({seen['fast']:,} pages the fast way), "
        f"{seen['refused']:,} refused with documented errors\n"
        f"{seen['records']:,} records seen: {seen['rows']:,} rows, {seen['rejects']:,} rejects, "
        f"{seen['records'] - seen['rows'] - seen['rejects']:,} lost\n"
        f"{len(broken):,} inputs broke a rule, crashed or hung"
    )
    for one in broken:
        console.print(f"  python -m tests.fuzzing {one}")
    return int(bool(broken) or done.returncode != 0)


if __name__ == "__main__":
    main()
