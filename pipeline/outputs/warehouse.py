"""publish(): builds ``warehouse.duckdb`` in a temporary file and renames it over the old one.

Readers never see a lock or an unfinished build (R6); who has the old file open continues to read it. The
views contain absolute paths, so a moved archive has to be published again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from pipeline import version
from pipeline.lake import engine
from pipeline.lake.faults import UnreadableError, of_query, refusals
from pipeline.lake.layout import Lake, LakeError
from pipeline.marts.rebuild import rebuild_damaged
from pipeline.model.schema import (
    AS_OF_MEANING,
    COUNTING,
    COVERAGE_DAYS,
    COVERAGE_SLOTS,
    DELIVERY_ANOMALIES,
    DELIVERY_DAILY,
    DELIVERY_HOURLY,
    DELIVERY_MONTHLY,
    DELIVERY_READINGS,
    DELIVERY_TABLES,
    DELIVERY_WEEKLY,
    LAKE_TABLES,
    MARTS,
    PLAIN_MARTS,
    PUBLISHED,
    PUBLISHED_CURVE,
    WAREHOUSE_VIEWS,
    Table,
)
from pipeline.outputs import collected, counting, views
from pipeline.outputs.collected import SCANNED, SUMMED, Versions
from pipeline.outputs.published import has_writer, write_ahead_log

log = logging.getLogger(__name__)

AS_OF: Final = "operations_as_of"

_STORAGE_VERSION: Final = "v1.4.0"
"""The oldest format whose write-ahead log names its database. DuckDB 1.4 and later read it, and never replay
the log of another file on it."""

ANOMALY_DAYS: Final = 28
"""The number of days before a day that its expected rates are computed from."""

ANOMALY_FEWEST_DAYS: Final = 14
"""The least number of them that must be known."""

ANOMALY_WIDTH: Final = 4
"""The band's half width in standard deviations: less than one of 10,000 usual days is outside."""

_COUNTED: Final = ("slot_counts", "calendar")
"""The tables that the warehouse's delivery tables take from the coverage."""

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
_PERIODS: Final = {
    DELIVERY_WEEKLY: ("delivery_periods", "week"),
    DELIVERY_MONTHLY: ("delivery_periods", "month"),
}
_ANOMALIES = {
    "days_before": str(ANOMALY_DAYS),
    "fewest_days": str(ANOMALY_FEWEST_DAYS),
    "width": str(ANOMALY_WIDTH),
}


def publish(lake: Lake, *, force: bool = True) -> bool:
    """Build ``warehouse.duckdb`` from the lake and rename it over the old one.

    Damaged derived files are derived again first.

    Args:
        lake: the archive.
        force: build even if none of the warehouse's inputs have changed since the last publish.

    Returns:
        Whether it was built.

    Raises:
        LakeError: DuckDB can't read a file of the lake; the old warehouse is kept.
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
        noted = collected.noted(lake) if lake.warehouse.exists() else {}
        # Read before the build: a file that changes during it makes the next publish build again.
        found = {table: collected.versions(lake, table) for table in (*MARTS, *SCANNED)}
        statements = list(_statements(lake))
        note = {
            "made_by": _fingerprint(statements),
            "versions": {
                table.name: {str(partition): one for partition, one in each.items()}
                for table, each in found.items()
            },
            "warehouse": noted.get("warehouse", {}),
        }
        if _was_written(lake, note) or force:
            noted = {**noted, "made_by": None}
        if noted == note:
            return False
        for table in set(MARTS) - set(SUMMED):
            # These are views; check their files now, so that damage is reported.
            known = noted.get("versions", {}).get(table.name, {})
            collected.check_changed(lake, table, found[table], known)
        if not _build(lake, found, statements, is_needed=not _is_same(noted, note)):
            lake.files.publish_file(_temporary_rows(lake), collected.rows_file(lake))
            _note(lake, note)
            return False
        note["warehouse"] = {_key(lake): _version(_temporary_warehouse(lake))}
        lake.files.discard(
            collected.note_file(lake)
        )  # it describes the files that are replaced now
        lake.files.publish_file(_temporary_rows(lake), collected.rows_file(lake))
        _remove_log(lake)
        lake.files.publish_file(_temporary_warehouse(lake), lake.warehouse)
        _remove_log(lake)
        _note(lake, note)
    about = {
        "event": "publish",
        "warehouse": str(lake.warehouse),
        "bytes": lake.warehouse.stat().st_size,
        "seconds": round(time.monotonic() - began, 6),
    }
    log.info("published %s", lake.warehouse, extra=about)
    return True


def _is_same(noted: Mapping[str, Any], note: Mapping[str, Any]) -> bool:
    """Whether nothing but the coverage has changed since the last publish."""
    return noted.get("made_by") == note["made_by"] and all(
        noted["versions"].get(table.name) == note["versions"][table.name] for table in SUMMED
    )


def _was_written(lake: Lake, note: Mapping[str, Any]) -> bool:
    """Whether another program wrote to the warehouse since it was published, or has it open for writing."""
    if not lake.warehouse.exists():
        return False
    version_now = _version(lake.warehouse)
    if note["warehouse"].get(_key(lake), version_now) == version_now and not has_writer(
        lake.warehouse
    ):
        return False
    log.warning(
        "another program wrote to %s, or has it open for writing: the file is replaced, without those "
        "changes. Open it read-only there, or write to a copy",
        lake.warehouse,
    )
    return True


def _key(lake: Lake) -> str:
    """The note's key for the version of the warehouse. It differs in an archive that was moved."""
    return str(lake.warehouse.absolute())


