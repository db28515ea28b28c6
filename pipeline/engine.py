"""DuckDB as the engine of folding and summarizing, and the way to the SQL files.

SQL lies in ``.sql`` files beside the code that runs them. Data never becomes SQL text: tables are
handed over as Arrow, and the little that varies (a column list out of schema.py, a path out of the
settings) is filled in with `render`.
"""

from functools import cache
from importlib.resources import files
from string import Template

import duckdb


def connect(path: str = ":memory:", *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that counts in UTC and never reaches for the network.

    Raises:
        duckdb.Error: if the file at `path` cannot be opened.
    """
    connection = duckdb.connect(
        path,
        read_only=read_only,
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@cache
def sql(package: str, name: str) -> str:
    """The text of ``<package>/sql/<name>.sql``."""
    return (files(package) / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def render(text: str, **values: str) -> str:
    """Fill ``$name`` in SQL. Only for text made from schema.py, and for `literal`."""
    return Template(text).substitute(values)


def literal(text: str) -> str:
    """A text as an SQL literal, quotes doubled."""
    return "'" + text.replace("'", "''") + "'"
