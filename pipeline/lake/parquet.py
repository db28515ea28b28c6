"""Reading and writing the lake's Parquet files."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.facts import Partition
from pipeline.lake import faults
from pipeline.lake.layout import Lake, LakeError
from pipeline.schema import COUNT_NAMES, FACTS, Table

log = logging.getLogger(__name__)

_ENCODINGS: Final = {
    "operation_id": "DELTA_BYTE_ARRAY",
    "scan_id": "DELTA_BYTE_ARRAY",
    "created_at": "DELTA_BINARY_PACKED",
    "updated_at": "PLAIN",
    "completed_at": "DELTA_BINARY_PACKED",
}
"""Sorted by id, ids share their beginnings and times of creation are near each other: 20 bytes an operation
against 28 with dictionaries. Times of updates are not: zstd makes the most of them as they are. Every other
column has few distinct values and keeps its dictionary, the times of scans among them."""


_BLOCK: Final = 1024 * 1024
"""Bytes to compare at once."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is laid out.

    Attributes:
        level: of zstd's compression; None for LZ4 instead.
        row_group: rows in a row group.
        required: whether columns say that they have no NULL, if they have none: then none is looked for, in
            half of the time. The files of a public table have one schema, whatever they hold.
        deltas: whether every number is kept as its difference from the one before: without dictionaries
            a file is written in two thirds of the time, and takes a little more.
        statistics: whether the footer has the bounds of what is asked for by range, in each row group.
        page_index: whether it has those of each page.
    """

    level: int | None
    row_group: int
    required: bool = False
    deltas: bool = False
    statistics: bool = True
    page_index: bool = False


COLLECTED: Final = Form(
    level=None, row_group=1024 * 1024, required=True, deltas=True, statistics=False
)
"""For a file that this program alone reads, whole, and soon replaces: quickly written, a little larger."""

OPEN: Final = Form(level=3, row_group=128 * 1024)
"""For a file that will be replaced soon: quickly written. Level 1 saves a tenth of the time, and takes a
tenth more for each further state of an operation in history."""

SEALED: Final = Form(level=9, row_group=32 * 1024, page_index=True)
"""For one that stays: in twice the time a little smaller, with four times as many row groups to prune
(18.6 bytes an operation against 18.9; level 15 saves another 0.2 for four times the time)."""


def write(lake: Lake, table: pa.Table, target: Path, temporary: Path, *, form: Form = OPEN) -> None:
    """Replace `target` by `table`, at once and durably (R5, R6)."""
    with lake.files.replacing(target, temporary) as file:
        file.write(encode(table, form))


def replace(
    lake: Lake,
    table: Table,
    partition: Partition,
    rows: pa.Table,
    *,
    form: Form = OPEN,
    encoded: pa.Buffer | None = None,
) -> None:
    """Replace a table's partition, at once and durably (R5, R6).

    Args:
        lake: the archive.
        table: one of its tables.
        partition: the account and day, whose lock is held.
        rows: what it has from now on.
        form: how the file is laid out.
        encoded: the rows as the bytes of the file, where they are encoded already.

    Raises:
        LakeError: the table's rows are facts, and a newer version that knows more of them wrote the file.
    """
    target = lake.part(table, partition)
    if table in FACTS:
        require_known_columns(target, table)
    with lake.files.replacing(target, lake.temporary_file(table.name, partition)) as file:
        file.write(encoded or encode(rows, form))


def encode(table: pa.Table, form: Form = OPEN) -> pa.Buffer:
    """A table as the bytes of a Parquet file."""
    encodings = {name: _ENCODINGS[name] for name in table.schema.names if name in _ENCODINGS}
    if form.deltas:
        encodings |= {
            field.name: "DELTA_BINARY_PACKED"
            for field in table.schema
            if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)
        }
    sink = pa.BufferOutputStream()
    pq.write_table(
        _without_nulls(table) if form.required else table,
        sink,
        compression="lz4" if form.level is None else "zstd",
        compression_level=form.level,
        use_dictionary=[name for name in table.schema.names if name not in encodings],
        column_encoding=encodings,
        row_group_size=form.row_group,
        write_statistics=[name for name in table.schema.names if name not in COUNT_NAMES]
        if form.statistics
        else False,
        write_page_index=form.page_index,
    )
    return sink.getvalue()


def _without_nulls(table: pa.Table) -> pa.Table:
    """The table with each column that has no NULL said to have none."""
    fields = [
        field.with_nullable(bool(column.null_count))
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def write_if_changed(
    lake: Lake, before: pa.Table | None, after: pa.Table, target: Path, temporary: Path
) -> None:
    """Replace `target`, which holds `before`, by `after`; nothing is written that would be the same."""
    if before is not None and target.exists() and after.equals(before):
        lake.files.keep(target)
    else:
        write(lake, after, target, temporary)


def read(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The file at `path` as one table of `schema`; an empty one if there is no file.

    The file may be another version's: a nullable column that it lacks is NULL, one that is not in `schema` is
    left out. The file is opened once, so that a replacement meanwhile can't mix two states (R6).

    Args:
        path: the file.
        schema: what it has to be.
        columns: the columns to read, in that order; all by default.

    Raises:
        LakeError: the file is damaged, is not of this table, or can't be read.
    """
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            found = file.schema_arrow
            if unlike := list(_unlike(found, schema)):
                msg = (
                    f"{path} is not a file of this archive; move it away and run again. (expected "
                    f"{', '.join(unlike)}; got {_columns(found)})"
                )
                raise LakeError(msg)
            table = file.read(columns=[name for name in wanted.names if name in found.names])
    except FileNotFoundError:
        return wanted.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error
    for field in wanted:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(wanted.names).replace_schema_metadata(None).cast(wanted)


