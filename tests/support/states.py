"""R1 and R3 once more, in plain Python: which states there are among some sightings, and the newest."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pipeline.model.schema import COUNT_NAMES, HISTORY
from pipeline.model.windows import deadline

Row = dict[str, Any]
_MOMENTS = ("observed_at", "looked_up_at")


def distinct(sightings: Iterable[Row]) -> list[Row]:
    """Each state once, with the first moment of either kind; by operation, as they came about."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in sightings:
        key = tuple(row[name] for name in HISTORY.names if name not in _MOMENTS)
        known = found.setdefault(key, dict(row))
        known["observed_at"] = min(known["observed_at"], row["observed_at"])
        looked_up = [one["looked_up_at"] for one in (known, row) if one["looked_up_at"]]
        known["looked_up_at"] = min(looked_up, default=None)
    for row in found.values():
        if row["observed_at"] < deadline(row["created_at"]):
            row["looked_up_at"] = None
    return sorted(found.values(), key=_came_about)


def newest(states: Iterable[Row]) -> list[Row]:
    """The newest state of each operation, by operation: pairs are compared until one is left."""
    found: dict[str, Row] = {}
    for row in states:
        known = found.get(row["operation_id"])
        if known is None or replaces(row, known):
            found[row["operation_id"]] = row
    return [found[one] for one in sorted(found)]


def replaces(later: Row, earlier: Row) -> bool:
    """Whether a state is newer than another one of its operation."""
    if later["updated_at"] != earlier["updated_at"]:
        return bool(later["updated_at"] > earlier["updated_at"])
    new, old = complete_at(later), complete_at(earlier)
    if new != old:
        return old is None or (new is not None and new > old)
    if later["observed_at"] != earlier["observed_at"]:
        return bool(later["observed_at"] < earlier["observed_at"])
    names = ("status", *COUNT_NAMES, "created_at", "extra")
    for mine, other in ((later[name], earlier[name]) for name in names):
        if mine != other:
            return other is None or (mine is not None and mine > other)
    return False


def complete_at(state: Row) -> datetime | None:
    """When a complete answer had it: one before the deadline, or to a fetch by id."""
    is_late = state["observed_at"] >= deadline(state["created_at"])
    moment: datetime | None = state["looked_up_at"] if is_late else state["observed_at"]
    return moment


def as_known(state: Row, moment: datetime) -> Row:
    """A state as it was known at a moment: what was fetched by id later was not fetched yet."""
    looked_up_at = state["looked_up_at"]
    was_looked_up = looked_up_at is not None and looked_up_at <= moment
    return state | {"looked_up_at": looked_up_at if was_looked_up else None}


def _came_about(state: Row) -> tuple[Any, ...]:
    rest = (state[name] for name in HISTORY.names if name not in _MOMENTS)
    first = (state["operation_id"], state["updated_at"], state["observed_at"])
    return (*first, *((value is None, 0 if value is None else value) for value in rest))
