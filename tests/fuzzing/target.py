"""The process that is fuzzed: atheris calls the checks with one input after the other.

``python -m tests.fuzzing.target FIGURES [libFuzzer's options and corpus]``. It ends at the first input
that breaks a rule, crashes or hangs; the figures are in the file FIGURES whenever it ends.
"""

import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline.twilio"]):
    import pipeline.twilio.parsing  # noqa: F401 - its instrumented self is what the checks then import

from tests.properties.pages import NUMBERS, TIMES
from tests.support.oracle import CHECKS

EVERY_SECONDS = 1.0
VALUES = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*|null|true|false')
WORDS = [
    *(word.encode() for word in (*NUMBERS, *map(json.dumps, TIMES))),
    *(
        b'""',
        b"null",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b'"\\u0000"',
        b'"next"',
        b'"data"',
        b'"operations"',
    ),
]


class Target:
    """Checks an input as each kind of response, and counts the results."""

    def __init__(self, figures: Path) -> None:
        self._file = figures
        self._seen: Counter[str] = Counter()
        self._written = 0.0

    def __call__(self, content: bytes) -> None:
        """Check one input."""
        self._seen["inputs"] += 1
        try:
            for check in CHECKS:
                seen = check(content)
                del seen["inputs"]
                self._seen.update(seen)
        except BaseException:
            self._seen["failures"] += 1
            self._write()
            raise
        if time.monotonic() - self._written > EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(self._seen))
        beside.replace(self._file)


class Mutator:
    """Half of the time libFuzzer's own changes; else one value of an answer, and the rest stays JSON.

    Without it, next to nothing comes as far as pyarrow, whose branches the fuzzer can't see.
    """

    def __init__(self, corpus: Path) -> None:
        self._answers = [file.read_bytes() for file in sorted(corpus.iterdir())]

    def __call__(self, content: bytes, longest: int, seed: int) -> bytes:
        """One changed input."""
        chance = random.Random(seed)  # noqa: S311 - libFuzzer's seed decides, so that a run repeats
        if chance.random() < 0.5:
            return atheris.Mutate(content, longest)
        answer = content if chance.random() < 0.5 else chance.choice(self._answers)
        values = list(VALUES.finditer(answer))
        if not values:
            return atheris.Mutate(content, longest)
        begin, end = chance.choice(values).span()
        if chance.random() < 0.5:
            return (answer[:begin] + chance.choice(WORDS) + answer[end:])[:longest]
        place = chance.randrange(begin, end + 1)
        return (answer[:place] + chance.randbytes(chance.randint(1, 2)) + answer[place:])[:longest]


if __name__ == "__main__":
    atheris.Setup(
        [sys.argv[0], *sys.argv[2:]],
        Target(Path(sys.argv[1])),
        custom_mutator=Mutator(Path(sys.argv[-1])),
    )
    atheris.Fuzz()
