"""Running a subject as a process of its own, and what it cost; the API server's process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from tests.benchmarks.speed.server import ACCOUNT_SID, AUTH_TOKEN

ROOT = Path(__file__).parents[3]
_USAGE = Path(__file__).with_name("usage.py")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took.

    Attributes:
        cpu: seconds of processor time, start-up included.
        wall: seconds from start to end.
        memory: bytes of resident memory at its peak.
        output: what it wrote.
    """

    cpu: float
    wall: float
    memory: int
    output: str


class SubjectFailedError(Exception):
    """A process of the benchmark did not end well."""


def run(
    command: Sequence[str | Path], variables: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Cost:
    """Run a command to its end, importing compiled modules as an installed program does.

    Raises:
        SubjectFailedError: it failed.
    """
    environment = {**os.environ, "TWILIO_ACCOUNT_SID": ACCOUNT_SID, "TWILIO_AUTH_TOKEN": AUTH_TOKEN}
    environment |= variables or {}
    # Compiling what is imported is a third of a small sync's CPU time, and half of the floor's.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with TemporaryDirectory() as folder:
        told = Path(folder, "usage.json")
        measured = [sys.executable, "-IS", _USAGE, told, *command]
        began = time.perf_counter()
        ended = subprocess.run(
            [str(part) for part in measured],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=cwd,
        )
        wall = time.perf_counter() - began
        if ended.returncode:
            ended_with = f"{' '.join(map(str, command))} ended with {ended.returncode}"
            msg = f"{ended_with}:\n{ended.stdout[-4000:]}"
            raise SubjectFailedError(msg)
        usage = json.loads(told.read_text(encoding="utf-8"))
    # macOS counts bytes, Linux kibibytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage["cpu"], wall, usage["maxrss"] * unit, ended.stdout)


@dataclass(frozen=True, slots=True)
class Server:
    """The API server that is running."""

    url: str

    def set(
        self,
        *,
        latency: float = 0.0,
        each: float = 0.0,
        limit: float = 0.0,
        refused: float = 0.0,
    ) -> None:
        """Hold each answer back for so many seconds, and more for each of its records; admit so many
        requests a second; refuse a share of them at random; count anew."""
        self._tell(f"set?latency={latency}&each={each}&limit={limit}&refused={refused}")

    def asked(self) -> dict[str, int]:
        """Requests since `set`, and those refused, by their status."""
        return self._tell("stats")

    def _tell(self, what: str) -> dict[str, Any]:
        with urlopen(f"{self.url.removesuffix('/v1')}/bench/{what}") as answer:  # noqa: S310 - ours
            told: dict[str, Any] = json.load(answer)
            return told


@contextmanager
def serving(operations: int, *, varied: bool = False) -> Iterator[Server]:
    """Serve so many operations in another process, while the block lasts."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.speed.server",
        "--operations",
        str(operations),
        *(["--varied"] if varied else []),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait()