def read_derived(path: Path, schema: pa.Schema) -> pa.Table | None:
    """The file at `path` as `read` has it; None if it can't be read, and has to be derived again."""
    try:
        return read(path, schema)
    except (faults.DamagedError, faults.UnreadableError) as error:
        log.warning("%s can't be read, and is derived anew (%s)", path, error.__cause__)
    except LakeError:
        pass  # another version wrote it
    return None


def _unlike(found: pa.Schema, schema: pa.Schema) -> Iterator[str]:
    """The columns of a schema that a file should have and has not."""
    for field in schema:
        place = found.get_field_index(field.name)
        if (place < 0 and not field.nullable) or (
            place >= 0 and found.field(place).type != field.type
        ):
            yield f"{field.name} {field.type}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def require_known_columns(path: Path, table: Table) -> None:
    """Refuse a file with columns that this version does not know: rewritten, they would be lost (R1).

    Raises:
        LakeError: it has some; a newer version wrote it.
    """
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            unknown = set(file.schema_arrow.names) - set(table.names)
    except (pa.ArrowException, OSError):
        return  # there is none, or who reads it tells what is wrong
    if unknown:
        raise written_by_a_newer_version(path, unknown)


def written_by_a_newer_version(path: Path, unknown: Iterable[str]) -> LakeError:
    """The error for a file with columns that are not known, which is not to be lost or rewritten."""
    return LakeError(
        f"{path} was written by a newer version, with the columns {', '.join(sorted(unknown))}: it is left "
        "as it is; upgrade twilio-email-archive"
    )


def are_same(one: Path, other: Path) -> bool:
    """Whether two files are there and have the same bytes: then one need not be read after the other."""
    try:
        if one.stat().st_size != other.stat().st_size:
            return False
        # Read and not mapped: a disk that fails would end the process then.
        with one.open("rb") as first, other.open("rb") as second:
            while block := first.read(_BLOCK):
                if block != second.read(_BLOCK):
                    return False
    except OSError:
        return False  # what is wrong is told by who reads them
    return True


def count(path: Path) -> int:
    """How many rows the file at `path` has; 0 if there is none.

    Raises:
        LakeError: the file is damaged, or can't be read.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except FileNotFoundError:
        return 0
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error
