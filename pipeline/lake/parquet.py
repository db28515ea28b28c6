"""Reading and writing the lake's Parquet files."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.lake import faults
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition
from pipeline.model.schema import COUNT_NAMES, FACTS, RENAMED_COLUMNS, Table

log = logging.getLogger(__name__)

_ENCODINGS: Final = {
    "operation_id": "DELTA_BYTE_ARRAY",
    "scan_id": "DELTA_BYTE_ARRAY",
    "created_at": "DELTA_BINARY_PACKED",
    "updated_at": "PLAIN",
    "completed_at": "DELTA_BINARY_PACKED",
}
"""Rows are sorted by id, so delta encodings suit ids and creation times: 20 bytes per operation instead of 28
with dictionaries. zstd compresses update times best without an encoding. The other columns have few distinct
values and use dictionaries."""

_VERSION_KEY: Final = b"email_archive.version"


@dataclass(frozen=True, slots=True)
class Form:
    """How a Parquet file is written.

    Attributes:
        level: the zstd compression level.
        row_group: rows per row group.
        page_index: whether to write page statistics.
    """

    level: int
    row_group: int
    page_index: bool = False


OPEN: Final = Form(level=3, row_group=64 * 1024)
"""For a file that will be replaced soon. Level 1 would save 10 % of the time and make history 10 % larger;
row groups twice as large would take 40 MB more memory and save 2 % of the time."""

COMPACTED: Final = Form(level=9, row_group=32 * 1024, page_index=True)
"""For a compacted file: twice the time, 18.6 bytes per operation instead of 18.9, and four times as many row
groups to prune. Level 15 would save another 0.2 bytes for four times the time."""


def write(lake: Lake, table: pa.Table, target: Path, temporary: Path, *, form: Form = OPEN) -> None:
    """Replace `target` by `table`, atomically and durably (R5, R6)."""
    with lake.files.replacing(target, temporary) as file:
        file.write(encode(table, form))


def replace(
    lake: Lake, table: Table, partition: Partition, rows: pa.Table, *, form: Form = OPEN
) -> None:
    """Replace a table's partition, atomically and durably (R5, R6).

    Args:
        lake: the archive.
        table: one of its tables.
        partition: the account and day. Its lock must be held.
        rows: the new rows.
        form: how the file is written.

    Raises:
        LakeError: the file has columns that this version does not know, which would be lost.
    """
    with replacing(lake, table, partition) as file:
        file.write(encode(rows, form))


@contextmanager
def replacing(lake: Lake, table: Table, partition: Partition) -> Iterator[IO[bytes]]:
    """As `replace`, with a file to which the block writes the new rows.

    Raises:
        LakeError: the file has columns that this version does not know, which would be lost.
    """
    target = lake.part(table, partition)
    if table in FACTS:
        require_known_columns(target, table)
    with lake.files.replacing(target, lake.temporary_file(table.name, partition)) as file:
        yield file


def encode(table: pa.Table, form: Form = OPEN) -> pa.Buffer:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    write_batches(sink, [table], table.schema, form=form)
    return sink.getvalue()


def write_batches(
    target: IO[bytes] | pa.NativeFile,
    batches: Iterable[pa.RecordBatch | pa.Table],
    schema: pa.Schema,
    *,
    form: Form = OPEN,
    version: str | None = None,
) -> None:
    """Stream rows into a Parquet file.

    Args:
        target: the file.
        batches: the rows, in batches of any size.
        schema: the schema of the file.
        form: how the file is written.
        version: the version of history to note in the file; see `version`.
    """
    if version is not None:
        schema = schema.with_metadata({**(schema.metadata or {}), _VERSION_KEY: version})
    with pq.ParquetWriter(target, schema, **_options(schema, form)) as writer:
        for rows in _in_groups(batches, schema, form.row_group):
            writer.write_table(rows, form.row_group)


def _in_groups(
    batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, rows: int
) -> Iterator[pa.Table]:
    """The same rows in tables of that many rows; the last one may be smaller."""
    left = schema.empty_table()
    for batch in batches:
        found = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        left = pa.concat_tables([left, found.cast(schema)])
        whole = left.num_rows - left.num_rows % rows
        if whole:
            yield left.slice(0, whole)
            left = left.slice(whole)
    if left.num_rows:
        yield left


def _options(schema: pa.Schema, form: Form) -> dict[str, Any]:
    encodings = {name: _ENCODINGS[name] for name in schema.names if name in _ENCODINGS}
    bounded = [name for name in schema.names if name not in COUNT_NAMES]
    return {
        "compression": "zstd",
        "compression_level": form.level,
        "use_dictionary": [name for name in schema.names if name not in encodings],
        "column_encoding": encodings,
        "write_statistics": bounded,
        "write_page_index": form.page_index,
    }


def rewrite(lake: Lake, table: Table, partition: Partition, *, form: Form) -> None:
    """Stream a partition's rows into a new file in another form.

    Raises:
        LakeError: the file is damaged, is not a file of this table, or was written by a newer version.
    """
    path = lake.part(table, partition)
    known = version(path, table.arrow)
    with replacing(lake, table, partition) as file:
        rows = batches(path, table.arrow, rows=form.row_group)
        write_batches(file, rows, table.arrow, form=form, version=known)


def write_if_changed(
    lake: Lake, before: pa.Table | None, after: pa.Table, target: Path, temporary: Path
) -> None:
    """Replace `target`, whose rows are `before`, unless `after` is equal."""
    if before is not None and target.exists() and after.equals(before):
        lake.files.keep(target)
    else:
        write(lake, after, target, temporary)


def read(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of the file at `path`; no rows if there is no file.

    Another version may have written the file: nullable columns that it lacks are NULL, unknown columns are
    left out. The file is opened once, so the rows are of one version of it (R6).

    Args:
        path: the file.
        schema: the schema of its table.
        columns: the columns to read, in that order; all by default.

    Raises:
        LakeError: the file is damaged, is not a file of this table, or can't be read.
    """
    wanted = _wanted(schema, columns)
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            _check(path, file.schema_arrow, schema)
            table = file.read(columns=_in_file(wanted, file.schema_arrow))
    except FileNotFoundError:
        return wanted.empty_table()
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error
    return _filled(table, wanted)


