"""derive(): a day's delivery tables from that day's operations and history alone.

Only days that changed are derived, so the cost does not grow with the archive. Each mart of
`schema.MART_INPUTS` is a query in the file of its name in ``sql/``, with its grain on top. It reads the views
``operations`` and ``history``, or the temporary tables that `_prepare` makes from them.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import zip_longest
from typing import Final

import duckdb
import pyarrow as pa

from pipeline.lake import engine, parquet
from pipeline.lake.day import AT_ONCE, connect
from pipeline.lake.faults import refusals
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.statements import newest_first, part
from pipeline.model.records import Partition
from pipeline.model.schema import (
    AGES,
    COUNT_NAMES,
    DELIVERY_HOURLY,
    HISTORY,
    MARTS,
    MAX_PLAUSIBLE_COUNT,
    OPERATIONS,
    RATED_COUNTS,
    SIZE_CLASSES,
    Table,
)
from pipeline.model.windows import SLOT

log = logging.getLogger(__name__)

_STATE: Final = [name for name in OPERATIONS.names if name not in ("observed_at", "extra")]
_RATED: Final = ("attempted", "delivered", "opened", "undelivered", "failed")
_SUMMED: Final = [name for name in DELIVERY_HOURLY.names if name not in ("hour", "status")]


def _listed(lines: Iterable[str]) -> str:
    return ",\n    ".join(lines)


def _ages_from(microseconds: str) -> str:
    return " ".join(f"WHEN {microseconds} <= {age * 60_000_000} THEN {age}" for _, age in AGES)


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
        f"sum({name}) FILTER (is_in_effect AND is_rated) AS {name}" for name in ("emails", *_RATED)
    ),
    # Their sum would be NULL just as well, but it can overflow.
    "is_rated": f"({' AND '.join(f'{name} IS NOT NULL' for name in RATED_COUNTS)})",
    "ages_from_seen_us": _ages_from("seen_us"),
    "ages_from_superseded_us": _ages_from("superseded_us"),
    "newest_first": newest_first(_STATE),
}


_PREPARED: Final = (
    *(("VIEW", "piece"), ("VIEW", "operations"), ("VIEW", "history")),
    *(("TABLE", "counted"), ("TABLE", "counted_states")),
)


def _query(name: str, **parts: str) -> str:
    """A query in ``sql/``, with its parameters filled in."""
    return engine.render(engine.sql("pipeline.marts", name), **_PARTS, **parts)


def mark_outdated(lake: Lake) -> None:
    """Mark every day as stale if another version's SQL derived its marts, or none did.

    A file in the lake has a fingerprint of the SQL that derived them, so that the check costs the same for
    any number of days.
    """
    made_by = _fingerprint()
    note = lake.derived("marts.json")
    if _noted(lake) == made_by:
        return
    with lake.files.locked(lake.lock_file("marts"), "the marts"):
        for partition in lake.partitions(HISTORY.name):
            lake.note_work(partition, DERIVE)
        # Written last: if the process is killed before, the next run marks the days again (R5).
        with lake.files.replacing(note, lake.temporary_file("marts")) as file:
            file.write(json.dumps(made_by).encode())


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for mart in MARTS:
        digest.update(f"{mart.name}{mart.arrow}{_query(mart.name)}".encode())
    for name in ("counted", "counted_states", "plausible"):
        digest.update(_query(name, rows="").encode())
    return digest.hexdigest()


def _noted(lake: Lake) -> object:
    try:
        return json.loads(lake.derived("marts.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


@refusals()
def derive(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection | None = None
) -> dict[str, int]:
    """Derive one partition's delivery tables, under its lock; write those that changed.

    Args:
        lake: the archive.
        partition: the account and day.
        connection: made by `day.connect`; by default a new one.

    Returns:
        The number of rows of each table, by its name.

    Raises:
        LakeError: a file of the partition is damaged or foreign.
    """
    with lake.locked(partition):
        if connection is not None:
            rows = _derive(lake, partition, connection)
        else:
            with connect(lake) as own:
                rows = _derive(lake, partition, own)
        lake.finish_work(partition, DERIVE)
    return rows


@refusals()
def derive_merged(lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection) -> None:
    """Derive the delivery tables of a day that was just merged and whose lock is held; see `derive`.

    Raises:
        LakeError: the tables can't be derived; the day stays due.
    """
    _derive(lake, partition, connection)
    lake.finish_work(partition, DERIVE)


def _derive(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    with _mart_errors(partition):
        try:
            _prepare(lake, partition, connection)
            rows = {mart.name: _write(lake, partition, connection, mart) for mart in MARTS}
        finally:
            for kind, name in _PREPARED:
                connection.execute(f"DROP {kind} IF EXISTS {name}")
    _log(partition, rows)
    return rows


def _prepare(lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection) -> None:
    """Create what the marts read: the views ``operations`` and ``history``, and tables of sums over these."""
    for table in (OPERATIONS, HISTORY):
        rows = part(table, lake.part(table, partition))
        if table is OPERATIONS:
            _warn_of_implausible(partition, connection, rows)
        believed = _query("plausible", rows=rows)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {table.name} AS {believed}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE counted AS {_query('counted')}")
    for number, piece in enumerate(_pieces(lake, partition)):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW piece AS FROM history WHERE {piece}")
        how = "INSERT INTO" if number else "CREATE OR REPLACE TEMP TABLE"
        states = _query("counted_states")
        connection.execute(f"{how} counted_states {'' if number else 'AS'} {states}")


def _pieces(lake: Lake, partition: Partition) -> Iterator[str]:
    """Conditions for pieces of history with about `AT_ONCE` states each. No operation is in two pieces."""
    bounds, size = [], 0
    for first_id, rows in parquet.first_ids(lake.part(HISTORY, partition)):
        if size >= AT_ONCE:
            bounds.append(engine.literal(first_id))
            size = 0
        size += rows
    for low, high in zip_longest([None, *bounds], bounds):
        ends = [f"operation_id >= {low}" if low else "", f"operation_id < {high}" if high else ""]
        yield " AND ".join(end for end in ends if end) or "true"


def _warn_of_implausible(
    partition: Partition, connection: duckdb.DuckDBPyConnection, operations: str
) -> None:
    query = _query("implausible", operations=operations)
    for operation_id, name, value in connection.execute(query).fetchall():
        log.warning(
            "%s: %s of %s is %d, which is implausible: the delivery tables leave it out",
            partition,
            name,
            operation_id,
            value,
            extra={"event": "implausible_count", **partition.fields()},
        )


@contextmanager
def _mart_errors(partition: Partition) -> Iterator[None]:
    """Raise errors of DuckDB and Arrow as LakeError, so that the other days are still derived."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        msg = f"the delivery tables of {partition} can't be derived: {error}"
        raise LakeError(msg) from error


def _log(partition: Partition, rows: dict[str, int]) -> None:
    log.info(
        "derived %s: %s",
        partition,
        rows,
        extra={"event": "derive", **partition.fields(), "rows": rows},
    )


def _write(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection, mart: Table
) -> int:
    """Derive one mart, and write it if it changed; the number of its rows."""
    table = connection.sql(_query(mart.name)).to_arrow_table().select(mart.names).cast(mart.arrow)
    target = lake.part(mart, partition)
    temporary = lake.temporary_file(mart.name, partition)
    before = parquet.read_derived(target, mart.arrow)
    parquet.write_if_changed(lake, before, table, target, temporary)
    return int(table.num_rows)
