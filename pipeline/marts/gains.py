"""What each state of an operation added to what was known of it: the way to its delivery curve.

History has the distinct states and when each was first seen. A state counts if it was the newest one
known (R3) at that moment; what it adds is its counts less those of the newest one before it. Sums of
gains up to a moment are then sums over the operations as they were known at that moment.
"""

from datetime import timedelta
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import engine
from pipeline.lake.statements import listed, newest_first
from pipeline.schema import AGES, TIMESTAMP
from pipeline.windows import RETENTION, SLOT

_NEEDED: Final = ("delivered", "opened", "undelivered", "failed")
_ATTEMPTED: Final = ("total", "canceled", "scheduled", "queued")
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE_US: Final = 60_000_000
_SLOT_US: Final = SLOT // _MICROSECOND
_RETENTION_US: Final = RETENTION // _MICROSECOND

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GAINS_VERSION: Final = b"1"
"""To be raised with any change of what is derived here: then every day is derived anew."""


def gains(history: pa.Table, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """What each state added, when it was first seen.

    Args:
        history: states of whole operations, as `schema.HISTORY` and in its order; `extra` may lack.
        connection: an in-memory connection of `engine.connect` to work in.

    Returns:
        One row per state that was the newest known when it was first seen: ``created_at``, ``age_us``
        (how old the operation was), and what it added: ``operations``, ``rated_operations``,
        ``emails``, ``attempted``, ``delivered``, ``opened``, ``undelivered``, ``failed``. All but the
        first of the sums skip operations that lack a count which the rates need.
    """
    states = _as_they_came(history.combine_chunks(), connection)
    follows = _follows(states)
    rated = np.ones(states.num_rows, dtype=np.bool_)
    counts: dict[str, Ints] = {}
    for name in (*_NEEDED, *_ATTEMPTED):
        rated &= _flags(pc.is_valid(states[name]))
        counts[name] = _ints(pc.fill_null(states[name], 0))
    total, *waiting = (counts[name] for name in _ATTEMPTED)
    values = {
        "rated_operations": rated.astype(np.int64),
        "emails": total,
        "attempted": total - sum(waiting),
        **{name: counts[name] for name in _NEEDED},
    }
    added = {name: _added(value * rated, follows) for name, value in values.items()}
    age = _ints(states["observed_at"]) - _ints(states["created_at"])
    return pa.table(
        {
            "created_at": states["created_at"],
            "age_us": age,
            "operations": (~follows).astype(np.int64),
            **added,
        }
    )


def steps(gained: pa.Table) -> pa.Table:
    """What the states of each hour added from one age of `schema.AGES` to the next.

    Args:
        gained: what `gains` gave.

    Returns:
        One row per ``hour`` of creation and ``age_minutes``, the first age that the operations had not
        passed when the states were seen (NULL if they had passed all of them), with the sums.
    """
    created, age = _ints(gained["created_at"]), _ints(gained["age_us"])
    limits = np.array([minutes * _MINUTE_US for _, minutes in AGES])
    hour = created // _SLOT_US
    first = hour.min() if len(hour) else 0
    place = (hour - first) * (len(limits) + 1) + np.searchsorted(limits, age)
    cells = np.flatnonzero(np.bincount(place))
    sums = {
        # In doubles, which are exact for far more emails than there are.
        name: np.bincount(place, weights=gained[name].to_numpy())[cells]
        for name in gained.schema.names[2:]
    }
    minutes = pa.array([*(minutes for _, minutes in AGES), None], pa.int64())
    return pa.table(
        {
            "hour": pa.array((first + cells // (len(limits) + 1)) * _SLOT_US).cast(TIMESTAMP),
            "age_minutes": minutes.take(pa.array(cells % (len(limits) + 1))),
            **{name: values.astype(np.int64) for name, values in sums.items()},
        }
    )


def _follows(states: pa.Table) -> Bools:
    """For each state whether the one before it is of the same operation."""
    ids = states["operation_id"].combine_chunks()
    return np.concatenate(
        [np.zeros(min(1, len(ids)), np.bool_), _flags(pc.equal(ids[1:], ids[:-1]))]
    )


def _added(values: Ints, follows: Bools) -> Ints:
    """Each value less the one before it of the same operation."""
    if not follows.any():
        return values
    before = np.concatenate([values[:0], np.zeros(min(1, len(values)), np.int64), values[:-1]])
    return values - np.where(follows, before, 0)


def _as_they_came(history: pa.Table, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The states that were the newest known when they were first seen, in the order of their coming.

    That is history's own order, as long as newer states come later. Where a replica answered with an
    older one, or an answer came after the deadline, the operation's states are told apart one by one.
    """
    follows = _follows(history)
    seen, updated, created = (
        _ints(history[name]) for name in ("observed_at", "updated_at", "created_at")
    )
    is_late = seen >= created // _SLOT_US * _SLOT_US + _RETENTION_US
    odd = np.zeros(history.num_rows, dtype=np.bool_)
    is_tied = (updated[1:] == updated[:-1]) & (is_late[1:] | (seen[1:] == seen[:-1]))
    odd[1:] = (seen[1:] < seen[:-1]) | is_tied
    odd &= follows
    if not odd.any():
        return history
    operation = np.cumsum(~follows)
    is_odd = np.isin(operation, operation[odd])
    told = _told_apart(history.filter(pa.array(is_odd)), connection)
    return pa.concat_tables([history.filter(pa.array(~is_odd)), told]).combine_chunks()


def _told_apart(history: pa.Table, connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The same, for any states."""
    names = history.schema.names
    query = engine.render(
        engine.sql("pipeline.marts", "as_they_came"),
        columns=listed(names),
        newest_first=newest_first([n for n in names if n not in ("observed_at", "looked_up_at")]),
    )
    connection.register("odd_states", history)
    try:
        return connection.sql(query).to_arrow_table().cast(history.schema)
    finally:
        connection.unregister("odd_states")


def _ints(values: pa.ChunkedArray) -> Ints:
    return np.asarray(pc.cast(values, pa.int64()).to_numpy(), dtype=np.int64)


def _flags(values: pa.Array | pa.ChunkedArray) -> Bools:
    found = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    return np.asarray(found.to_numpy(), dtype=np.bool_)
