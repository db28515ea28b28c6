"""land(): writes one scan as one immutable file, atomically.

The file's metadata has the scan's row of `coverage`, so that data and proof of coverage appear together or
not at all (R4). Rejects are rows of the same file, without an operation. Lookups by id are landed in files
of the same form, which have no coverage.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from pipeline.lake import faults, parquet
from pipeline.lake.layout import LANDED_SUFFIX, Lake
from pipeline.model.records import LookupBatch, Partition, Scan, ScanFacts
from pipeline.model.schema import (
    COVERAGE,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
    RENAMED_COLUMNS,
    TIMESTAMP,
    Table,
)
from pipeline.model.times import iso_compact
from pipeline.model.windows import Window

_FACTS_KEY: Final = b"email_archive.scan"
_LOOKUPS_KEY: Final = b"email_archive.lookups"
_COLUMNS_OF: Final = {
    REJECTS: {
        c.name: f"reject_{c.name}"
        for c in REJECTS.columns
        if c.name not in ("observed_at", "scan_id")
    },
    LOOKUPS: {name: f"lookup_{name}" for name in LOOKUPS.names},
    OPERATION_ERRORS: {name: f"error_{name}" for name in OPERATION_ERRORS.names},
}
"""The columns of other tables in a landed file, by table. Each row of the file is a state or a row of one of
these tables. A table without rows has no columns in the file."""

_RENAMED: Final = {f"lookup_{old}": f"lookup_{name}" for old, name in RENAMED_COLUMNS.items()}

_STATES: Final = pa.schema([pa.field(column.name, column.type) for column in OPERATIONS.columns])


@dataclass(frozen=True, slots=True)
class Landed:
    """The contents of a landed file.

    Attributes:
        path: the file.
        coverage: the scan as one row of `schema.COVERAGE`; no row for lookups.
        operations: the observed states, as `schema.OPERATIONS`.
        rejects: the records that could not be parsed, as `schema.REJECTS`.
        lookups: the lookups by id, as `schema.LOOKUPS`.
        errors: the errors that lookups returned, as `schema.OPERATION_ERRORS`.
    """

    path: Path
    coverage: pa.Table
    operations: pa.Table
    rejects: pa.Table
    lookups: pa.Table
    errors: pa.Table

    def small(self) -> Mapping[Table, pa.Table]:
        """The rows of the small tables: all but the states."""
        return {
            COVERAGE: self.coverage,
            REJECTS: self.rejects,
            LOOKUPS: self.lookups,
            OPERATION_ERRORS: self.errors,
        }


def land(lake: Lake, scan: Scan) -> Path:
    """Write a scan durably, under the partition's lock, and return its file.

    A scan without operations is landed too: it proves that there were none.
    """
    facts = scan.facts
    partition = Partition(facts.account_id, facts.window.day)
    metadata = {_FACTS_KEY: json.dumps(_to_json(facts))}
    rows = {OPERATIONS: scan.operations, REJECTS: scan.rejects}
    return _land(lake, partition, _scan_id(facts), rows, metadata)


def land_lookups(lake: Lake, batch: LookupBatch) -> Path:
    """Write a batch of lookups durably, under the partition's lock, and return its file."""
    name = f"{iso_compact(batch.requested_at)}-lookups-{secrets.token_hex(6)}"
    rows = {
        OPERATIONS: batch.operations,
        REJECTS: batch.rejects,
        LOOKUPS: batch.lookups,
        OPERATION_ERRORS: batch.errors,
    }
    metadata = {_LOOKUPS_KEY: json.dumps({"account_id": batch.partition.account_id})}
    return _land(lake, batch.partition, name, rows, metadata)


@faults.refusals()
def _land(
    lake: Lake,
    partition: Partition,
    name: str,
    rows: Mapping[Table, pa.Table],
    metadata: Mapping[bytes, str],
) -> Path:
    target = lake.landing_folder(partition) / f"{name}{LANDED_SUFFIX}"
    parts = [_landed_columns(table, found) for table, found in rows.items() if found.num_rows]
    landed = pa.concat_tables([_STATES.empty_table(), *parts], promote_options="default")
    landed = landed.replace_schema_metadata(dict(metadata))
    with lake.locked(partition):
        temporary = lake.temporary_file("landing", partition)
        with lake.files.replacing(target, temporary) as file:
            file.write(_encoded(landed))
    return target


def _encoded(landed: pa.Table) -> pa.Buffer:
    """A table as an Arrow file. It is read once and then deleted; Parquet would take twice the time."""
    sink = pa.BufferOutputStream()
    options = ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with ipc.new_file(sink, landed.schema, options=options) as file:
        file.write_table(landed.combine_chunks())
    return sink.getvalue()


def _decoded(path: Path) -> pa.Table:
    """The table of a landed file. Versions before 0.2.0 landed Parquet."""
    with pa.OSFile(str(path), "rb") as file:
        if path.suffix == LANDED_SUFFIX:
            table = ipc.open_file(file, options=ipc.IpcReadOptions(use_threads=False)).read_all()
            # Without this, offsets of a damaged file can make Arrow read beyond its buffers.
            table.validate(full=True)
            return table
        return pq.ParquetFile(file).read(use_threads=False)


