"""DuckDB connections, and the package's SQL files.

SQL is in ``.sql`` files beside the code that runs it. Data is never inserted into SQL text: tables are passed
as Arrow. Column lists and paths are filled in with `render`.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final, TypeVar

import duckdb

_TRIES: Final = 5
_TORN: Final = (duckdb.IOException, duckdb.InvalidInputException, duckdb.InternalException)
_T = TypeVar("_T")


def connect(
    path: str = ":memory:",
    *,
    spill: Path | None = None,
    read_only: bool = False,
    memory: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in UTC that installs no extensions.

    Args:
        path: the database file; in memory by default.
        spill: the folder for data that exceeds the memory limit. Its parent must exist. DuckDB's default is
            beside the database file, or the working directory.
        read_only: open the file read-only.
        memory: the memory limit, as ``512MB``; DuckDB's default is 80 % of the machine's.

    Raises:
        duckdb.Error: the file at `path` can't be opened.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if spill:
        config["temp_directory"] = str(spill.absolute())
    if memory:
        config["memory_limit"] = memory
        # Each thread needs memory of its own. Two take 7 % more CPU time for a sync and save no time.
        config["threads"] = 1
    connection = duckdb.connect(path, read_only=read_only, config=config)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def retry_torn_reads(ask: Callable[[], _T]) -> _T:
    """The result of `ask`, which is repeated if a file was replaced while DuckDB read it.

    DuckDB 2.0 opens a Parquet file up to three times in one query, and reads the footer and the pages through
    different ones (seen with strace). A file that is replaced in between looks damaged; the next attempt can
    read it. `ask` must open a connection of its own.

    Raises:
        duckdb.Error: of the last attempt, or the first that a replaced file can't explain.
    """
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except duckdb.Error as error:
            # Errors of the Parquet reader's Thrift code have the base class.
            if type(error) is not duckdb.Error and not isinstance(error, _TORN):
                raise
    return ask()


def was_interrupted(error: Exception) -> bool:
    """Whether a signal ended a query: DuckDB then raises this instead of the signal handler's exception."""
    return type(error) is RuntimeError and str(error) == "Query interrupted"


@cache
def sql(package: str, name: str) -> str:
    """The text of ``<package>/sql/<name>.sql``."""
    return (files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def fingerprint(package: str) -> str:
    """A hash of a package's SQL files."""
    digest = hashlib.sha256()
    for file in sorted((files(package) / "sql").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".sql"):
            digest.update(f"{file.name}\n{file.read_text(encoding='utf-8')}".encode())
    return digest.hexdigest()


def render(text: str, **values: str) -> str:
    """Fill in ``$name`` in SQL. Values must come from the schema or from `literal`."""
    return Template(text).substitute(values)


def literal(text: str) -> str:
    """A text as an SQL literal, quotes doubled."""
    return "'" + text.replace("'", "''") + "'"
