"""The process that is fuzzed: atheris calls the checks with one input after the other.

``python -m tests.fuzzing.target FIGURES [libFuzzer's options and corpus]``. It ends at the first input
that breaks a rule, crashes or hangs; the figures are in the file FIGURES whenever it ends.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline.twilio"]):
    import pipeline.twilio.jsontext
    import pipeline.twilio.wire  # noqa: F401 - its instrumented self is what the checks then import

from tests.support.oracle import CHECKS

EVERY_SECONDS = 1.0


class Target:
    """Checks an input as each kind of answer, and keeps the figures."""

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


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], Target(Path(sys.argv[1])))
    atheris.Fuzz()
