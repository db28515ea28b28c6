"""Unions of a table's known rows with landed ones, each row once and in one total order (R5)."""

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.schema import LOOKUPS, OPERATION_ERRORS, REJECTS

_REJECTED: Final = tuple(n for n in REJECTS.names if n not in ("observed_at", "scan_id"))


def distinct_rejects(known: pa.Table, landed: pa.Table) -> pa.Table:
    """All records that could not be read, each once, with the scan that it first came in."""
    rows = pa.concat_tables([known, landed])
    first = first_of_each(rows, _REJECTED, then=("observed_at", "scan_id"))
    return sorted_by(first, ("raw", "reason", *_REJECTED))


def with_new_scans(known: pa.Table, landed: pa.Table) -> pa.Table:
    """Coverage with the scans that are new: one folded before, whose file stayed, counts once."""
    is_known = pc.is_in(landed["scan_id"], value_set=known["scan_id"].combine_chunks())
    rows = pa.concat_tables([known, landed.filter(pc.invert(is_known))])
    return sorted_by(rows, ("observed_at", "scan_id"))


def distinct_lookups(known: pa.Table, landed: pa.Table) -> pa.Table:
    """All questions about single operations, each once."""
    rows = pa.concat_tables([known, landed])
    first = first_of_each(rows, LOOKUPS.names, then=())
    return sorted_by(first, ("operation_id", "asked_at", *LOOKUPS.names))


def distinct_errors(known: pa.Table, landed: pa.Table) -> pa.Table:
    """All errors, each once with the moment when it first came and the most that came at once."""
    rows = pa.concat_tables([known, landed])
    key = ["operation_id", "code", "message", "raw"]
    merged = rows.group_by(key, use_threads=False).aggregate(
        [("occurrences", "max"), ("observed_at", "min")]
    )
    names = {"occurrences_max": "occurrences", "observed_at_min": "observed_at"}
    merged = merged.rename_columns([names.get(name, name) for name in merged.schema.names])
    ordered = sorted_by(merged, ("operation_id", "observed_at", "raw", "code", "message"))
    return ordered.select(OPERATION_ERRORS.names).cast(OPERATION_ERRORS.arrow)


def first_of_each(rows: pa.Table, key: Sequence[str], then: Sequence[str]) -> pa.Table:
    """The first row, in the order of `then`, of those that are equal in all of `key`."""
    ordered = sorted_by(rows, (*key, *then)).combine_chunks()
    return ordered.filter(differs_from_previous(ordered, key))


def sorted_by(rows: pa.Table, order: Iterable[str]) -> pa.Table:
    """Rows in the order of some columns; a column that comes twice counts once."""
    unique = dict.fromkeys(order)
    return rows.sort_by([(name, "ascending") for name in unique])


def differs_from_previous(rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """For each row whether it differs from the one before it in any of `columns`."""
    if rows.num_rows == 0:
        return pa.array([], pa.bool_())
    differs = pa.chunked_array([pa.repeat(pa.scalar(value=False), rows.num_rows - 1)])
    for name in columns:
        differs = pc.or_(
            differs, unequal_rows(rows[name].slice(1), rows[name].slice(0, len(rows) - 1))
        )
    return pa.concat_arrays([pa.array([True]), *differs.chunks])


def unequal_rows(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether two columns differ row by row; NULL equals NULL."""
    unequal = pc.not_equal(left, right)
    if not left.null_count and not right.null_count:
        return unequal
    one_is_null = pc.not_equal(pc.is_null(left), pc.is_null(right))
    return pc.or_(pc.fill_null(unequal, fill_value=False), one_is_null)
