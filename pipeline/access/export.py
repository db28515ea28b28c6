"""export(): a published table as a file or stream, to be loaded into other databases.

Rows are streamed in batches, so memory does not grow with the table.
"""

import codecs
import io
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from pipeline.access.query import query_error
from pipeline.access.sink import is_stream, opened
from pipeline.errors import UsageError
from pipeline.lake import engine
from pipeline.lake.accounts import accounts_named
from pipeline.lake.layout import Lake
from pipeline.model.schema import CREATED_DATE, PUBLISHED, TIMESTAMP, Column, Table, arrow_schema
from pipeline.outputs.published import open_warehouse
from pipeline.terminal import printable

Format: TypeAlias = Literal["csv", "parquet", "json", "arrow"]

_CODECS: Final = {".gz": "gzip", ".zst": "zstd"}
_BATCH: Final = 64 * 1024
"""Rows per batch: about 10 MB of operations."""


def export(
    lake: Lake,
    name: str,
    form: Format,
    sink: IO[bytes] | Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    accounts: Collection[str] = (),
) -> int:
    """Write a table or view of the published warehouse.

    csv has a header line, an empty field for NULL, and times as ISO 8601 in UTC. json has one object per
    line, times as in csv, and null for NaN. parquet is one file with zstd. arrow is an IPC file, also known
    as Feather. A file whose name ends in ``.gz`` or ``.zst`` is compressed.

    Args:
        lake: the archive.
        name: the table, one of `schema.PUBLISHED`.
        form: the format.
        sink: an open binary stream, or the file to create or replace; see `sink.opened`.
        since: only rows from this moment on, by the table's time column (`schema.Table.time_column`); UTC.
        until: only rows before this moment.
        accounts: only rows of the accounts with these SIDs or names; all if empty.

    Returns:
        The number of rows written.

    Raises:
        UsageError: there is no such table, archive, account, warehouse or folder, the table has no time
            column, or a binary format would go to a terminal.
        ArchiveError: DuckDB can't read the table; no file is left behind.
    """
    table = _table(name)
    sids = [one.sid for one in accounts_named(lake.must_exist(), accounts)] if accounts else None
    query, bounds = _query(table, form, since, until, sids)

    def exported() -> int:
        with (
            open_warehouse(lake) as connection,
            opened(sink, lake.files) as raw,
            _encoded(raw, form, sink) as file,
        ):
            batches = connection.sql(query, params=bounds).to_arrow_reader(_BATCH)
            return _write(batches, form, file, arrow_schema(table.published))

    # A file can be written again from the beginning, a pipe can't.
    is_file = isinstance(sink, Path) and not is_stream(sink)
    with _query_errors(lake, name):
        return engine.retry_torn_reads(exported) if is_file else exported()


@contextmanager
def _query_errors(lake: Lake, name: str) -> Iterator[None]:
    """Raise DuckDB's errors as this package's."""
    try:
        yield
    except duckdb.CatalogException as error:
        msg = (
            f"the warehouse of {lake.root} has no {name} yet: make it with `email-archive publish`"
        )
        raise UsageError(msg) from error
    except duckdb.Error as error:
        raise query_error(error) from error


def _encoded(
    raw: IO[bytes], form: Format, sink: IO[bytes] | Path
) -> AbstractContextManager[IO[bytes]]:
    """A stream to `raw` that compresses if the name of `sink` says so, or escapes if `raw` is a terminal."""
    if raw.isatty():
        if form in ("parquet", "arrow"):
            msg = (
                f"expected --output FILE, or a pipe: {form} is binary, and the output is a terminal"
            )
            raise UsageError(msg)
        return io.BufferedWriter(_Printable(raw))
    codec = _CODECS.get(sink.suffix) if isinstance(sink, Path) else None
    return pa.CompressedOutputStream(raw, codec) if codec else nullcontext(raw)