def batches(
    path: Path,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    rows: int = OPEN.row_group,
) -> Iterator[pa.Table]:
    """As `read`, in batches of at most `rows` rows, in order.

    Raises:
        LakeError: the file is damaged, or is not a file of this table.
    """
    wanted = _wanted(schema, columns)
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            _check(path, file.schema_arrow, schema)
            columns = _in_file(wanted, file.schema_arrow)
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                yield _filled(pa.Table.from_batches([batch]), wanted)
    except FileNotFoundError:
        return
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error


def _wanted(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def stored_names(found: pa.Schema) -> dict[str, str]:
    """The current name of each column of a file, and its name in the file (`RENAMED_COLUMNS`)."""
    return {RENAMED_COLUMNS.get(name, name): name for name in found.names}


def _in_file(wanted: pa.Schema, found: pa.Schema) -> list[str]:
    stored = stored_names(found)
    return [stored[name] for name in wanted.names if name in stored]


def _filled(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Rows with the names of this version, and NULL in the columns that their file lacks."""
    rows = rows.rename_columns(list(stored_names(rows.schema)))
    for field in wanted:
        if field.name not in rows.schema.names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows.select(wanted.names).replace_schema_metadata(None).cast(wanted)


def _check(path: Path, found: pa.Schema, schema: pa.Schema) -> None:
    if mismatches := list(_mismatches(found, schema)):
        msg = (
            f"{path} is not a file of this archive; move it away and run again. (expected "
            f"{', '.join(mismatches)}; got {_columns(found)})"
        )
        raise LakeError(msg)


def read_derived(path: Path, schema: pa.Schema) -> pa.Table | None:
    """As `read`, for a derived file; None if it has to be derived again."""
    try:
        return read(path, schema)
    except (faults.DamagedError, faults.UnreadableError) as error:
        log.warning("%s can't be read and is derived again (%s)", path, error.__cause__)
    except LakeError:
        pass  # another version wrote it
    return None


def _mismatches(found: pa.Schema, schema: pa.Schema) -> Iterator[str]:
    """The columns that a file lacks, or has with another type."""
    stored = stored_names(found)
    for field in schema:
        if field.name in stored:
            is_right = found.field(stored[field.name]).type == field.type
        else:
            is_right = field.nullable
        if not is_right:
            yield f"{field.name} {field.type}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def require_known_columns(path: Path, table: Table) -> None:
    """Refuse to rewrite a file with unknown columns, which would be lost (R1).

    Raises:
        LakeError: a newer version wrote the file.
    """
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            unknown = stored_names(file.schema_arrow).keys() - set(table.names)
    except (pa.ArrowException, OSError):
        return  # there is no file, or reading it reports the error
    if unknown:
        raise written_by_a_newer_version(path, unknown)


def written_by_a_newer_version(path: Path, unknown: Iterable[str]) -> LakeError:
    """The error for a file with unknown columns."""
    return LakeError(
        f"{path} was written by a newer version, with the columns {', '.join(sorted(unknown))}: it is left "
        "as it is; upgrade twilio-email-archive"
    )


def check(path: Path, schema: pa.Schema) -> pa.Schema | None:
    """The schema of the file at `path`; None if there is no file.

    Raises:
        LakeError: the file is damaged, or is not a file of this table.
    """
    try:
        with pa.OSFile(str(path), "rb") as source, pq.ParquetFile(source) as file:
            _check(path, file.schema_arrow, schema)
            return file.schema_arrow
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error


def version(path: Path, schema: pa.Schema) -> str | None:
    """The version of history noted in a file: its own, or that which operations were derived from.

    Returns:
        The version; None if none is noted.

    Raises:
        LakeError: the file is damaged, or is not a file of this table.
    """
    found = check(path, schema)
    version = (found.metadata or {}).get(_VERSION_KEY) if found else None
    return version.decode() if version else None


def count(path: Path) -> int:
    """The number of rows of the file at `path`; 0 if there is no file.

    Raises:
        LakeError: the file is damaged, or can't be read.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except FileNotFoundError:
        return 0
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error


def first_ids(path: Path) -> list[tuple[str, int]]:
    """The first operation id and the number of rows of each row group; empty if there is no file.

    Raises:
        LakeError: the file is damaged, or can't be read.
    """
    try:
        metadata = pq.read_metadata(path)
    except FileNotFoundError:
        return []
    except (pa.ArrowException, OSError) as error:
        raise faults.of_file(path, error) from error
    place = metadata.schema.names.index("operation_id")
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    bounds = ((group.column(place).statistics, group.num_rows) for group in groups)
    return [(known.min, rows) for known, rows in bounds if known and known.has_min_max]
