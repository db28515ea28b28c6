"""publish(): the warehouse, built beside the old one and renamed over it.

Readers in other processes never meet a lock and never see half a build (R6): whoever has the old
file open goes on reading it. The views hold absolute paths, so a moved archive is published anew.
"""

import hashlib
import json
import logging
from pathlib import Path

import duckdb

from pipeline import engine, sources, views
from pipeline.lake.layout import Lake, LakeError
from pipeline.schema import (
    COUNTING,
    COUNTING_EVIDENCE,
    COVERAGE_DAYS,
    COVERAGE_SLOTS,
    DELIVERY_DAILY,
    DELIVERY_HOURLY,
    DELIVERY_MONTHLY,
    LAKE_TABLES,
    MARTS,
    PUBLISHED,
    PUBLISHED_HOURLY,
    WAREHOUSE_VIEWS,
    Table,
)

log = logging.getLogger(__name__)

_SUMMED = [c.name for c in DELIVERY_DAILY.columns if c.name in DELIVERY_HOURLY.names]
_SUMS = ",\n    ".join(f"sum({name})::BIGINT AS {name}" for name in _SUMMED)


def publish(lake: Lake, *, force: bool = True) -> bool:
    """Build ``warehouse.duckdb`` from the lake and rename it over the old one.

    Args:
        lake: the archive.
        force: build even if nothing that the warehouse is made of has changed since the last time.

    Returns:
        Whether it was built.

    Raises:
        LakeError: a file of the lake can't be read by DuckDB; the old warehouse stays.
    """
    with lake.files.locked(lake.lock_file("warehouse"), "the warehouse"):
        # Taken before the build: what changes during it makes the next publish build again.
        inputs = _fingerprint(lake)
        note = lake.root / ".published"
        if not force and lake.warehouse.exists() and _noted(note) == inputs:
            return False
        temporary = lake.temporary_file("warehouse.duckdb")
        lake.files.make_folder(temporary.parent)
        for leftover in (temporary, temporary.with_name(temporary.name + ".wal")):
            lake.files.discard(leftover)
        try:
            with engine.connect(str(temporary)) as connection:
                connection.begin()
                _build(connection, lake)
                connection.commit()
                connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            lake.files.discard(temporary)
            msg = (
                f"the warehouse can't be built, the old one stays: {error}. Move a file that is damaged "
                "or foreign away, then run `email-archive publish`"
            )
            raise LakeError(msg) from error
        lake.files.publish_file(temporary, lake.warehouse)
        with lake.files.replacing(note, lake.temporary_file("published")) as file:
            file.write(json.dumps(inputs).encode())
    log.info("published %s", lake.warehouse)
    return True


def _build(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    for table in LAKE_TABLES:
        _create_view(connection, table, views.select(lake, table))
    moments = engine.sql("pipeline", "last_scans")
    _create_view(connection, COVERAGE_SLOTS, views.coverage_slots(moments))
    _create_view(connection, COVERAGE_DAYS, engine.sql("pipeline", "coverage_days"))
    _create_source(connection, lake, "hourly", DELIVERY_HOURLY)
    _create_source(connection, lake, "counting_evidence", COUNTING_EVIDENCE)
    _fill(connection, COUNTING, engine.sql("pipeline", "counting"))
    for table in (PUBLISHED_HOURLY, DELIVERY_DAILY, DELIVERY_MONTHLY):
        summed = engine.render(engine.sql("pipeline", table.name), sums=_SUMS)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW summed AS {summed}")
        _fill(connection, table, engine.sql("pipeline", "rates"))
    connection.execute("; ".join(line for table in PUBLISHED for line in _comments(table)))


def _create_view(connection: duckdb.DuckDBPyConnection, table: Table, query: str) -> None:
    """Make a view with the columns of schema.py, in its order: one that lacks is an error."""
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    typed = engine.render(engine.sql("pipeline", "columns"), columns=columns, query=query)
    connection.execute(f"CREATE VIEW {table.name} AS {typed}")


def _create_source(
    connection: duckdb.DuckDBPyConnection, lake: Lake, name: str, table: Table
) -> None:
    """A mart's rows for the build alone: only files that changed since the last build are opened."""
    connection.register(name, sources.collect(lake, table))


def _fill(connection: duckdb.DuckDBPyConnection, table: Table, query: str) -> None:
    """Make a table as schema.py has it, and fill it: a column that one lacks is an error."""
    columns = ", ".join(
        f"{c.name} {c.sql_type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns
    )
    connection.execute(f"CREATE TABLE {table.name} ({columns})")
    connection.execute(f"INSERT INTO {table.name} BY NAME {query}")


def _comments(table: Table) -> list[str]:
    kind = "VIEW" if table in WAREHOUSE_VIEWS else "TABLE"
    return [
        f"COMMENT ON {kind} {table.name} IS {engine.literal(table.comment)}",
        *(
            f"COMMENT ON COLUMN {table.name}.{column.name} IS {engine.literal(column.comment)}"
            for column in table.published
        ),
    ]


def _fingerprint(lake: Lake) -> str:
    """What the warehouse is made of: where the lake lies, its marts' files, which tables have any."""
    digest = hashlib.sha256(str(lake.root.absolute()).encode())
    for mart in MARTS:
        for partition in lake.partitions(mart.name):
            path = lake.part(mart, partition)
            if path.exists():
                digest.update(f"{path.name}{partition}{sources.stamp(path)}".encode())
    for table in LAKE_TABLES:
        digest.update(f"{table.name}{any(True for _ in lake.partitions(table.name))}".encode())
    return digest.hexdigest()


def _noted(note: Path) -> str | None:
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return noted if isinstance(noted, str) else None
