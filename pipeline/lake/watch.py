"""What is to be asked about by id, as a pure function of a day's operations and of what was asked."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.schema import SETTLED_STATUSES, WATCHED


def watched(operations: pa.Table, lookups: pa.Table) -> pa.Table:
    """What is to be asked by id: the operations that are not settled, and failures without errors.

    An operation that the API answered with 404 is asked about no more. The errors of an operation are
    asked for until they are answered, once for each count of failed emails.

    Args:
        operations: the newest states, as `schema.OPERATIONS`.
        lookups: what was asked, as `schema.LOOKUPS`.

    Returns:
        `schema.WATCHED`.
    """
    is_settled = pc.and_(
        pc.is_in(operations["status"], value_set=pa.array(SETTLED_STATUSES)),
        pc.equal(_count(operations, "scheduled"), 0),
    )
    is_settled = pc.and_(is_settled, pc.equal(_count(operations, "queued"), 0))
    has_failed = pc.greater(_count(operations, "failed"), 0)
    is_open = pc.invert(is_settled)
    of_states = lookups.filter(pc.equal(lookups["subject"], "operation"))
    gone = of_states.filter(of_states["gone_at"].is_valid())["operation_id"].combine_chunks()
    open_ones = operations.filter(
        pc.and_(is_open, pc.invert(pc.is_in(operations["operation_id"], value_set=gone)))
    )
    of_errors = lookups.filter(pc.equal(lookups["subject"], "errors"))
    answered = _failure(of_errors.filter(of_errors["refusal"].is_null())).combine_chunks()
    failures = operations.filter(has_failed)
    failures = failures.filter(pc.invert(pc.is_in(_failure(failures), value_set=answered)))
    open_asked = _last_asked(of_states["operation_id"], of_states, open_ones["operation_id"])
    failures_asked = _last_asked(_failure(of_errors), of_errors, _failure(failures))
    return pa.concat_tables(
        [
            _to_watch(open_ones, "operation", open_asked),
            _to_watch(failures, "errors", failures_asked),
        ]
    )


def _failure(rows: pa.Table) -> pa.ChunkedArray:
    """An operation with its failed emails, as one text."""
    failed = pc.fill_null(pc.cast(rows["failed"], pa.string()), "")
    return pc.binary_join_element_wise(rows["operation_id"], failed, " ")


def _last_asked(
    asked: pa.ChunkedArray, lookups: pa.Table, wanted: pa.ChunkedArray
) -> pa.ChunkedArray:
    """When each of the wanted questions was asked last; NULL if it never was."""
    keyed = pa.table({"question": asked, "asked_at": lookups["asked_at"]})
    latest = keyed.group_by("question", use_threads=False).aggregate([("asked_at", "max")])
    return latest["asked_at_max"].take(
        pc.index_in(wanted, value_set=latest["question"].combine_chunks())
    )


def _to_watch(rows: pa.Table, subject: str, asked_at: pa.ChunkedArray) -> pa.Table:
    columns = {name: rows[name] for name in WATCHED.names if name in rows.schema.names}
    columns["subject"] = pa.repeat(subject, rows.num_rows)
    columns["asked_at"] = asked_at
    return pa.table([columns[name] for name in WATCHED.names], schema=WATCHED.arrow)


def _count(operations: pa.Table, name: str) -> pa.ChunkedArray:
    return pc.fill_null(operations[name], 0)
