"""Whether all files of a table have the same columns: a query of it then opens no file that it does not need.

Where they may differ, DuckDB has to open every file first, to unite their columns (0.15 ms each). So the note
`.columns` says of which tables that is not needed. It is derived: without it, columns are united.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake.layout import Lake
from pipeline.schema import LAKE_TABLES, MARTS, Table

_TABLES: Final = (*LAKE_TABLES, *MARTS)


def are_uniform(lake: Lake, table: Table) -> bool:
    """Whether every file of a table has the columns of this version."""
    return _noted(lake).get(table.name) == _columns(table.arrow)


def before_writing(lake: Lake) -> None:
    """Note that this version writes files: those of a table with other columns are uniform no more."""
    if _noted(lake) != _with_ours(lake):
        with _locked(lake):
            _note(lake, _with_ours(lake))


def look(lake: Lake) -> None:
    """Note what every file of each table has, by opening it."""
    with _locked(lake):
        found = {
            table.name: {tuple(_columns(schema)) for schema in _schemas(lake, table)}
            for table in _TABLES
        }
        _note(lake, {name: list(*columns) for name, columns in found.items() if len(columns) == 1})


def _with_ours(lake: Lake) -> dict[str, list[str]]:
    """The tables that stay uniform if this version writes, those without a file among them."""
    noted, ours = _noted(lake), {table.name: _columns(table.arrow) for table in _TABLES}
    return {
        name: columns
        for name, columns in ours.items()
        if noted.get(name) == columns or not any(lake.partitions(name))
    }


def _locked(lake: Lake) -> AbstractContextManager[None]:
    return lake.files.locked(lake.lock_file("columns"), "the columns")


def _schemas(lake: Lake, table: Table) -> Iterator[pa.Schema]:
    for partition, _ in lake.files_of(table):
        try:
            with pa.OSFile(str(lake.part(table, partition)), "rb") as source:
                yield pq.read_schema(source)
        except (pa.ArrowInvalid, OSError):
            yield pa.schema([])  # who reads it tells what is wrong


def _columns(schema: pa.Schema) -> list[str]:
    return [f"{field.name} {field.type}" for field in schema]


def _file(lake: Lake) -> Path:
    return lake.root / ".columns"


def _noted(lake: Lake) -> dict[str, list[str]]:
    try:
        noted = json.loads(_file(lake).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _note(lake: Lake, uniform: dict[str, list[str]]) -> None:
    with lake.files.replacing(_file(lake), lake.temporary_file("columns")) as file:
        file.write(json.dumps(uniform).encode())
