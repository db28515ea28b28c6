"""publish(): the warehouse, built beside the old one and renamed over it.

Readers in other processes never meet a lock and never see half a build (R6): whoever has the old
file open goes on reading it. The views hold absolute paths, so a moved archive is published anew.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from pipeline import counting, engine, sources, version, views
from pipeline.lake.columns import are_uniform
from pipeline.lake.faults import UnreadableError, of_query, refusals
from pipeline.lake.layout import Lake, LakeError
from pipeline.marts.rebuild import rebuild_damaged
from pipeline.published import has_writer, write_ahead_log
from pipeline.schema import (
    AS_OF_MEANING,
    COUNTING,
    COUNTING_EVIDENCE,
    COVERAGE,
    COVERAGE_DAYS,
    COVERAGE_SLOTS,
    DELIVERY_ANOMALIES,
    DELIVERY_DAILY,
    DELIVERY_HOURLY,
    DELIVERY_TABLES,
    LAKE_TABLES,
    MARTS,
    OPERATION_SIZES,
    PUBLISHED,
    PUBLISHED_CURVE,
    SLOT_COVERAGE,
    WAREHOUSE_VIEWS,
    Table,
)
from pipeline.sources import Stamps
from pipeline.windows import RETENTION

log = logging.getLogger(__name__)

AS_OF: Final = "operations_as_of"

_STORAGE_VERSION: Final = "v1.4.0"
"""The oldest format whose write-ahead log names its database: DuckDB from 1.4 on reads the warehouse, and
none of them replays the log of another file, which an older format would allow."""

_SETTLING: Final = RETENTION + timedelta(days=2)
"""How long after a day began any of its slots can get another state; a day more for safety."""

ANOMALY_DAYS: Final = 28
"""How many days before a day tell what to expect of it."""

ANOMALY_FEWEST_DAYS: Final = 14
"""How many of them have to be known for that."""

ANOMALY_WIDTH: Final = 4
"""The band's half width in standard deviations: of ten thousand usual days, not one leaves it."""

_COLLECTED: Final = (*MARTS, COVERAGE, SLOT_COVERAGE)
"""What is looked at to tell whether anything changed."""

_SUMMED = [c.name for c in DELIVERY_DAILY.columns if c.name in DELIVERY_HOURLY.names]
_SUMS = ",\n    ".join(f"sum({name})::BIGINT AS {name}" for name in _SUMMED)
_SLOTS = [c.name for c in DELIVERY_DAILY.columns if c.name.endswith("_slots")]
_COLUMNS = {
    "sums": _SUMS,
    "slots": ", ".join(_SLOTS),
    "slot_sums": ",\n    ".join(f"sum({name})::BIGINT AS {name}" for name in _SLOTS),
    "zero": ", ".join(_SLOTS),
    "zeros": ", ".join(f"coalesce({name}, 0) AS {name}" for name in _SLOTS),
}
_ANOMALIES = {
    "days_before": str(ANOMALY_DAYS),
    "fewest_days": str(ANOMALY_FEWEST_DAYS),
    "width": str(ANOMALY_WIDTH),
}


def publish(lake: Lake, *, force: bool = True) -> bool:
    """Build ``warehouse.duckdb`` from the lake and rename it over the old one.

    Derived files that are damaged are derived again first.

    Args:
        lake: the archive.
        force: build even if nothing that the warehouse is made of has changed since the last time.

    Returns:
        Whether it was built.

    Raises:
        LakeError: a file of the lake can't be read by DuckDB; the old warehouse stays.
    """
    try:
        return _publish(lake, force=force)
    except UnreadableError:
        raise
    except LakeError:
        if not rebuild_damaged(lake):
            raise
    return _publish(lake, force=force)


@refusals()
def _publish(lake: Lake, *, force: bool) -> bool:
    with lake.files.locked(lake.lock_file("warehouse"), "the warehouse"):
        began = time.monotonic()
        # Taken before the build: what changes during it makes the next publish build again.
        stamps = {table: sources.stamps(lake, table) for table in _COLLECTED}
        inputs = {
            "marts": _fingerprint(lake, stamps),
            "coverage": "".join(_fingerprint_of(t, stamps[t]) for t in (COVERAGE, SLOT_COVERAGE)),
        }
        note = lake.root / ".published"
        noted = _noted(note) if lake.warehouse.exists() else {}
        if _was_written(lake, noted) or force:
            noted = {}
        if noted.items() >= inputs.items():
            return False
        # So that a damaged file is noticed, be it of an old day.
        sources.collect(lake, SLOT_COVERAGE, stamped=stamps[SLOT_COVERAGE])
        # A scan that found nothing new can make a slot final, but most don't.
        inputs["settled"] = _settled(lake)
        # Looked at again: the build is to hold what made slots settled, should a fold have come between.
        stamps |= {table: sources.stamps(lake, table) for table in (COVERAGE, SLOT_COVERAGE)}
        if all(noted.get(name) == inputs[name] for name in ("marts", "settled")):
            _note(lake, note, {**noted, **inputs})
            return False
        temporary = _build_beside(lake, stamps)
        inputs[_key(lake)] = _stamp(temporary)
        lake.files.discard(note)  # it tells of the file that is replaced now
        _remove_log(lake)
        lake.files.publish_file(temporary, lake.warehouse)
        _remove_log(lake)
        _note(lake, note, inputs)
    about = {
        "event": "publish",
        "warehouse": str(lake.warehouse),
        "bytes": lake.warehouse.stat().st_size,
        "seconds": round(time.monotonic() - began, 6),
    }
    log.info("published %s", lake.warehouse, extra=about)
    return True


