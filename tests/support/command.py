"""The command `email-archive` in a process of its own, with no settings but those that a test gives."""

import atexit
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock, Thread

ROOT = Path(__file__).parents[2]
_ONE_AT_A_TIME = Lock()
_PATIENCE = 30.0


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The API's clock is trusted: it is an emulator's, and nothing is to depend on today's date."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return keep | {"PYTHONPATH": str(ROOT), "EMAIL_ARCHIVE_TRUST_CLOCK": "true"} | dict(given)


def started(
    *arguments: str, cwd: Path, module: str = "pipeline.cli", **environment: str
) -> "subprocess.Popen[str]":
    """`email-archive` with these arguments, or another module, under way."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=_environment(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`email-archive` with these arguments, done."""
    with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
        files = (os.devnull, output.name, errors.name)
        code = _exit_code(arguments, cwd, _environment(environment), files)
        told = (Path(file.name).read_text(encoding="utf-8") for file in (output, errors))
        return subprocess.CompletedProcess(arguments, code, *told)


def on_terminal(
    *arguments: str, cwd: Path, typed: Sequence[tuple[str, str]] = (), **environment: str
) -> tuple[int, str]:
    """`email-archive` with a terminal of 200 columns: its exit code, and what it writes there.

    Each of `typed` is what the terminal has to show before a text is typed, and the text.
    """
    ours, theirs = pty.openpty()
    settings = {"COLUMNS": "200", "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
    shown: list[bytes] = []
    reader = Thread(target=_read_all, args=(ours, shown, typed))
    reader.start()
    terminal = os.ttyname(theirs)
    code = _exit_code(arguments, cwd, _environment(settings | environment), (terminal,) * 3)
    os.close(theirs)
    reader.join()
    os.close(ours)
    return code, b"".join(shown).decode()


def _read_all(terminal: int, shown: list[bytes], typed: Sequence[tuple[str, str]]) -> None:
    waiting, seen = list(typed), 0
    with suppress(OSError):  # what Linux says of a terminal that its last writer has left
        while part := _read(terminal, gives_up=bool(waiting)):
            shown.append(part)
            text = b"".join(shown)
            while waiting and (place := text.find(waiting[0][0].encode(), seen)) >= 0:
                seen = place + len(waiting[0][0].encode())
                os.write(terminal, waiting.pop(0)[1].encode())


def _read(terminal: int, *, gives_up: bool) -> bytes:
    """What is shown next. If what is waited for does not come, Ctrl-C and Ctrl-D end the command."""
    while gives_up and not select.select([terminal], [], [], _PATIENCE)[0]:
        os.write(terminal, b"\x03\x04")
    return os.read(terminal, 65536)


def _exit_code(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], files: Sequence[str]
) -> int:
    """Run the command with these files as stdin, stdout and stderr."""
    command = {
        "arguments": arguments,
        "cwd": str(cwd),
        "environment": environment,
        "files": files,
    }
    with _ONE_AT_A_TIME:
        server = _warm()
        assert server.stdin
        assert server.stdout
        try:
            server.stdin.write(json.dumps(command) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())
        except BaseException:
            _warm.cache_clear()
            server.kill()
            raise


@cache
def _warm() -> "subprocess.Popen[str]":
    """A process that has imported the command, which takes most of its time, and forks for each call."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm.py"))],
        env=_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, server)
    return server


def _end(server: "subprocess.Popen[str]") -> None:
    """Close its standard input, which ends it."""
    server.communicate(timeout=10)
