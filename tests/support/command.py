"""The command `email-archive` in a process of its own, with no settings but those that a test gives."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def started(
    *arguments: str, cwd: Path, module: str = "pipeline.cli", **environment: str
) -> "subprocess.Popen[str]":
    """`email-archive` with these arguments, or another module, under way.

    The API's clock is trusted: it is an emulator's, and nothing is to depend on today's date.
    """
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=keep | {"PYTHONPATH": str(ROOT), "EMAIL_ARCHIVE_TRUST_CLOCK": "true"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`email-archive` with these arguments, done."""
    with started(*arguments, cwd=cwd, **environment) as process:
        output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
