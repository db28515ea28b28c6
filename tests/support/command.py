"""The command `email-archive` in a process of its own, with no settings but those that a test gives."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
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


def on_terminal(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """`email-archive` with a terminal of 200 columns: its exit code, and what it writes there."""
    ours, theirs = pty.openpty()
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=keep | settings | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what Linux says of a terminal that its last writer has left
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    return process.returncode, shown.decode()
