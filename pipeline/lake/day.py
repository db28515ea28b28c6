"""A day under its lock, and a connection on which its tables are views."""

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
"""What DuckDB takes at most before it spills. Around it the process needs about 200 MB."""

AT_ONCE: Final = 64 * 1024
"""How many states of a day are worked on at once: as many as need no spilling with `MEMORY`."""


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection for any number of merges, one after the other."""
    lake.files.make_folder(lake.spill.parent)
    connection = engine.connect(spill=lake.spill, memory=MEMORY)
    # Every result that has an order says so.
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(statement("tables"))
    connection.execute(statement("pieces"))
    return connection


@dataclass(frozen=True, slots=True)
class Day:
    """A partition, whose lock is held, and a connection of `connect`."""

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
        """The version of history that history or operations were written as, or made of."""
        return parquet.version(self.file(table), table.arrow)

    def view(self, table: Table, condition: str = "true") -> None:
        """Make the rows of the table's file that meet a condition a view of the table's name."""
        rows = f"FROM ({part(table, self.file(table))}) WHERE {condition}"
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {table.name} AS {rows}")

    def keep(self, name: str, query: str) -> None:
        """Keep what a query finds as a temporary table."""
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def ask(self, query: str) -> tuple[int, ...]:
        """The one row of a query."""
        found: list[tuple[int, ...]] = self.connection.execute(query).fetchall()
        return found[0]

    def select(self, query: str, table: Table, **rows: pa.Table) -> pa.Table:
        """What a query finds, also in some rows by their names, as rows of a table."""
        for name, found in rows.items():
            self.connection.register(name, found)
        try:
            return self.connection.sql(query).to_arrow_table().cast(table.arrow)
        finally:
            for name in rows:
                self.connection.unregister(name)

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """What a query finds, as it comes."""
        yield from self.connection.sql(query).to_arrow_reader(parquet.OPEN.row_group)

    def replace(
        self,
        table: Table,
        batches: Iterable[pa.RecordBatch],
        version: str | None,
        is_change: Callable[[], bool] = lambda: True,
    ) -> None:
        """Replace history or operations by rows as they come.

        Args:
            table: the table.
            batches: its rows.
            version: what is noted in the file as its version of history.
            is_change: called once all rows have come: whether they replace those that are there.
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
        """Make a file that is as it should be last: whoever wrote it may have been killed before."""
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
    """Ends the writing of a file whose rows turn out to be those that are there."""


@contextmanager
def open_day(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection | None = None
) -> Iterator[Day]:
    """A day, whose lock is held, on a connection of `connect`; by default one of its own.

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
