"""summarize(): a day's delivery tables from that day's operations and history alone.

The cost follows what changed and not the size of the archive. Each table is one SQL file beside this
one, with its grain on top; its columns and their meanings are in schema.py.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import engine
from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.faults import refusals
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.statements import part
from pipeline.marts.gains import GAINS_VERSION, gains, steps
from pipeline.schema import (
    AGES,
    COUNT_NAMES,
    COUNTING_EVIDENCE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    MARTS,
    MAX_PLAUSIBLE_COUNT,
    OPERATION_SIZES,
    OPERATIONS,
    SIZE_CLASSES,
    Table,
    arrow_schema,
)
from pipeline.windows import SLOT

log = logging.getLogger(__name__)

_HISTORY_NAMES: Final = [name for name in HISTORY.names if name != "extra"]
_RATED: Final = ("attempted", "delivered", "opened", "undelivered", "failed")
_SUMMED: Final = [name for name in DELIVERY_HOURLY.names if name not in ("hour", "status")]

_BY_THEN: Final = "FILTER (age_minutes <= age)"


def _listed(lines: Iterable[str]) -> str:
    return ",\n    ".join(lines)


_PARTS: Final = {
    "sums": _listed(f"sum({name}) AS {name}" for name in _SUMMED),
    "counts": _listed(f"sum({name}) AS {name}" for name in COUNT_NAMES),
    "names_of_counts": _listed(COUNT_NAMES),
    "rated": _listed(f"CASE WHEN is_rated THEN {name} END AS rated_{name}" for name in _RATED[1:]),
    "hour_us": str(SLOT // timedelta(microseconds=1)),
    "classes": " ".join(
        f"WHEN total >= {smallest} THEN {smallest}" for _, smallest in reversed(SIZE_CLASSES)
    ),
    "names": " ".join(
        f"WHEN smallest = {smallest} THEN {engine.literal(name)}" for name, smallest in SIZE_CLASSES
    ),
    "believed": _listed(
        f"CASE WHEN {name} <= {MAX_PLAUSIBLE_COUNT} THEN {name} END AS {name}"
        for name in COUNT_NAMES
    ),
    "most": str(MAX_PLAUSIBLE_COUNT),
    "ages": ", ".join(f"({minutes})" for _, minutes in AGES),
    "known": _listed(
        f"CASE WHEN sum(rated_operations) {_BY_THEN} > 0 THEN sum({name}) {_BY_THEN} END AS {name}"
        for name in ("emails", *_RATED)
    ),
}


def _query(name: str, **parts: str) -> str:
    """One of the SQL files beside this module, filled in."""
    return engine.render(engine.sql("pipeline.marts", name), **_PARTS, **parts)


def mark_outdated(lake: Lake) -> None:
    """Mark every day as stale if its marts were made by other SQL than ours, or not at all.

    An archive that an older version kept lacks the marts that came since. A note in the lake says what
    made those that are there, so that looking costs the same however many days there are.
    """
    made_by = _fingerprint()
    note = lake.derived("marts.json")
    if _noted(lake) == made_by:
        return
    with lake.files.locked(lake.lock_file("marts"), "the marts"):
        for partition in lake.partitions(HISTORY.name):
            lake.note_work(partition, DERIVE)
        # After the marks: killed before, the next run makes them again (R5).
        with lake.files.replacing(note, lake.temporary_file("marts")) as file:
            file.write(json.dumps(made_by).encode())


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for mart in MARTS:
        digest.update(f"{mart.name}{mart.arrow}{_query(mart.name)}".encode())
    digest.update(_query("counted").encode())
    digest.update(GAINS_VERSION + b"%d" % MAX_PLAUSIBLE_COUNT)
    return digest.hexdigest()


def _noted(lake: Lake) -> object:
    try:
        return json.loads(lake.derived("marts.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


@refusals()
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
            with engine.connect(spill=lake.spill) as own:
                rows = _summarize(lake, partition, own)
        lake.finish_work(partition, DERIVE)
    return rows


@refusals()
def summarize_merged(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> None:
    """The same for a day that was just merged, whose lock is held.

    Raises:
        LakeError: what the day holds can't be summed up; it stays due.
    """
    _summarize(lake, partition, connection)
    lake.finish_work(partition, DERIVE)


def _summarize(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    with _telling_what_fails(partition):
        rows = _of_operations(lake, partition, connection)
        rows |= _of_history(lake, partition, connection)
    _tell(partition, rows)
    return rows


def _of_operations(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    marts = (DELIVERY_HOURLY, COUNTING_EVIDENCE, OPERATION_SIZES)
    operations = part(OPERATIONS, lake.part(OPERATIONS, partition))
    _warn_of_implausible(partition, connection, operations)
    believed = _query("plausible", operations=operations)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW operations AS {believed}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE counted AS {_query('counted')}")
    rows = {mart.name: _write(lake, partition, connection, mart) for mart in marts}
    connection.execute("DROP TABLE counted")
    connection.execute("DROP VIEW operations")
    return rows


def _of_history(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    batches = parquet.batches(lake.part(HISTORY, partition), HISTORY.arrow, _HISTORY_NAMES)
    gained = [steps(gains(plausible(rows), connection)) for rows in _by_operation(batches)]
    with _registered(connection, "steps", pa.concat_tables(gained)):
        return {DELIVERY_CURVE.name: _write(lake, partition, connection, DELIVERY_CURVE)}


def _by_operation(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, ordered by operation, in pieces that each have all rows of their operations."""
    left = arrow_schema(c for c in HISTORY.columns if c.name in _HISTORY_NAMES).empty_table()
    for batch in batches:
        rows = pa.concat_tables([left, batch])
        last = pc.index(rows["operation_id"], rows["operation_id"][-1]).as_py()
        yield rows.slice(0, last)
        left = rows.slice(last)
    yield left