class _Printable(io.RawIOBase):
    """UTF-8 for a terminal: control characters are shown as escapes."""

    def __init__(self, terminal: IO[bytes]) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = self._decoder.decode(bytes(data))
        self._terminal.write(printable(text, keep="\n").encode())
        return len(data)


def _table(name: str) -> Table:
    tables = {table.name: table for table in PUBLISHED}
    if name not in tables:
        msg = f"expected one of the tables {', '.join(sorted(tables))}; got {name!r}"
        raise UsageError(msg)
    return tables[name]


def _query(
    table: Table,
    form: Format,
    since: datetime | None,
    until: datetime | None,
    sids: list[str] | None,
) -> tuple[str, list[Any]]:
    conditions, values = ["true"], list[Any]()
    if sids is not None:
        conditions.append("list_contains(?::VARCHAR[], account_id)")
        values.append(sids)
    for sign, moment in ((">=", since), ("<", until)):
        if moment:
            for condition in _conditions(table, sign):
                conditions.append(condition)
                values.append(moment)
    query = engine.render(
        engine.sql("pipeline.access", "export"),
        columns=", ".join(_written(column, form) for column in table.published),
        table=table.name,
        bounds=" AND ".join(conditions),
    )
    if form == "json":
        query = engine.render(engine.sql("pipeline.access", "export_json"), query=query)
    return query, values


def _conditions(table: Table, sign: str) -> Iterator[str]:
    """That a row's time is on one side of a moment; a date's time is its midnight."""
    time = table.time_column
    if time is None:
        msg = f"expected no --since or --until: {table.name} has no time column"
        raise UsageError(msg)
    yield f"{time.name}::TIMESTAMPTZ {sign} ?"
    if time.name != CREATED_DATE.name and CREATED_DATE in table.published:
        # So that the files of other days are not opened.
        is_since = sign == ">="
        yield (
            "created_date >= (?::TIMESTAMPTZ)::DATE"
            if is_since
            else "created_date::TIMESTAMPTZ < ?"
        )


def _written(column: Column, form: Format) -> str:
    """The expression of a column: csv and json have times as ISO 8601, and json has no NaN."""
    if form in ("csv", "json") and column.type == TIMESTAMP:
        text = f"strftime({column.name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return f"replace({text}, '.000000Z', 'Z') AS {column.name}"
    if form == "json" and column.type == pa.float64():
        return f"CASE WHEN isfinite({column.name}) THEN {column.name} END AS {column.name}"
    return column.name


def _write(batches: pa.RecordBatchReader, form: Format, file: IO[bytes], schema: pa.Schema) -> int:
    """Write the batches, in a schema of the same columns that says which are never NULL."""
    match form:
        case "csv":
            options = pc.WriteOptions(quoting_header="none")
            with pc.CSVWriter(file, batches.schema, write_options=options) as writer:
                return _write_batches(batches, writer.write_batch)
        case "parquet":
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                return _write_batches(
                    batches, lambda batch: writer.write_batch(_typed(batch, schema))
                )
        case "arrow":
            with pa.ipc.new_file(file, schema) as writer:
                return _write_batches(
                    batches, lambda batch: writer.write_batch(_typed(batch, schema))
                )
        case "json":
            return _write_batches(batches, lambda batch: _write_lines(batch, file))


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch(batch.columns, schema=schema)


def _write_batches(batches: pa.RecordBatchReader, write: Callable[[pa.RecordBatch], None]) -> int:
    rows = 0
    for batch in _read(batches):
        write(batch)
        rows += batch.num_rows
    return rows


def _read(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches. A failed read raises an error of DuckDB, which distinguishes it from a failed write."""
    while True:
        try:
            batch = batches.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise duckdb.IOException(str(error)) from error
        yield batch


def _write_lines(batch: pa.RecordBatch, file: IO[bytes]) -> None:
    file.write("".join(f"{line}\n" for line in batch["line"].to_pylist()).encode())
