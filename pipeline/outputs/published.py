"""Reading the published warehouse, even while another program writes to it.

A program that opens `warehouse.duckdb` for writing locks readers out and keeps its changes in a write-ahead
log beside the file. After `publish` replaces the file, DuckDB would find the log of another database and
refuse to open it.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb

from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import engine, faults
from pipeline.lake.layout import Lake

log = logging.getLogger(__name__)

_TRIES: Final = 3
_DAMAGED: Final = ("not a valid DuckDB database", "Corrupt database file")


@contextmanager
def open_warehouse(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the published warehouse.

    If another program has the file open for writing, or left a write-ahead log, the connection is to a
    temporary copy without that log.

    Raises:
        UsageError: there is no archive, or no warehouse yet.
        ArchiveError: another program keeps changing the file.
        duckdb.Error: DuckDB can't open it.
    """
    lake.must_exist()
    if not lake.warehouse.exists():
        msg = f"no warehouse in {lake.root}: make it with `email-archive publish`"
        raise UsageError(msg)
    if not write_ahead_log(lake.warehouse).exists():
        try:
            connection = _connect(lake, lake.warehouse)
        except duckdb.IOException:
            if not has_writer(lake.warehouse):
                raise
        else:
            with connection:
                yield connection
            return
    log.warning(
        "another program opened %s for writing: a copy without its changes is read. The next sync or "
        "`email-archive publish` replaces the file",
        lake.warehouse,
    )
    with TemporaryDirectory() as folder:
        copy = Path(folder, lake.warehouse.name)
        _copy(lake.warehouse, copy)
        with _connect(lake, copy) as connection:
            yield connection


def ask_warehouse(lake: Lake, query: str) -> list[dict[str, Any]]:
    """The rows of one of this package's queries on the published warehouse.

    Returns:
        The rows; none if there is no warehouse yet, or an older version's without these tables or columns.

    Raises:
        ArchiveError: the warehouse can't be read.
    """
    if not lake.warehouse.exists():
        return []
    try:
        with open_warehouse(lake) as connection:
            rows: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
    except (duckdb.CatalogException, duckdb.BinderException):
        return []
    except duckdb.Error as error:
        raise unreadable(error) from error
    return rows


def unreadable(error: duckdb.Error) -> ArchiveError:
    """The error for a failed query of the warehouse, with advice if a file is the cause."""
    if found := faults.of_query(error):
        return found
    if any(words in str(error) for words in _DAMAGED):
        return ArchiveError(
            f"the warehouse is damaged: `email-archive publish` builds it again. ({error})"
        )
    return ArchiveError(str(error))


def write_ahead_log(database: Path) -> Path:
    """The file of a database's write-ahead log."""
    return database.with_name(f"{database.name}.wal")


def has_writer(database: Path) -> bool:
    """Whether another program has a database open for writing, or left a write-ahead log."""
    return write_ahead_log(database).exists() or _is_locked(database)


def _is_locked(database: Path) -> bool:
    """Whether another process holds DuckDB's exclusive lock on a file; false if that is unknown."""
    try:
        with database.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _connect(lake: Lake, database: Path) -> duckdb.DuckDBPyConnection:
    """A connection to the database, which a program may have open with options of its own.

    It is attached: `duckdb.connect` refuses a file that this process has open with other options, as a
    notebook does, and otherwise shares its connection, even if the file was replaced since.
    """
    connection = engine.connect(spill=lake.spill)
    try:
        path = engine.literal(str(database.absolute()))
        connection.execute(f"ATTACH {path} AS warehouse (READ_ONLY)")
        connection.execute("USE warehouse")
    except BaseException:
        connection.close()
        raise
    return connection


def _copy(source: Path, target: Path) -> None:
    """Copy a file; repeat if another program changed it meanwhile."""
    for _ in range(_TRIES):
        before = source.stat()
        shutil.copyfile(source, target)
        if os.path.samestat(before, now := source.stat()) and before.st_mtime_ns == now.st_mtime_ns:
            return
    msg = f"another program keeps changing {source}: close the file there, or open it read-only"
    raise ArchiveError(msg)
