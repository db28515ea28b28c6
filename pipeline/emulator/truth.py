"""Comparison of an archive with the emulated world that it was made from."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from pipeline.emulator.world import World
from pipeline.model.schema import COUNT_NAMES
from pipeline.model.windows import RETENTION

_STATE = ("status", *COUNT_NAMES, "updated_at")


def differences(
    world: World, operations: pa.Table, first: datetime, observed: Sequence[datetime]
) -> list[str]:
    """The differences between an archive and what it should have.

    An operation's state must be that of the last scan within its 7 days, or a strictly newer one from a
    later response.

    Args:
        world: the expected operations.
        operations: the archive's operations of one account, as `schema.OPERATIONS`.
        first: operations created from then on are expected.
        observed: the moments of complete scans, ascending; the clock stood still during each.

    Returns:
        One line per operation that is missing, unexpected, duplicated or different; empty if there is none.
    """
    archived = {
        row["operation_id"]: row
        for row in operations.select(["operation_id", "observed_at", *_STATE]).to_pylist()
    }
    problems = []
    if len(archived) != operations.num_rows:
        problems.append(f"{operations.num_rows - len(archived)} operations are duplicated")
    expected = 0
    numbers = np.arange(world.numbers(first, observed[-1]).start, world.existing(observed[-1]).stop)
    created = world.columns(numbers, observed[-1])["created_at"]
    moments = np.array([moment.replace(tzinfo=None) for moment in observed], dtype="datetime64[us]")
    last = np.searchsorted(moments, created + np.timedelta64(RETENTION)) - 1
    for index in np.unique(last):
        if moments[index] < created[last == index].min():
            continue  # never scanned within their retention
        truth = _states(world, numbers[last == index], observed[index])
        expected += len(truth)
        for operation_id, state in truth.items():
            row = archived.get(operation_id)
            if row is None:
                problems.append(f"{operation_id} is missing")
            elif row["updated_at"] > state["updated_at"]:
                number = world.number_of(operation_id)
                newer = _states(world, np.array([number]), row["observed_at"])[operation_id]
                problems += _unlike(operation_id, row, newer)
            else:
                problems += _unlike(operation_id, row, state)
    if len(archived) > expected:
        problems.append(
            f"{len(archived) - expected} operations are in the archive and not in the world"
        )
    return problems


def _unlike(operation_id: str, row: dict[str, object], state: dict[str, object]) -> list[str]:
    unlike = [f"{n} {row[n]}, not {state[n]}" for n in _STATE if row[n] != state[n]]
    return [f"{operation_id} has {'; '.join(unlike)}"] if unlike else []


def _states(
    world: World, numbers: "np.ndarray[tuple[int], np.dtype[np.int64]]", at: datetime
) -> dict[str, dict[str, object]]:
    """The state of each operation at that moment, by id."""
    columns = world.columns(numbers, at)
    times = [moment.replace(tzinfo=UTC) for moment in columns["updated_at"].tolist()]
    lists = [columns[name].tolist() for name in _STATE[:-1]]
    return {
        operation_id: dict(zip(_STATE, state, strict=True))
        for operation_id, *state in zip(
            columns["operation_id"].tolist(), *lists, times, strict=True
        )
    }
