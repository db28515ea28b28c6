"""A day whose lock is held, with a DuckDB connection that has its tables as views."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine, faults, parquet
from pipeline.lake.layout import COMPACT, DERIVE, Lake, LakeError
from pipeline.lake.statements import part, statement
from pipeline.model.records import Partition
from pipeline.model.schema import Table

MEMORY: Final = "96MB"
"""Memory that DuckDB may use before it spills. The process needs about 200 MB besides."""

AT_ONCE: Final = 64 * 1024
"""States of a day that are processed at once: as many as fit into `MEMORY` without spilling."""


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection for any number of merges, one after the other."""
    lake.files.make_folder(lake.spill.parent)
    connection = engine.connect(spill=lake.spill, memory=MEMORY)
    # Every query that needs an order has ORDER BY.
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(statement("tables"))
    connection.execute(statement("pieces"))
    return connection


@dataclass(frozen=True, slots=True)
class Day:
    """A partition whose lock is held, with a connection made by `connect`."""

    lake: Lake
    partition: Partition
    connection: duckdb.DuckDBPyConnection

    def file(self, table: Table) -> Path:
        """The table's file."""
        return self.lake.part(table, self.partition)

    def temporary(self, table: Table) -> Path:
        """Where the table's file is written before it is renamed."""
        return self.lake.temporary_file(table.name, self.partition)

    def read(self, table: Table) -> pa.Table:
        """A small table."""
        return parquet.read(self.file(table), table.arrow)

    def version(self, table: Table) -> str | None:
        """The version noted in the file of history or operations: that of history itself."""
        return parquet.version(self.file(table), table.arrow)

    def view(self, table: Table, condition: str = "true") -> None:
        """Create a view of the table's name, with the rows of its file that meet a condition."""
        rows = f"FROM ({part(table, self.file(table))}) WHERE {condition}"
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {table.name} AS {rows}")

    def keep(self, name: str, query: str) -> None:
        """Store the result of a query as a temporary table."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def fetch_row(self, query: str) -> tuple[int, ...]:
        """The one row of a query."""
        found: list[tuple[int, ...]] = self.connection.execute(query).fetchall()
        return found[0]

    def select(self, query: str, table: Table, **rows: pa.Table) -> pa.Table:
        """The result of a query as rows of a table; the query can also use `rows` by name."""
        for name, found in rows.items():
            self.connection.register(name, found)
        try:
            return self.connection.sql(query).to_arrow_table().cast(table.arrow)
        finally:
            for name in rows:
                self.connection.unregister(name)

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """The result of a query, in batches."""
        yield from self.connection.sql(query).to_arrow_reader(parquet.OPEN.row_group)

    def replace(
        self,
        table: Table,
        batches: Iterable[pa.RecordBatch],
        version: str | None,
        is_change: Callable[[], bool] = lambda: True,
    ) -> None:
        """Replace history or operations.

        Args:
            table: the table.
            batches: its new rows; they are written as they come.
            version: the version of history, which is noted in the file.
            is_change: called after the last batch; if it returns false, the old file stays.
        """
        try:
            with parquet.replacing(self.lake, table, self.partition) as target:
                parquet.write_batches(target, batches, table.arrow, version=version)
                if not is_change():
                    raise _UnchangedError
                self.lake.note_work(self.partition, COMPACT, DERIVE)
        except _UnchangedError:
            self.keep_file(table)

    def keep_file(self, table: Table) -> None:
        """Make a file that is already correct durable: the process that wrote it may not have done so."""
        if self.file(table).exists():
            self.lake.files.keep(self.file(table))

    def write_if_changed(self, table: Table, before: pa.Table | None, after: pa.Table) -> None:
        """Replace a small table, unless it is the same."""
        if before is not None and self.file(table).exists() and after.equals(before):
            self.keep_file(table)
        else:
            self.lake.note_work(self.partition, COMPACT)
            parquet.replace(self.lake, table, self.partition, after)


class _UnchangedError(Exception):
    """Ends the writing of a file whose rows turn out to equal the stored ones."""


@contextmanager
def open_day(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection | None = None
) -> Iterator[Day]:
    """A day whose lock is held, on a connection made by `connect`; by default on a new one.

    Raises:
        LakeError: a statement fails in the block.
    """
    with nullcontext(connection) if connection else connect(lake) as open_one:
        try:
            yield Day(lake, partition, open_one)
        except (duckdb.Error, pa.ArrowException) as error:
            refused = faults.of_query(error) if isinstance(error, duckdb.Error) else None
            msg = f"{partition} can't be merged: {error}. Move a damaged file away and run again"
            raise refused or LakeError(msg) from error
        finally:
            open_one.execute(statement("tables"))
