"""A mart's rows of every day in one table: what publish() builds from.

Opening a file for each day would make publishing cost what the archive holds, and not what changed. So the
rows are kept together in one hidden file per mart, with a stamp of each file that they came from. It is
derived: without it, or where a stamp differs, the days' own files are read.
"""

import json
import logging
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import HIVE_KEYS, Table, arrow_schema

log = logging.getLogger(__name__)

_STAMPS: Final = b"email_archive.stamps"


def stamp(file: Path) -> str:
    """Tells one file at a place from another: a replacement is a new file."""
    stat = file.stat()
    return f"{stat.st_ino} {stat.st_mtime_ns}"


def collect(lake: Lake, table: Table) -> pa.Table:
    """All rows of a mart with the hive keys, under the warehouse's lock; in no certain order.

    Raises:
        LakeError: a day's file is damaged or foreign.
    """
    schema = arrow_schema(table.published)
    files = {p: lake.part(table, p) for p in lake.partitions(table.name)}
    stamps = {str(p): stamp(file) for p, file in files.items() if file.exists()}
    kept, known = _read(lake.sources_file(table), schema)
    same = [key for key, found in stamps.items() if known.get(key) == found]
    if len(same) < len(known):
        keys = pc.binary_join_element_wise(
            kept["account_id"], pc.cast(kept["created_date"], pa.string()), " "
        )
        kept = kept.filter(pc.is_in(keys, value_set=pa.array(same, pa.string())))
    changed = sorted(p for p in files if str(p) in stamps.keys() - set(same))
    if not changed and len(same) == len(known):
        return kept
    rows = pa.concat_tables([kept, *(_keyed(lake, table, p, schema) for p in changed)])
    stamped = rows.replace_schema_metadata({_STAMPS: json.dumps(stamps)})
    parquet.write(
        lake, stamped, lake.sources_file(table), lake.temporary_file(f"sources-{table.name}")
    )
    return rows


def _keyed(lake: Lake, table: Table, partition: Partition, schema: pa.Schema) -> pa.Table:
    rows = parquet.read(lake.part(table, partition), table.arrow)
    keys = {"account_id": partition.account_id, "created_date": partition.day}
    columns = [pa.repeat(pa.scalar(keys[c.name], c.type), rows.num_rows) for c in HIVE_KEYS]
    return pa.table([*columns, *rows.columns], schema=schema)


def _read(file: Path, schema: pa.Schema) -> tuple[pa.Table, dict[str, str]]:
    """What was collected before, and from which files; nothing if that can't be told."""
    try:
        with pa.OSFile(str(file), "rb") as source, pq.ParquetFile(source) as found:
            rows = found.read(use_threads=False)
        known: dict[str, str] = json.loads((rows.schema.metadata or {})[_STAMPS])
        if rows.schema.names == schema.names and rows.schema.types == schema.types:
            return rows.replace_schema_metadata(None).cast(schema), known
    except FileNotFoundError:
        pass
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        log.warning("%s is collected anew (%s)", file, error)
    return schema.empty_table(), {}