def _landed_columns(table: Table, rows: pa.Table) -> pa.Table:
    fields = _COLUMNS_OF.get(table, {})
    columns = {fields.get(name, name): rows[name] for name in rows.schema.names}
    return pa.table(columns)  # without the schema: each column is NULL in others' rows


def read(path: Path) -> Landed:
    """Read a landed file.

    Raises:
        LakeError: it is damaged, not a file of this archive, or can't be read.
    """
    try:
        table = _decoded(path)
        metadata = table.schema.metadata or {}
        names = [_RENAMED.get(name, name) for name in table.schema.names]
        _require_known(path, names, metadata)
        rows = [] if _LOOKUPS_KEY in metadata else [_facts_row(path.stem, metadata[_FACTS_KEY])]
        table = table.rename_columns(names).replace_schema_metadata(None)
        has_others = table["operation_id"].null_count
        states = table.filter(table["operation_id"].is_valid()) if has_others else table
        if "looked_up_at" not in states.schema.names:
            # An earlier version landed it. All states of a file come from a listing, or all from lookups.
            by_id = states["observed_at"] if _LOOKUPS_KEY in metadata else _never(states)
            states = states.append_column("looked_up_at", by_id)
        landed = Landed(
            path,
            coverage=pa.Table.from_pylist(rows, schema=COVERAGE.arrow),
            operations=_typed(
                OPERATIONS, dict(zip(states.schema.names, states.columns, strict=True))
            ),
            rejects=_rows_of(table, REJECTS, "raw", scan_id=path.stem),
            lookups=_rows_of(table, LOOKUPS, "operation_id"),
            errors=_rows_of(table, OPERATION_ERRORS, "operation_id"),
        )
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        advice = "its day is not merged until the file is moved away"
        raise faults.of_file(path, error, advice=advice) from error
    return landed


def _never(states: pa.Table) -> pa.Array:
    return pa.nulls(states.num_rows, TIMESTAMP)


def _rows_of(landed: pa.Table, table: Table, required: str, scan_id: str = "") -> pa.Table:
    """The rows of a table in a landed file: those whose `required` column is not NULL."""
    fields = _COLUMNS_OF[table]
    if fields[required] not in landed.schema.names:
        return table.arrow.empty_table()
    rows = landed.filter(landed[fields[required]].is_valid())
    columns = {name: rows[name] for name in ("observed_at",) if name in table.names}
    columns |= {
        n: rows[landed_name]
        for n, landed_name in fields.items()
        if landed_name in rows.schema.names
    }
    columns["scan_id"] = pa.repeat(scan_id, rows.num_rows)
    return _typed(table, columns)


def _typed(table: Table, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
    """Columns in a table's order and types; a nullable column that the file lacks is NULL."""
    missing = pa.nulls(len(next(iter(columns.values()))))
    found = [
        columns.get(column.name, missing) if column.nullable else columns[column.name]
        for column in table.columns
    ]
    return pa.table(found, names=table.names).cast(table.arrow)


def _require_known(path: Path, names: Iterable[str], metadata: Mapping[bytes, bytes]) -> None:
    """Refuse a file with unknown columns: merging would delete it, and they would be lost (R1)."""
    known = {
        *OPERATIONS.names,
        *(name for columns in _COLUMNS_OF.values() for name in columns.values()),
    }
    facts = json.loads(metadata.get(_FACTS_KEY, b"{}"))
    if unknown := {*names, *facts} - {*known, *COVERAGE.names, "account_id"}:
        raise parquet.written_by_a_newer_version(path, unknown)


def _scan_id(facts: ScanFacts) -> str:
    window = f"{iso_compact(facts.window.start)}_{iso_compact(facts.window.end)}"
    return f"{iso_compact(facts.observed_at)}-{window}-{secrets.token_hex(6)}"


def _coverage_row(scan_id: str, facts: ScanFacts) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        "window_start": facts.window.start,
        "window_end": facts.window.end,
        **{name: getattr(facts, name) for name in COVERAGE.names[3:]},
    }


def _facts_row(scan_id: str, text: bytes) -> dict[str, Any]:
    return _coverage_row(scan_id, _from_json(json.loads(text)))


def _to_json(facts: ScanFacts) -> dict[str, Any]:
    row = _coverage_row("", facts)
    texts = {n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()}
    return {"account_id": facts.account_id, **texts}


def _from_json(fields: dict[str, Any]) -> ScanFacts:
    rest: dict[str, Any] = {
        column.name: fields.get(column.name) if column.nullable else fields[column.name]
        for column in COVERAGE.columns[5:]
    }
    return ScanFacts(
        account_id=fields["account_id"],
        window=Window(
            datetime.fromisoformat(fields["window_start"]),
            datetime.fromisoformat(fields["window_end"]),
        ),
        observed_at=datetime.fromisoformat(fields["observed_at"]),
        completed_at=datetime.fromisoformat(fields["completed_at"]),
        **rest,
    )
