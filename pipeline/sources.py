"""A table's rows of every day in one: what publish() builds from.

Opening a file for each day would make publishing cost what the archive holds, and not what changed. So the
rows are kept together in one hidden file per table, with a stamp of each file that they came from. It is
derived: without it, or where a stamp differs, the days' own files are read.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import HIVE_KEYS, Table, arrow_schema

log = logging.getLogger(__name__)

Stamps: TypeAlias = Mapping[Partition, str]

SCAN_TIMES: Final = ("observed_at", "completed_at")
"""The columns of coverage that are kept together: what coverage_slots takes from the scans."""

_KEYS: Final = [column.name for column in HIVE_KEYS]
_FEW: Final = 8
_STAMPS: Final = b"email_archive.stamps"


def stamps(lake: Lake, table: Table) -> Stamps:
    """What tells one file of a table from another at its place: a replacement is a new file.

    A file system may give a removed file's inode to the next one, and its clock may stand still
    meanwhile, so the size and the time of the inode's last change count too.
    """
    return {
        partition: f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        for partition, stat in lake.files_of(table)
    }


def collect(
    lake: Lake,
    table: Table,
    columns: Sequence[str] | None = None,
    stamped: Stamps | None = None,
    *,
    keep: bool = True,
) -> pa.Table:
    """All rows of a table with the hive keys, in no certain order.

    Args:
        lake: the archive.
        table: a mart, or a table of the lake with few rows a day.
        columns: those wanted; all by default. A table is always asked for the same.
        stamped: its `stamps`, where they were looked at just before; what changed since counts the next time.
        keep: whether to keep the rows together for the next time, which needs the warehouse's lock.

    Raises:
        LakeError: a day's file is damaged or foreign.
    """
    names = table.names if columns is None else columns
    schema = arrow_schema([*HIVE_KEYS, *(c for c in table.columns if c.name in names)])
    stamped = stamps(lake, table) if stamped is None else stamped
    partitions = {str(p): (p, found) for p, found in stamped.items()}
    kept, known = _read(lake.sources_file(table), schema)
    same = [key for key, (_, found) in partitions.items() if known.get(key) == found]
    if outdated := known.keys() - set(same):
        kept = _without(kept, outdated)
    changed = sorted(partitions[key][0] for key in partitions.keys() - set(same))
    if not changed and len(same) == len(known):
        return kept
    rows = pa.concat_tables([kept, *(_keyed(lake, table, p, schema) for p in changed)])
    if not keep:
        return rows
    noted = {key: found for key, (_, found) in partitions.items()}
    kept_with = rows.replace_schema_metadata({_STAMPS: json.dumps(noted)})
    target, temporary = lake.sources_file(table), lake.temporary_file(f"sources-{table.name}")
    parquet.write(lake, kept_with, target, temporary, form=parquet.COLLECTED)
    return rows


def _without(rows: pa.Table, partitions: Collection[str]) -> pa.Table:
    """Rows of other partitions than these."""
    if len(partitions) > _FEW:
        days = pc.cast(rows["created_date"], pa.string())
        keys = pc.binary_join_element_wise(rows["account_id"], days, " ")
        return rows.filter(
            pc.invert(pc.is_in(keys, value_set=pa.array(sorted(partitions), pa.string())))
        )
    for account_id, day in map(_day_of, partitions):
        # For few, one day after the other takes less than writing each row's key.
        is_of_day = pc.equal(rows["created_date"], pa.scalar(day))
        rows = rows.filter(pc.invert(pc.and_(is_of_day, pc.equal(rows["account_id"], account_id))))
    return rows


def _day_of(key: str) -> tuple[str, date]:
    """Account and day of a partition's name.

    Raises:
        ValueError: it is none.
    """
    account_id, day = key.split(" ")
    return account_id, date.fromisoformat(day)


def _keyed(lake: Lake, table: Table, partition: Partition, schema: pa.Schema) -> pa.Table:
    names = [name for name in schema.names if name not in _KEYS]
    rows = parquet.read(lake.part(table, partition), table.arrow, names)
    keys = {"account_id": partition.account_id, "created_date": partition.day}
    columns = [pa.repeat(pa.scalar(keys[c.name], c.type), rows.num_rows) for c in HIVE_KEYS]
    return pa.table([*columns, *rows.columns], schema=schema)


def _read(file: Path, schema: pa.Schema) -> tuple[pa.Table, dict[str, str]]:
    """What was collected before, and from which files; nothing if that can't be told."""
    try:
        with pa.OSFile(str(file), "rb") as source, pq.ParquetFile(source) as found:
            rows = found.read(use_threads=False)
        known = json.loads((rows.schema.metadata or {})[_STAMPS])
        if not isinstance(known, dict):
            log.warning("%s is collected anew: its stamps are no object", file)
        elif rows.schema.names == schema.names and rows.schema.types == schema.types:
            for key in known:
                _day_of(key)
            return rows.replace_schema_metadata(None).cast(schema), known
    except FileNotFoundError:
        pass
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        log.warning("%s is collected anew (%s)", file, error)
    return schema.empty_table(), {}