def _version(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _note(lake: Lake, note: Mapping[str, Any]) -> None:
    file = collected.note_file(lake)
    with lake.files.replacing(file, lake.temporary_file("published")) as target:
        target.write(json.dumps(note).encode())


def _remove_log(lake: Lake) -> None:
    """Remove another program's write-ahead log, which must not be replayed on the new warehouse.

    Called before and after the new file is renamed into place: a program that still has the old file open may
    create a log in between.
    """
    if (found := write_ahead_log(lake.warehouse)).exists():
        lake.files.remove(found)


def _temporary_rows(lake: Lake) -> Path:
    return lake.temporary_file("rows.duckdb")


def _temporary_warehouse(lake: Lake) -> Path:
    return lake.temporary_file("warehouse.duckdb")


def _build(
    lake: Lake,
    found: Mapping[Table, Versions],
    statements: Sequence[str],
    *,
    is_needed: bool,
) -> bool:
    """Build the collected rows and the warehouse in temporary files.

    Args:
        lake: the archive.
        found: the versions of the files to build from.
        statements: the statements that build the warehouse.
        is_needed: build the warehouse even if no slot's state has changed.

    Returns:
        Whether the warehouse was built too.
    """
    lake.files.make_folder(lake.spill.parent)
    lake.files.make_folder(collected.rows_file(lake).parent)

    def build() -> bool:
        _discard(lake)
        with engine.connect(spill=lake.spill) as connection:
            _attach(connection, _temporary_rows(lake), "collected")
            collected.collect(connection, lake, {t: found[t] for t in (*SUMMED, *SCANNED)})
            for statement in _counting_statements():
                connection.execute(statement)
            if not is_needed and _has_same_slots(connection, lake):
                return False
            _attach(connection, _temporary_warehouse(lake), "warehouse")
            connection.begin()
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.execute("CHECKPOINT")
        return True

    try:
        return engine.retry_torn_reads(build)
    except duckdb.Error as error:
        _discard(lake)  # the disk may be full
        raise _not_built(error) from error


def _attach(connection: duckdb.DuckDBPyConnection, file: Path, name: str) -> None:
    path, form = engine.literal(str(file)), engine.literal(_STORAGE_VERSION)
    connection.execute(f"ATTACH {path} AS {name} (STORAGE_VERSION {form})")
    connection.execute(f"USE {name}")
    # No write-ahead log: the file is not visible to readers yet.
    connection.execute("SET checkpoint_threshold = '0B'")


def _discard(lake: Lake) -> None:
    """Remove the temporary files and their write-ahead logs."""
    for file in (_temporary_rows(lake), _temporary_warehouse(lake)):
        lake.files.discard(file)
        lake.files.discard(write_ahead_log(file))


def _counting_statements() -> Iterator[str]:
    """The statements that count the slots of each day by state, with a temporary table of all slots."""
    slots = views.coverage_slots(engine.sql("pipeline.outputs", "last_scans"))
    yield f"CREATE TEMP TABLE slots AS {slots}"
    for name in _COUNTED:
        yield f"CREATE TABLE {name} AS {engine.sql('pipeline.outputs', name)}"


def _has_same_slots(connection: duckdb.DuckDBPyConnection, lake: Lake) -> bool:
    """Whether the slots have the same states as at the last publish.

    A scan without new operations can make a slot final, but most do not.
    """
    try:
        kept = engine.literal(str(collected.rows_file(lake).absolute()))
        connection.execute(f"ATTACH {kept} AS kept (READ_ONLY)")
        return not any(
            connection.sql(f"(FROM {one}.{name} EXCEPT FROM {other}.{name}) LIMIT 1").fetchall()
            for name in _COUNTED
            for one, other in (("collected", "kept"), ("kept", "collected"))
        )
    except duckdb.Error:
        return False


def _statements(lake: Lake) -> Iterator[str]:
    """The statements that build the warehouse from the database ``collected`` and the table ``slots``."""
    # DuckDB lists a view's files for each view created on top of it, so views of no rows are created first.
    for table in LAKE_TABLES:
        yield _view(table, views.nothing(table))
    yield f"CREATE MACRO {AS_OF}(ts) AS TABLE {views.operations_as_of()}"
    yield f"COMMENT ON MACRO TABLE {AS_OF} IS {engine.literal(AS_OF_MEANING)}"
    yield _view(COVERAGE_SLOTS, views.coverage_slots(engine.sql("pipeline.outputs", "last_scans")))
    yield _view(COVERAGE_DAYS, engine.sql("pipeline.outputs", "coverage_days"))
    yield _completeness()
    yield from _filled(
        COUNTING, engine.render(engine.sql("pipeline.outputs", "counting"), **counting.PARTS)
    )
    for table in DELIVERY_TABLES:
        name, period = _PERIODS.get(table, (table.name, ""))
        summed = engine.render(engine.sql("pipeline.outputs", name), period=period, **_COLUMNS)
        yield f"CREATE OR REPLACE TEMP VIEW summed AS {summed}"
        yield from _filled(table, engine.sql("pipeline.outputs", "rates"))
    yield _view(DELIVERY_READINGS, engine.sql("pipeline.outputs", DELIVERY_READINGS.name))
    anomalies = engine.sql("pipeline.outputs", DELIVERY_ANOMALIES.name)
    yield from _filled(DELIVERY_ANOMALIES, engine.render(anomalies, **_ANOMALIES))
    yield _view(PUBLISHED_CURVE, views.delivery_curve(lake))
    for table in (*LAKE_TABLES, *PLAIN_MARTS):
        yield _view(table, views.select(lake, table))
    for table in PUBLISHED:
        yield from _comments(table)


def _view(table: Table, query: str) -> str:
    """A view with the columns of the schema, in its order. A missing column is an error."""
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    typed = engine.render(engine.sql("pipeline.outputs", "columns"), columns=columns, query=query)
    return f"CREATE OR REPLACE VIEW {table.name} AS {typed}"


def _completeness() -> str:
    """A temporary macro that computes a period's completeness from its slots in each state."""
    body = engine.sql("pipeline.outputs", "completeness")
    return f"CREATE TEMP MACRO completeness(finals, closed, changing, gaps, before_archive) AS ({body})"


def _filled(table: Table, query: str) -> Iterator[str]:
    """A table with the columns of the schema, filled by a query. A missing column is an error."""
    columns = ", ".join(
        f"{c.name} {c.sql_type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns
    )
    yield f"CREATE TABLE {table.name} ({columns})"
    names = ", ".join(c.name for c in table.columns)
    rows = engine.render(engine.sql("pipeline.outputs", "columns"), columns=names, query=query)
    yield f"INSERT INTO {table.name} BY NAME {rows}"


def _comments(table: Table) -> list[str]:
    kind = "VIEW" if table in WAREHOUSE_VIEWS else "TABLE"
    return [
        f"COMMENT ON {kind} {table.name} IS {engine.literal(table.comment)}",
        *(
            f"COMMENT ON COLUMN {table.name}.{column.name} IS {engine.literal(column.comment)}"
            for column in table.published
        ),
    ]


def _fingerprint(statements: Sequence[str]) -> str:
    """A hash of this version and of the SQL, which contains the archive's path."""
    made_by = (version.installed(), _STORAGE_VERSION, *_counting_statements(), *statements)
    return hashlib.sha256("\n".join(made_by).encode()).hexdigest()


def _not_built(error: duckdb.Error) -> LakeError:
    found = of_query(error)
    text = f"the warehouse can't be built, the old one stays: {found or error}"
    return UnreadableError(text) if found else LakeError(text)
