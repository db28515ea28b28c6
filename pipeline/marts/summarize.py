"""summarize(): a day's delivery tables from that day's operations alone.

The cost follows what changed and not the size of the archive. Each table is one SQL file beside this
one, with its grain on top; its columns and their meanings are in schema.py.
"""

import logging

import duckdb

from pipeline import engine
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.schema import COUNT_NAMES, MARTS, OPERATIONS

log = logging.getLogger(__name__)

_SUMS = ",\n    ".join(f"sum({name}) AS {name}" for name in COUNT_NAMES)


def summarize(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection | None = None
) -> dict[str, int]:
    """Derive one partition's delivery tables, under its lock; write those that changed.

    Args:
        lake: the archive.
        partition: the account and day.
        connection: an in-memory connection of `engine.connect` to work in, for many in a row.

    Returns:
        The rows of each table by its name.

    Raises:
        LakeError: a file of the partition is damaged or foreign.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        if connection is not None:
            rows = _summarize(lake, partition, connection)
        else:
            with engine.connect() as own:
                rows = _summarize(lake, partition, own)
        if lake.stale_marker(partition).exists():
            lake.files.remove(lake.stale_marker(partition))
    return rows


def _summarize(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    operations = parquet.read(lake.part(OPERATIONS, partition), OPERATIONS.arrow)
    connection.register("operations", operations)
    rows = {}
    for mart in MARTS:
        query = engine.render(engine.sql("pipeline.marts", mart.name), sums=_SUMS)
        table = connection.sql(query).to_arrow_table().select(mart.names).cast(mart.arrow)
        target = lake.part(mart, partition)
        before = parquet.read(target, mart.arrow)
        temporary = lake.temporary_file(mart.name, partition)
        parquet.write_if_changed(lake, before, table, target, temporary)
        rows[mart.name] = table.num_rows
    log.info("summarized %s: %s", partition, rows)
    return rows
