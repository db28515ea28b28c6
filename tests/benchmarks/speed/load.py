"""The operations of the benchmark: a week of the emulator's world, as Arrow tables and as JSON.

The same number of operations is always the same operations. There are two kinds: in the emulator's world
most operations are one email; in the varied kind every operation has counts of its own. The truth that
results are checked against is taken from here too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.emulator.world import World
from pipeline.model.schema import COUNT_NAMES, OPERATIONS, TIMESTAMP
from pipeline.model.windows import RETENTION

SEED: Final = 1
NOW: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
"""What the API's clock shows."""

VARIED: Final = "each with counts of its own"
KINDS: Final = ("most of one email", VARIED)
"""The two kinds of accounts that are measured."""

_CHUNK: Final = 50_000


@dataclass(frozen=True, slots=True)
class Truth:
    """What any archive of the load has to hold.

    Attributes:
        operations: how many there are; their ids are distinct.
        sums: of each count.
    """

    operations: int
    sums: dict[str, int]


def world(operations: int) -> World:
    """A world with at least so many operations in the 7 days up to `NOW`."""
    return World(SEED, operations / RETENTION.days * 1.06, NOW - RETENTION)


def columns(operations: int, at: datetime = NOW, *, varied: bool = False) -> Iterator[pa.Table]:
    """The first so many operations as they are at a moment, in pieces, without `observed_at`, `extra`."""
    of = world(operations)
    for begin in range(0, operations, _CHUNK):
        numbers = np.arange(begin, min(begin + _CHUNK, operations))
        table = to_table(of, numbers, at)
        yield with_own_counts(table, begin) if varied else table


def with_own_counts(table: pa.Table, seed: int) -> pa.Table:
    """The same operations with up to 10,000 times the recipients, each with counts of its own."""
    chance = np.random.default_rng(seed)
    times = chance.integers(1, 10_001, table.num_rows)
    counts = {name: table[name].to_numpy() * times for name in COUNT_NAMES}
    lost = (counts["delivered"] * chance.uniform(0, 0.2, table.num_rows)).astype(np.int64)
    counts["delivered"] -= lost
    counts["undelivered"] += lost
    opened = np.minimum(counts["opened"], counts["delivered"])
    counts["opened"] = (opened * chance.uniform(size=table.num_rows)).astype(np.int64)
    for name, values in counts.items():
        table = table.set_column(table.schema.names.index(name), name, pa.array(values))
    return table


def to_table(of: World, numbers: np.ndarray, at: datetime) -> pa.Table:
    """Operations of a world as `schema.OPERATIONS`, without `observed_at` and `extra`."""
    found = of.columns(numbers, at)
    arrays = {}
    for name in OPERATIONS.names:
        if name in found:
            array = pa.array(found[name])
            arrays[name] = array.cast(TIMESTAMP) if name.endswith("_at") else array
    return pa.table(arrays)


def truth(tables: Iterator[pa.Table]) -> Truth:
    """Counts and sums of a load."""
    operations, sums = 0, dict.fromkeys(COUNT_NAMES, 0)
    for table in tables:
        operations += table.num_rows
        for name in COUNT_NAMES:
            sums[name] += pc.sum(table[name]).as_py()
    return Truth(operations, sums)


def json_records(table: pa.Table) -> pa.Array:
    """Each operation as the JSON record that the API sends, with a comma behind it."""

    def texts(name: str) -> pa.Array:
        return pc.cast(table[name].combine_chunks(), pa.string())

    def times(name: str) -> pa.Array:
        whole = pc.cast(table[name].combine_chunks(), pa.timestamp("s", tz="UTC"))
        return pc.strftime(whole, format="%Y-%m-%dT%H:%M:%SZ")

    parts: list[pa.Array | str] = [
        '{"id":"',
        texts("operation_id"),
        '","status":"',
        texts("status"),
    ]
    for place, name in enumerate(COUNT_NAMES):
        parts += ['","stats":{"' if place == 0 else ',"', f'{name}":', texts(name)]
    parts += ['},"createdAt":"', times("created_at"), '","updatedAt":"', times("updated_at"), '"},']
    return pc.binary_join_element_wise(
        *(pa.scalar(part) if isinstance(part, str) else part for part in parts), pa.scalar("")
    )


def days() -> list[date]:
    """The days of the load, which are those that a first sync asks for."""
    first = (NOW - RETENTION).date()
    return [date.fromordinal(first.toordinal() + n) for n in range(RETENTION.days + 1)]