def plausible(rows: pa.Table) -> pa.Table:
    """History with counts above `schema.MAX_PLAUSIBLE_COUNT` as absent."""
    for name in COUNT_NAMES:
        column = rows[name]
        if (pc.max(column).as_py() or 0) > MAX_PLAUSIBLE_COUNT:
            believed = pc.if_else(pc.less_equal(column, MAX_PLAUSIBLE_COUNT), column, None)
            rows = rows.set_column(rows.schema.get_field_index(name), name, believed)
    return rows


def _warn_of_implausible(
    partition: Partition, connection: duckdb.DuckDBPyConnection, operations: str
) -> None:
    query = _query("implausible", operations=operations)
    for operation_id, name, value in connection.execute(query).fetchall():
        log.warning(
            "%s: %s of %s is %d: too large, the delivery tables leave it out",
            partition,
            name,
            operation_id,
            value,
            extra={"event": "implausible_count", **partition.fields()},
        )


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> Iterator[None]:
    """Rows under a name, for the block alone: the connection outlives them."""
    connection.register(name, rows)
    try:
        yield
    finally:
        connection.unregister(name)


@contextmanager
def _telling_what_fails(partition: Partition) -> Iterator[None]:
    """One day that can't be derived must not keep the others from it."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        msg = f"the delivery tables of {partition} can't be derived: {error}"
        raise LakeError(msg) from error


def _tell(partition: Partition, rows: dict[str, int]) -> None:
    log.info(
        "summarized %s: %s",
        partition,
        rows,
        extra={"event": "summarize", **partition.fields(), "rows": rows},
    )


def _write(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection, mart: Table
) -> int:
    """Derive one mart, and write it if it is another; its rows."""
    table = connection.sql(_query(mart.name)).to_arrow_table().select(mart.names).cast(mart.arrow)
    target = lake.part(mart, partition)
    temporary = lake.temporary_file(mart.name, partition)
    before = parquet.read_derived(target, mart.arrow)
    parquet.write_if_changed(lake, before, table, target, temporary)
    return int(table.num_rows)
