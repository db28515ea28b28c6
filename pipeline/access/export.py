"""export(): a published table as a file or a stream, for loads into other warehouses.

The rows go from DuckDB to the writer batch by batch, so memory does not grow with the table.
"""

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from pipeline.access.query import unanswered
from pipeline.access.sink import is_stream, opened
from pipeline.errors import UsageError
from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.model.schema import CREATED_DATE, PUBLISHED, TIMESTAMP, Column, Table, arrow_schema
from pipeline.outputs.published import open_warehouse
from pipeline.terminal import printable

Format: TypeAlias = Literal["csv", "parquet", "json", "arrow"]

_CODECS: Final = {".gz": "gzip", ".zst": "zstd"}
_BATCH: Final = 64 * 1024
"""Rows at a time: for operations, some 10 MB."""


def export(
    lake: Lake,
    name: str,
    form: Format,
    sink: IO[bytes] | Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Write a table or view of the published warehouse.

    csv has a header line, NULL as nothing, and times as ISO 8601 in UTC; json is newline-delimited: one
    object a line, times as in csv, NaN as null; parquet is one file with zstd; arrow is an IPC file, also
    known as Feather. A file whose name ends in ``.gz`` or ``.zst`` is compressed.

    Args:
        lake: the archive.
        name: the table, one of `schema.PUBLISHED`.
        form: what to write.
        sink: an open binary stream, or the file to make or to replace when all of it is written; of a
            symbolic link, what it leads to. Of two exports to one file, the one that ends last stays.
        since: only rows from then on, by the table's time column (`schema.Table.time_column`); UTC.
        until: only rows before this.

    Returns:
        The rows written.

    Raises:
        UsageError: there is no such table, archive, warehouse or folder, the table has no time column, or a
            binary format would go to a terminal.
        ArchiveError: DuckDB can't read the table; no file is left behind.
    """
    table = _table(name)
    query, bounds = _query(table, form, since, until)

    def exported() -> int:
        with (
            open_warehouse(lake) as connection,
            opened(sink, lake.files) as raw,
            _encoded(raw, form, sink) as file,
        ):
            batches = connection.sql(query, params=bounds).to_arrow_reader(_BATCH)
            return _write(batches, form, file, arrow_schema(table.published))

    try:
        # What was written to a file is thrown away with it; what went down a pipe is not.
        is_file = isinstance(sink, Path) and not is_stream(sink)
        return engine.retry_torn_reads(exported) if is_file else exported()
    except duckdb.CatalogException as error:
        msg = (
            f"the warehouse of {lake.root} has no {name} yet: make it with `email-archive publish`"
        )
        raise UsageError(msg) from error
    except duckdb.Error as error:
        raise unanswered(error) from error


def _encoded(
    raw: IO[bytes], form: Format, sink: IO[bytes] | Path
) -> AbstractContextManager[IO[bytes]]:
    """A stream to `raw` that compresses, if `sink` is named so, or escapes, if `raw` is a terminal."""
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
    table: Table, form: Format, since: datetime | None, until: datetime | None
) -> tuple[str, list[datetime]]:
    conditions, values = ["true"], []
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
        msg = f"expected no --since or --until: the rows of {table.name} are of no time"
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
    """A column as it is selected: texts have times as ISO 8601, and JSON has no NaN."""
    if form in ("csv", "json") and column.type == TIMESTAMP:
        text = f"strftime({column.name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        return f"replace({text}, '.000000Z', 'Z') AS {column.name}"
    if form == "json" and column.type == pa.float64():
        return f"CASE WHEN isfinite({column.name}) THEN {column.name} END AS {column.name}"
    return column.name


def _write(batches: pa.RecordBatchReader, form: Format, file: IO[bytes], schema: pa.Schema) -> int:
    """Write the batches; `schema` is theirs, and says too what is never NULL."""
    match form:
        case "csv":
            options = pc.WriteOptions(quoting_header="none")
            with pc.CSVWriter(file, batches.schema, write_options=options) as writer:
                return _through(batches, writer.write_batch)
        case "parquet":
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                return _through(batches, lambda batch: writer.write_batch(_typed(batch, schema)))
        case "arrow":
            with pa.ipc.new_file(file, schema) as writer:
                return _through(batches, lambda batch: writer.write_batch(_typed(batch, schema)))
        case "json":
            return _through(batches, lambda batch: _write_lines(batch, file))


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch(batch.columns, schema=schema)


def _through(batches: pa.RecordBatchReader, write: Callable[[pa.RecordBatch], None]) -> int:
    rows = 0
    for batch in _read(batches):
        write(batch)
        rows += batch.num_rows
    return rows


def _read(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches; what DuckDB can't read is its error, and not one of whatever is written to."""
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
