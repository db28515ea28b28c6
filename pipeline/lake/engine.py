"""DuckDB as the engine of merging and deriving, and the way to the SQL files.

SQL lies in ``.sql`` files beside the code that runs them. Data never becomes SQL text: tables are
handed over as Arrow, and the little that varies (a column list out of schema.py, a path out of the
settings) is filled in with `render`.
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
    """A DuckDB connection that counts in UTC and never reaches for the network.

    Args:
        path: the database's file; none by default.
        spill: the folder for what exceeds the memory, used only then; the one above it must exist. DuckDB's
            own choice is beside the database, and for one in memory the folder that the process is in.
        read_only: whether the file stays as it is.
        memory: what it takes at most before it spills, as ``512MB``; by default most of the machine's.

    Raises:
        duckdb.Error: if the file at `path` cannot be opened.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if spill:
        config["temp_directory"] = str(spill.absolute())
    if memory:
        config["memory_limit"] = memory
        # Each needs memory of its own; two take 7 % more processor time for a sync, and save none.
        config["threads"] = 1
    connection = duckdb.connect(path, read_only=read_only, config=config)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def retry_torn_reads(ask: Callable[[], _T]) -> _T:
    """What `ask` finds in files that may be replaced meanwhile, on a connection of its own.

    DuckDB 2.0 opens a Parquet file up to three times in one query: it reads the footer through one of
    them and the pages through another (seen with strace). A file that is replaced between the two looks
    damaged to it, and is whole the next time.

    Raises:
        duckdb.Error: of the last try, or the first that no replaced file explains.
    """
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except duckdb.Error as error:
            # What the Parquet reader's Thrift code throws comes as the base class alone.
            if type(error) is not duckdb.Error and not isinstance(error, _TORN):
                raise
    return ask()


def was_interrupted(error: Exception) -> bool:
    """Whether a signal ended a query: DuckDB puts this in the place of what the signal's handler raised."""
    return type(error) is RuntimeError and str(error) == "Query interrupted"


@cache
def sql(package: str, name: str) -> str:
    """The text of ``<package>/sql/<name>.sql``."""
    return (files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def fingerprint(package: str) -> str:
    """Tells the SQL of one version of a package from that of another."""
    digest = hashlib.sha256()
    for file in sorted((files(package) / "sql").iterdir(), key=lambda one: one.name):
        if file.name.endswith(".sql"):
            digest.update(f"{file.name}\n{file.read_text(encoding='utf-8')}".encode())
    return digest.hexdigest()


def render(text: str, **values: str) -> str:
    """Fill ``$name`` in SQL. Only for text made from schema.py, and for `literal`."""
    return Template(text).substitute(values)


def literal(text: str) -> str:
    """A text as an SQL literal, quotes doubled."""
    return "'" + text.replace("'", "''") + "'"
