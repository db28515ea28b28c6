"""Small makers of what tests need: records, pages, scans, lakes."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.lake import parquet
from pipeline.lake.landing import land
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge
from pipeline.marts.derive import derive
from pipeline.model.records import Partition, Scan, ScanFacts
from pipeline.model.schema import (
    COUNT_NAMES,
    LAKE_TABLES,
    MARTS,
    OPERATIONS,
    REJECTS,
    TIMESTAMP,
    Table,
)
from pipeline.model.windows import Window
from pipeline.twilio.parsing import parse_page

ACCOUNT = "AC" + "0" * 31 + "1"
OTHER_ACCOUNT = "AC" + "0" * 31 + "2"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = NOON.date()
PARTITION = Partition(ACCOUNT, DAY)


def at(text: str) -> datetime:
    """A UTC time from a short text: ``at("2026-11-20 12:00")``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def operation_id(number: int) -> str:
    return f"comms_operation_01kag{number:021d}"


def record(
    number: int = 1,
    *,
    created_at: datetime = NOON,
    updated_at: datetime | None = None,
    status: str = "COMPLETED",
    stats: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A record as the API sends it: by default one email that was sent and delivered."""
    counts = dict.fromkeys(COUNT_NAMES, 0)
    counts |= {"total": 1, "recipients": 1, "attempts": 1, "sent": 1, "delivered": 1}
    return {
        "id": operation_id(number),
        "status": status,
        "stats": counts | dict(stats or {}),
        "createdAt": rfc3339(created_at),
        "updatedAt": rfc3339(updated_at or created_at + timedelta(minutes=1)),
    } | fields


def body(records: Iterable[Any], next_token: str | None = None) -> bytes:
    """The body of a list response."""
    page = {"operations": list(records), "pagination": {"next": next_token, "self": "s"}}
    return json.dumps(page).encode()


def scan(
    records: Iterable[Any],
    *,
    observed_at: datetime = NOON + timedelta(hours=2),
    window: Window | None = None,
    account_id: str = ACCOUNT,
) -> Scan:
    """A complete scan of a window (by default the day) with `records` on one page."""
    page = parse_page(body(records))
    observed = pa.repeat(pa.scalar(observed_at, TIMESTAMP), page.operations.num_rows)
    operations = page.operations.append_column("observed_at", observed)
    nothing = pa.nulls(operations.num_rows, TIMESTAMP)
    operations = operations.append_column("looked_up_at", nothing)
    rejects = [
        {
            "reason": reject.reason,
            "raw": reject.raw,
            "operation_id": reject.operation_id,
            "created_at": reject.created_at,
            "observed_at": observed_at,
        }
        for reject in page.rejects
    ]
    reject_schema = pa.schema([field for field in REJECTS.arrow if field.name != "scan_id"])
    facts = ScanFacts(
        account_id=account_id,
        window=window or Window.of_day(DAY),
        observed_at=observed_at,
        completed_at=observed_at,
        complete=True,
        pages=1,
        requests=1,
        retries=0,
        records=page.records,
        operations=page.operations.num_rows,
        outside=0,
        duplicates=0,
        rejects=len(page.rejects),
    )
    return Scan(
        facts,
        operations.select(OPERATIONS.names).cast(OPERATIONS.arrow),
        pa.Table.from_pylist(rejects, schema=reject_schema),
    )


def new_lake(folder: Path) -> Lake:
    return Lake(folder / "lake").open()


def landed(lake: Lake, *scans: Scan) -> Lake:
    for one in scans:
        land(lake, one)
    return lake


def derived(lake: Lake, *scans: Scan) -> Lake:
    """A lake that holds the scans, merged and derived."""
    landed(lake, *scans)
    for partition in lake.pending():
        merge(lake, partition)
        derive(lake, partition)
    return lake


def snapshot(
    lake: Lake, tables: Iterable[Table] = (*LAKE_TABLES, *MARTS)
) -> dict[str, list[dict[str, Any]]]:
    """Tables' rows, by table and partition: by default the archive's whole content.

    Names of scans are random; they are replaced by their order, so that two archives compare.
    """
    content = {}
    for table in tables:
        for partition in lake.partitions(table.name):
            rows = parquet.read(lake.part(table, partition), table.arrow).to_pylist()
            for row in rows:
                if "scan_id" in row:
                    row["scan_id"] = row["scan_id"].rsplit("-", 1)[0]
            content[f"{table.name} {partition}"] = rows
    return content
