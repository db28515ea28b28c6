"""The SQL of the lake: its statements and the rule R3, filled in with the columns of schema.py."""

import glob
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

from pipeline.lake import engine, parquet
from pipeline.model.schema import HISTORY, SETTLED_STATUSES, Column, Table
from pipeline.model.windows import RETENTION, SLOT

_MICROSECOND: Final = timedelta(microseconds=1)
_MOMENTS: Final = ("observed_at", "looked_up_at")
_STATE: Final = tuple(name for name in HISTORY.names if name not in _MOMENTS)


def listed(names: Iterable[str]) -> str:
    """Names as a list of columns."""
    return ", ".join(names)


@cache
def statement(name: str, **parts: str) -> str:
    """A statement on history and operations, with the columns and the caller's `parts` filled in."""
    return engine.render(engine.sql("pipeline.lake", name), **_COLUMNS, **parts)


@cache
def small_table(table: Table) -> str:
    """The statement that merges `new` rows of a table into the `known` ones."""
    return engine.render(engine.sql("pipeline.lake", table.name), columns=listed(table.names))


def part(table: Table, file: Path) -> str:
    """A query for the rows of a table's file, with the columns of schema.py; no rows if there is no file.

    Raises:
        LakeError: the file is damaged, or is not of this table.
    """
    found = parquet.check(file, table.arrow)
    if found is None:
        return no_rows(table)
    stored = parquet.stored_names(found)
    columns = listed(
        f"{stored[c.name]} AS {c.name}" if c.name in stored else _null(c) for c in table.columns
    )
    # Wildcards in the path are escaped.
    literal = engine.literal(glob.escape(str(file.absolute())))
    return engine.render(engine.sql("pipeline.lake", "part"), columns=columns, file=literal)


def comparison() -> str:
    """A query that compares the states that the API has just `listed` with those in the archive, `seen`."""
    both = "(FROM seen UNION ALL BY NAME FROM listed)"
    return statement(
        "comparison",
        known_states=statement("distinct_states", observations="seen"),
        merged_states=statement("distinct_states", observations=both),
        known=statement("newest", states="known_states"),
        merged=statement("newest", states="merged_states"),
        merged_is_known=_same(_STATE[1:], "merged", "known"),
    )


def no_rows(table: Table) -> str:
    """A query that returns no rows, with the columns of a table."""
    return f"SELECT {listed(map(_null, table.columns))} WHERE false"


def _null(column: Column) -> str:
    return f"NULL::{column.sql_type} AS {column.name}"


def newest_first(rest: Iterable[str] = _STATE) -> str:
    """The order of an operation's states, the newest first (R3).

    Args:
        rest: the columns that decide last: those of the states, or the available ones of them.
    """
    return engine.render(
        engine.sql("pipeline.lake", "newest_first"),
        deadline_us=_deadline_us("created_at"),
        rest=listed(
            f"{name} DESC NULLS LAST" for name in rest if name not in ("operation_id", "updated_at")
        ),
    )


def _deadline_us(created_at: str) -> str:
    return engine.render(
        engine.sql("pipeline.lake", "deadline_us"),
        created_at=created_at,
        slot_us=str(SLOT // _MICROSECOND),
        retention_us=str(RETENTION // _MICROSECOND),
    )


def _same(names: Iterable[str], left: str, right: str) -> str:
    """A condition: two rows are equal in some columns; NULL equals NULL."""
    return " AND ".join(f"{left}.{name} IS NOT DISTINCT FROM {right}.{name}" for name in names)


_COLUMNS: Final = {
    "typed_columns": listed(f"{c.name} {c.sql_type}" for c in HISTORY.columns),
    "columns": listed(HISTORY.names),
    "state": listed(_STATE),
    "same_state": _same(_STATE[1:], "operations", "landed"),
    "same_row": _same(HISTORY.names[1:], "operations", "newest"),
    "deadline_us": f"({_deadline_us('created_at')})",
    "known_deadline_us": _deadline_us("operations.created_at"),
    "rest": listed(name for name in _STATE if name not in ("operation_id", "updated_at")),
    "newest_first": newest_first(),
    "settled_statuses": listed(map(engine.literal, SETTLED_STATUSES)),
}
