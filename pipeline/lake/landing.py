"""land(): one scan becomes one immutable file, by one rename.

The scan's facts ride in the file's metadata, so that the data and the proof of coverage appear
together or not at all (R4). Rejects ride in the same file, as rows without an operation.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.facts import Partition, Scan, ScanFacts
from pipeline.lake import parquet
from pipeline.lake.layout import Lake, LakeError
from pipeline.schema import COVERAGE, OPERATIONS, REJECTS
from pipeline.windows import Window

_FACTS_KEY: Final = b"email_archive.scan"
_REJECT_COLUMNS: Final = tuple(
    column for column in REJECTS.columns if column.name not in ("observed_at", "scan_id")
)
_REJECT_FIELDS: Final = {column.name: f"reject_{column.name}" for column in _REJECT_COLUMNS}
LANDED_SCHEMA: Final = pa.schema(
    [
        *(pa.field(column.name, column.type) for column in OPERATIONS.columns),
        *(pa.field(_REJECT_FIELDS[column.name], column.type) for column in _REJECT_COLUMNS),
    ]
)
"""A landed file's columns: an operation's, then a reject's. Each row has one or the other."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A landed scan, read back.

    Attributes:
        path: its file.
        coverage: its facts as one row of `schema.COVERAGE`.
        operations: the states that it found, as `schema.OPERATIONS`.
        rejects: what it could not read, as `schema.REJECTS`.
    """

    path: Path
    coverage: pa.Table
    operations: pa.Table
    rejects: pa.Table


def land(lake: Lake, scan: Scan) -> Path:
    """Write a scan into the lake, durably, and return its file.

    It holds the partition's lock while it writes. A scan that found nothing lands too: that it
    looked is a fact.
    """
    facts = scan.facts
    partition = Partition(facts.account_id, facts.window.day)
    target = lake.landing_folder(partition) / f"{_scan_id(facts)}.parquet"
    rejects = scan.rejects.rename_columns(
        [_REJECT_FIELDS.get(name, name) for name in scan.rejects.schema.names]
    )
    table = pa.concat_tables([scan.operations, rejects], promote_options="default")
    table = table.select(LANDED_SCHEMA.names).cast(LANDED_SCHEMA)
    table = table.replace_schema_metadata({_FACTS_KEY: json.dumps(_to_json(facts))})
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        parquet.write(lake, table, target, lake.temporary_file("landing", partition))
    return target


def read(path: Path) -> Landed:
    """Read a landed file.

    Raises:
        LakeError: it is damaged, or no scan of this archive.
    """
    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pq.ParquetFile(file).read()
        facts = _from_json(json.loads((table.schema.metadata or {})[_FACTS_KEY]))
        table = table.select(LANDED_SCHEMA.names).replace_schema_metadata(None)
        table = table.cast(LANDED_SCHEMA)
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError) as error:
        msg = (
            f"{path} is damaged or no scan of this archive: its day is not folded until the file is "
            f"moved away. ({type(error).__name__}: {error})"
        )
        raise LakeError(msg) from error
    is_operation = table["operation_id"].is_valid()
    operations = table.filter(is_operation).select(OPERATIONS.names).cast(OPERATIONS.arrow)
    coverage = pa.Table.from_pylist([_coverage_row(path.stem, facts)], schema=COVERAGE.arrow)
    rejects = table.filter(table["reject_reason"].is_valid())
    return Landed(path, coverage, operations, _rejects(path.stem, rejects))


def _rejects(scan_id: str, rows: pa.Table) -> pa.Table:
    columns = {name: rows[landed] for name, landed in _REJECT_FIELDS.items()}
    columns["observed_at"] = rows["observed_at"]
    columns["scan_id"] = pa.repeat(scan_id, rows.num_rows)
    return pa.table([columns[name] for name in REJECTS.names], schema=REJECTS.arrow)


def _scan_id(facts: ScanFacts) -> str:
    window = f"{_compact(facts.window.start)}_{_compact(facts.window.end)}"
    return f"{_compact(facts.observed_at)}-{window}-{secrets.token_hex(6)}"


def _compact(moment: datetime) -> str:
    text = moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{text}.{moment.microsecond:06}Z" if moment.microsecond else f"{text}Z"


def _coverage_row(scan_id: str, facts: ScanFacts) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        "window_start": facts.window.start,
        "window_end": facts.window.end,
        **{name: getattr(facts, name) for name in COVERAGE.names[3:]},
    }


def _to_json(facts: ScanFacts) -> dict[str, Any]:
    row = _coverage_row("", facts)
    texts = {n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()}
    return {"account_id": facts.account_id, **texts}


def _from_json(fields: dict[str, Any]) -> ScanFacts:
    return ScanFacts(
        account_id=fields["account_id"],
        window=Window(
            datetime.fromisoformat(fields["window_start"]),
            datetime.fromisoformat(fields["window_end"]),
        ),
        observed_at=datetime.fromisoformat(fields["observed_at"]),
        completed_at=datetime.fromisoformat(fields["completed_at"]),
        **{name: fields[name] for name in COVERAGE.names[5:]},
    )