def _was_written(lake: Lake, noted: Mapping[str, str]) -> bool:
    """Whether another program wrote to the warehouse since it was published, or is about to."""
    if not lake.warehouse.exists():
        return False
    is_changed = noted.get(_key(lake), "") not in ("", _stamp(lake.warehouse))
    if not is_changed and not has_writer(lake.warehouse):
        return False
    log.warning(
        "another program wrote to %s, or has it open for writing: the file is replaced, without those "
        "changes. Open it read-only there, or write to a copy",
        lake.warehouse,
    )
    return True


def _key(lake: Lake) -> str:
    """The note's key for the stamp of the file; another one in an archive that was moved."""
    return str(lake.warehouse.absolute())


def _stamp(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _remove_log(lake: Lake) -> None:
    """Remove another program's write-ahead log: it must not be replayed on the next warehouse.

    Called before the file is renamed into place, so that none is there when it appears; and after, since
    a program that still has the old file open may have begun one meanwhile.
    """
    if (found := write_ahead_log(lake.warehouse)).exists():
        lake.files.remove(found)


def _build_beside(lake: Lake, stamps: Mapping[Table, Stamps]) -> Path:
    """Build the warehouse in a temporary file; its path."""
    temporary = lake.temporary_file("warehouse.duckdb")
    lake.files.make_folder(temporary.parent)

    def build() -> None:
        _discard(lake, temporary)
        with engine.connect(spill=lake.spill) as connection:
            file, form = engine.literal(str(temporary)), engine.literal(_STORAGE_VERSION)
            connection.execute(f"ATTACH {file} AS warehouse (STORAGE_VERSION {form})")
            connection.execute("USE warehouse")
            # Into the file at once: a log of a file that nobody sees yet would be written for nothing.
            connection.execute("SET checkpoint_threshold = '0B'")
            connection.begin()
            _build(connection, lake, stamps)
            connection.commit()
            connection.execute("CHECKPOINT")

    try:
        engine.asking_again(build)
    except duckdb.Error as error:
        _discard(lake, temporary)  # a full disk is not to be filled further
        raise _not_built(error) from error
    return temporary


def _discard(lake: Lake, temporary: Path) -> None:
    """Remove a file that DuckDB was writing, and its log."""
    for file in (temporary, write_ahead_log(temporary)):
        lake.files.discard(file)


def _build(
    connection: duckdb.DuckDBPyConnection, lake: Lake, stamps: Mapping[Table, Stamps]
) -> None:
    def source(name: str, table: Table, columns: Sequence[str] | None = None) -> None:
        # For the build alone: only files that changed since the last build are opened.
        connection.register(name, sources.collect(lake, table, columns, stamps[table]))

    # DuckDB lists a view's files whenever it makes one that asks it: so they are views of nothing at first.
    for table in LAKE_TABLES:
        _create_view(connection, table, views.nothing(table))
    connection.execute(f"CREATE MACRO {AS_OF}(ts) AS TABLE {views.operations_as_of()}")
    comment = engine.literal(AS_OF_MEANING)
    connection.execute(f"COMMENT ON MACRO TABLE {AS_OF} IS {comment}")
    moments = engine.sql("pipeline", "last_scans")
    _create_view(connection, COVERAGE_SLOTS, views.coverage_slots(moments))
    _create_view(connection, COVERAGE_DAYS, engine.sql("pipeline", "coverage_days"))
    source("hourly", DELIVERY_HOURLY)
    source(SLOT_COVERAGE.name, SLOT_COVERAGE)
    source(COVERAGE.name, COVERAGE, sources.SCAN_TIMES)
    _create_slots(connection, moments)
    _create_completeness(connection)
    connection.execute(f"CREATE TEMP TABLE calendar AS {engine.sql('pipeline', 'calendar')}")
    source("sizes", OPERATION_SIZES)
    source("counting_evidence", COUNTING_EVIDENCE)
    _fill(connection, COUNTING, engine.render(engine.sql("pipeline", "counting"), **counting.PARTS))
    for table in DELIVERY_TABLES:
        summed = engine.render(engine.sql("pipeline", table.name), **_COLUMNS)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW summed AS {summed}")
        _fill(connection, table, engine.sql("pipeline", "rates"))
    anomalies = engine.sql("pipeline", DELIVERY_ANOMALIES.name)
    _fill(connection, DELIVERY_ANOMALIES, engine.render(anomalies, **_ANOMALIES))
    _create_view(connection, PUBLISHED_CURVE, views.delivery_curve(lake))
    for table in LAKE_TABLES:
        _create_view(connection, table, views.select(lake, table))
    connection.execute("; ".join(line for table in PUBLISHED for line in _comments(table)))


def _create_view(connection: duckdb.DuckDBPyConnection, table: Table, query: str) -> None:
    """Make a view with the columns of schema.py, in its order: one that lacks is an error."""
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    typed = engine.render(engine.sql("pipeline", "columns"), columns=columns, query=query)
    connection.execute(f"CREATE OR REPLACE VIEW {table.name} AS {typed}")


def _create_slots(connection: duckdb.DuckDBPyConnection, moments: str) -> None:
    """What coverage_slots shows now, for the build alone, by day too.

    The view itself would open the coverage of every day that the archive has.
    """
    connection.execute(f"CREATE TEMP TABLE slots AS {views.coverage_slots(moments)}")
    connection.execute(f"CREATE TEMP TABLE slot_counts AS {engine.sql('pipeline', 'slot_counts')}")
    for table in (SLOT_COVERAGE, COVERAGE):
        connection.unregister(table.name)


def _create_completeness(connection: duckdb.DuckDBPyConnection) -> None:
    """How far a period is known, from its slots in each state, as a macro for the build alone."""
    body = engine.sql("pipeline", "completeness")
    arguments = "finals, closed, changing, gaps, never_asked"
    connection.execute(f"CREATE TEMP MACRO completeness({arguments}) AS ({body})")


def _fill(connection: duckdb.DuckDBPyConnection, table: Table, query: str) -> None:
    """Make a table as schema.py has it, and fill it: a column that one lacks is an error."""
    columns = ", ".join(
        f"{c.name} {c.sql_type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns
    )
    connection.execute(f"CREATE TABLE {table.name} ({columns})")
    names = ", ".join(c.name for c in table.columns)
    rows = engine.render(engine.sql("pipeline", "columns"), columns=names, query=query)
    connection.execute(f"INSERT INTO {table.name} BY NAME {rows}")


def _comments(table: Table) -> list[str]:
    kind = "VIEW" if table in WAREHOUSE_VIEWS else "TABLE"
    return [
        f"COMMENT ON {kind} {table.name} IS {engine.literal(table.comment)}",
        *(
            f"COMMENT ON COLUMN {table.name}.{column.name} IS {engine.literal(column.comment)}"
            for column in table.published
        ),
    ]


def _fingerprint(lake: Lake, stamps: Mapping[Table, Stamps]) -> str:
    """What the warehouse is made of: where the lake lies, its marts' files, which tables have any."""
    digest = hashlib.sha256(str(lake.root.absolute()).encode())
    # What makes it of them, too: another version may derive other numbers from the same files.
    digest.update(f"{version.installed()}{_ANOMALIES}{counting.PARTS}".encode())
    digest.update(engine.fingerprint("pipeline").encode())
    digest.update(_STORAGE_VERSION.encode())
    for published in PUBLISHED:
        digest.update(f"{published.name}{published.published}".encode())
    for mart in MARTS:
        digest.update(_fingerprint_of(mart, stamps[mart]).encode())
    for table in LAKE_TABLES:
        has_files = any(True for _ in lake.partitions(table.name))
        digest.update(f"{table.name}{has_files}{are_uniform(lake, table)}".encode())
    return digest.hexdigest()


def _fingerprint_of(table: Table, stamps: Stamps) -> str:
    """Which files a table has, and when each was written."""
    digest = hashlib.sha256()
    for partition, stamp in stamps.items():
        digest.update(f"{table.name}{partition}{stamp}".encode())
    return digest.hexdigest()


def _settled(lake: Lake) -> str:
    """Which slots are final, closed or lost: what the coverage can add to the delivery tables.

    Those of the newest days tell; an older one changes no more, or has no coverage yet.
    """
    days = [partition.day for partition in lake.partitions(SLOT_COVERAGE.name)]
    recent = max(days) - _SETTLING if days else date.min
    digest = hashlib.sha256(f"{len(days)}".encode())
    slots = views.coverage_slots(engine.sql("pipeline", "last_scans"))
    query = engine.render(engine.sql("pipeline", "settled_slots"), slots=slots)

    def asked() -> list[tuple[object, ...]]:
        with engine.connect(spill=lake.spill) as connection:
            for table in (COVERAGE, SLOT_COVERAGE):
                rows = views.select(lake, table, since=recent)
                connection.execute(f"CREATE VIEW {table.name} AS {rows}")
            return connection.sql(query).fetchall()

    try:
        digest.update(f"{engine.asking_again(asked)}".encode())
    except duckdb.Error as error:
        raise _not_built(error) from error
    return digest.hexdigest()


def _not_built(error: duckdb.Error) -> LakeError:
    found = of_query(error)
    text = f"the warehouse can't be built, the old one stays: {found or error}"
    return UnreadableError(text) if found else LakeError(text)


def _note(lake: Lake, note: Path, inputs: Mapping[str, str]) -> None:
    with lake.files.replacing(note, lake.temporary_file("published")) as file:
        file.write(json.dumps(inputs).encode())


def _noted(note: Path) -> dict[str, str]:
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}
