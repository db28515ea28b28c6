"""Runs `email-archive` in processes that have imported everything before they begin.

A line of stdin is a command, as JSON; the line of stdout that answers it is its exit code. To be run by its
path, so that the command finds its name in `sys.argv`.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any

from pipeline import process
from pipeline.cli import app

_MODULES = (
    "sync",
    "cli.progress",
    "cli.rendering",
    "cli.tables",
    "cli.status",
    "cli.verification",
    "quality.status",
    "quality.verify",
    "quality.repair",
    "access.query",
    "access.export",
    "outputs.warehouse",
)


def main() -> None:
    process.prepare()
    for module in _MODULES:
        import_module(f"pipeline.{module}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
            app.main()
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def _become(command: dict[str, Any]) -> None:
    """Make this process what it would be if a shell had started it."""
    os.setsid()
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv = ["email-archive", *command["arguments"]]
    for number, path in enumerate(command["files"]):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)


if __name__ == "__main__":
    main()
