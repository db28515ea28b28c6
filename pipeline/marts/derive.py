"""derive(): a day's delivery tables from that day's operations and history alone.

The cost follows what changed and not the size of the archive. Each mart of `schema.MART_INPUTS` is the SQL
file of its name beside this module, with its grain on top. It reads the views ``operations`` and
``history``, or what `_prepare` makes of them.
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
    SIZE_CLASSES,
    Table,
)
from pipeline.model.windows import SLOT

log = logging.getLogger(__name__)

_STATE: Final = [name for name in OPERATIONS.names if name not in ("observed_at", "extra")]
_RATED: Final = ("attempted", "delivered", "opened", "undelivered", "failed")
_SUMMED: Final = [name for name in DELIVERY_HOURLY.names if name not in ("hour", "status")]

_NEEDED: Final = (
    *("total", "canceled", "scheduled", "queued"),
    *("delivered", "opened", "undelivered", "failed"),
)
"""The counts that the rates need."""


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
    # Not by their sum: counts may be as large as their type has room for.
    "is_rated": f"({' AND '.join(f'{name} IS NOT NULL' for name in _NEEDED)})",
    "ages_from_seen_us": _ages_from("seen_us"),
    "ages_from_superseded_us": _ages_from("superseded_us"),
    "newest_first": newest_first(_STATE),
}


_PREPARED: Final = (
    *(("VIEW", "piece"), ("VIEW", "operations"), ("VIEW", "history")),
    *(("TABLE", "counted"), ("TABLE", "counted_states")),
)


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
        connection: one of `day.connect` to work in, for many in a row.

    Returns:
        The rows of each table by its name.

    Raises:
        LakeError: a file of the partition is damaged or foreign.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        if connection is not None:
            rows = _derive(lake, partition, connection)
        else:
            with connect(lake) as own:
                rows = _derive(lake, partition, own)
        lake.finish_work(partition, DERIVE)
    return rows


@refusals()
def derive_merged(lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection) -> None:
    """The same for a day that was just merged, whose lock is held.

    Raises:
        LakeError: what the day holds can't be summed up; it stays due.
    """
    _derive(lake, partition, connection)
    lake.finish_work(partition, DERIVE)


def _derive(
    lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    with _telling_what_fails(partition):
        try:
            _prepare(lake, partition, connection)
            rows = {mart.name: _write(lake, partition, connection, mart) for mart in MARTS}
        finally:
            for kind, name in _PREPARED:
                connection.execute(f"DROP {kind} IF EXISTS {name}")
    _tell(partition, rows)
    return rows


def _prepare(lake: Lake, partition: Partition, connection: duckdb.DuckDBPyConnection) -> None:
    """Make what the marts are made of: the views ``operations`` and ``history``, and sums over these."""
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
    """Conditions that cut history into pieces of about `AT_ONCE` states, each of whole operations."""
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
            "%s: %s of %s is %d: too large, the delivery tables leave it out",
            partition,
            name,
            operation_id,
            value,
            extra={"event": "implausible_count", **partition.fields()},
        )


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
        "derived %s: %s",
        partition,
        rows,
        extra={"event": "derive", **partition.fields(), "rows": rows},
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
