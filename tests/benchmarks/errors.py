"""How far an archive was from the truth, over time and at the end.

The truth is the emulator's world at any moment; the archive's value is the truth at the last scan that
found the operation, and 0 before the first one. Counts only grow, so an error is what is missing.

While an operation lives, its error is integrated over a grid of moments by trapezoids between scans,
on a sample of the operations: most emails belong to few operations, so that an operation is taken with
a chance in proportion to its emails, and weighed by the inverse. What the archive has at the end, and
what it lost, is counted on every operation.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.emulator.chance import Floats, Ints, chances
from pipeline.emulator.world import World
from pipeline.model.windows import DAY, RETENTION
from tests.benchmarks.model import Seen

MEASURES: Final = ("delivered", "opened")
GRID: Final = timedelta(minutes=5)
"""Every tick of every policy lies on it."""

_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = timedelta(seconds=1)
_NOW: Final = timedelta()
_SAMPLE_SEED: Final = 7
_CHUNK: Final = 50_000
_NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Errors:
    """One policy's errors. Pairs are deliveries and opens missing, per operation.

    Attributes:
        young: mean over time, of operations under 24 hours old.
        alive: mean over time, of operations under 7 days old.
        final: mean at the last minute in which the API could tell of an operation.
        equal: the share of operations that had no error then, in either count.
        first_seen: minutes from an operation's creation to the first scan that found it, on average.
        last_seen: hours from the last scan that found it to the end of its 7 days, at the most.
        lost: operations that no scan found within their 7 days.
        ended: operations whose 7 days ended in the measured days.
    """

    young: tuple[float, float]
    alive: tuple[float, float]
    final: tuple[float, float]
    equal: float
    first_seen: float
    last_seen: float
    lost: int
    ended: int


@dataclass(frozen=True, slots=True)
class Population:
    """Every operation of a world up to a moment: place n holds number n."""

    world: World
    created: Ints
    """Seconds since the world's start."""
    emails: Ints

    @classmethod
    def of(cls, world: World, until: datetime) -> "Population":
        """All that exist at a moment, read in pieces that fit in little memory."""
        count = world.existing(until).stop
        created, emails = np.empty(count, np.int64), np.empty(count, np.int64)
        for begin in range(0, count, _CHUNK):
            piece = slice(begin, min(begin + _CHUNK, count))
            columns = world.columns(np.arange(piece.start, piece.stop), until)
            start = np.datetime64(world.start.replace(tzinfo=None))
            created[piece] = (columns["created_at"] - start) // np.timedelta64(1, "s")
            emails[piece] = columns["total"]
        return cls(world, created, emails)

    def first(self, bound: datetime) -> int:
        """The first number that was created at a moment or later."""
        return int(np.searchsorted(self.created, (bound - self.world.start) // _SECOND))

    def found(self, seen: Seen) -> slice:
        """The numbers that a scan found."""
        return slice(self.first(seen.start), self.first(min(seen.end, seen.at)))

    def sample(self, size: int) -> tuple[Ints, Floats]:
        """About so many numbers, rising, and how many operations each of them stands for."""
        numbers = np.arange(len(self.emails))
        chance = np.minimum(self.emails * (size / self.emails.sum()), 1.0)
        taken = numbers[chances(_SAMPLE_SEED, numbers) < chance]
        return taken, 1 / chance[taken]


def measure(
    population: Population,
    scans: Sequence[Sequence[Seen]],
    first: datetime,
    last: datetime,
    sample: int,
) -> list[Errors]:
    """Each policy's errors over ``[first, last)``.

    Args:
        population: the truth, up to `last` at least.
        scans: what each policy's scans found from the world's start to `last`, in order of time.
        first: when measuring begins: 7 days or more after the world's start.
        last: when it ends.
        sample: about how many operations to follow over time.
    """
    young, alive = _over_time(population, scans, first, last, sample)
    numbers = np.arange(population.first(first - RETENTION), population.first(last - RETENTION))
    created = population.created[numbers]
    ends = created + RETENTION // _SECOND
    truth = _values(population.world, numbers, (ends - 1) // 60)
    errors = []
    for place, seen in enumerate(scans):
        newest = _minutes(population, seen, numbers)
        oldest = _minutes(population, reversed(seen), numbers)
        is_lost = newest == _NEVER
        missing = truth - _values(population.world, numbers, newest)
        errors.append(
            Errors(
                young=_pair(young[place]),
                alive=_pair(alive[place]),
                final=_pair(missing.mean(axis=1)),
                equal=float((missing == 0).all(axis=0).mean()),
                first_seen=float((oldest - created / 60)[~is_lost].mean()),
                last_seen=float((ends / 3600 - newest / 60)[~is_lost].max()),
                lost=int(is_lost.sum()),
                ended=len(numbers),
            )
        )
    return errors


def _pair(values: npt.NDArray[Any]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _over_time(
    population: Population,
    scans: Sequence[Sequence[Seen]],
    first: datetime,
    last: datetime,
    size: int,
) -> tuple[Floats, Floats]:
    """Mean error over time of operations under a day, and under 7 days: policies by measures."""
    world = population.world
    numbers, weights = population.sample(size)
    queues = [deque(seen) for seen in scans]
    known = np.zeros((len(scans), len(MEASURES), len(numbers)))
    for place, queue in enumerate(queues):
        before = list(_until(queue, first))
        known[place] = _values(world, numbers, _minutes(population, before, numbers))

    missing, lifetime = np.zeros((2, len(scans), len(MEASURES))), np.zeros(2)
    steps = (last - first) // GRID
    for step in range(steps + 1):
        now = first + step * GRID
        week_old, day_old, newest = (population.first(now - age) for age in (RETENTION, DAY, _NOW))
        living = slice(*np.searchsorted(numbers, (week_old, newest)))
        young = slice(np.searchsorted(numbers, day_old) - living.start, None)
        truth = _counts(world, numbers[living], now)
        # A view: what is written here is known from now on.
        here = known[:, :, living]

        if step > 0:
            missing += _missing(truth, here, weights[living], young) / 2
        for place, queue in enumerate(queues):
            for seen in _until(queue, now):
                found = _places(population, seen, numbers[living])
                here[place, :, found] = truth[:, found]
        if step < steps:
            missing += _missing(truth, here, weights[living], young) / 2
        share = 1 / 2 if step in (0, steps) else 1
        lifetime += share * np.array([newest - day_old, newest - week_old])
    return missing[0] / lifetime[0], missing[1] / lifetime[1]


def _missing(truth: Ints, known: Floats, weights: Floats, young: slice) -> Floats:
    """What is missing at a moment, of the young and of all: by policies and measures."""
    by_operation = (truth - known) * weights
    return np.stack([by_operation[:, :, young].sum(axis=2), by_operation.sum(axis=2)])


def _until(queue: deque[Seen], now: datetime) -> Iterator[Seen]:
    """Take from a queue what was seen up to `now`."""
    while queue and queue[0].at <= now:
        yield queue.popleft()


def _places(population: Population, seen: Seen, numbers: Ints) -> slice:
    """Which of some rising numbers a scan found."""
    found = population.found(seen)
    return slice(*np.searchsorted(numbers, (found.start, found.stop)).tolist())


def _minutes(population: Population, scans: Iterable[Seen], numbers: Ints) -> Ints:
    """For each number, the minute since the world's start of the last of these scans that found it."""
    minutes = np.full(len(numbers), _NEVER, dtype=np.int64)
    for seen in scans:
        minutes[_places(population, seen, numbers)] = (seen.at - population.world.start) // _MINUTE
    return minutes


def _values(world: World, numbers: Ints, minutes: Ints) -> Ints:
    """Both counts of each number at a minute of its own since the world's start; 0 if that is never."""
    values = np.zeros((len(MEASURES), len(numbers)), dtype=np.int64)
    order = np.argsort(minutes, kind="stable")
    moments, begins = np.unique(minutes[order], return_index=True)
    for minute, places in zip(moments.tolist(), np.split(order, begins[1:]), strict=True):
        if minute != _NEVER:
            values[:, places] = _counts(world, numbers[places], world.start + minute * _MINUTE)
    return values


def _counts(world: World, numbers: Ints, at: datetime) -> Ints:
    columns = world.columns(numbers, at)
    return np.stack([columns[name] for name in MEASURES])
