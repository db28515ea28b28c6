"""What is true of the demo's larger account, computed from the world's records: no SQL, no file of the lake.

One exception: operations that were not settled when their listings ended are looked up by id, at times that
the archive chooses. The time of their last lookup is taken from the archive.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from operator import itemgetter
from statistics import median
from typing import Any

import numpy as np

from pipeline.cli import demo

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
AGES = (1, 5, 15, 60, 180, 360, 720, 1440, 2880, 4320, 10080)
CLASSES = ((1, "1"), (10, "2-10"), (100, "11-100"), (1000, "101-1,000"), (10000, "1,001-10,000"))
State = dict[str, Any]


class DemoTruth:
    """The demo's 30 days.

    Args:
        later: operations that were looked up after their listings had ended, and when.
    """

    def __init__(self, later: dict[str, datetime]) -> None:
        self.world = demo.emulated_worlds(400.0)[0]
        self.moments = demo.moments(demo.SHOP)
        self.as_of = self.moments[-1]
        self.later = later

    @cached_property
    def states(self) -> list[State]:
        """The last state of each operation that a scan within its retention could see."""
        numbers = np.asarray(self.world.existing(self.as_of))
        created = self.world.columns(numbers, self.as_of)["created_at"]
        times = np.array([m.replace(tzinfo=None) for m in self.moments], dtype="datetime64[us]")
        last = np.searchsorted(times, created + np.timedelta64(WEEK)) - 1
        found = []
        for index in np.unique(last):
            for record in self.world.records(numbers[last == index], self.moments[index]):
                moment = self.later.get(record["id"])
                if moment and moment > self.moments[index]:
                    number = self.world.number_of(record["id"])
                    found += map(state, self.world.records([number], moment))
                else:
                    found.append(state(record))
        return found

    def days(self) -> list[date]:
        return [demo.FIRST_DAY.date() + timedelta(days=n) for n in range(demo.DAYS)]

    def is_final(self, slot: datetime) -> bool:
        """Whether the slot was scanned in the last 12 hours before its deadline."""
        deadline = slot + WEEK
        return any(deadline - 12 * HOUR <= moment < deadline for moment in self.moments)

    def completeness(self, day: date) -> str:
        slots = [datetime(day.year, day.month, day.day, n, tzinfo=UTC) for n in range(24)]
        return "final" if all(map(self.is_final, slots)) else "changing"

    def of_day(self, day: date) -> State:
        return sums(one for one in self.states if one["created"].date() == day)

    def of_days(self, first: date, last: date) -> State:
        return sums(one for one in self.states if first <= one["created"].date() <= last)

    def by_size(self, first: date) -> dict[str, State]:
        groups = defaultdict(list)
        for one in self.states:
            if one["created"].date() >= first:
                name = next(name for most, name in CLASSES if one["total"] <= most)
                groups[name].append(one)
        return {name: sums(groups[name]) for _, name in CLASSES}

    def by_weekday_hour(self) -> dict[tuple[int, int], State]:
        groups = defaultdict(list)
        for one in self.states:
            if self.is_final(one["hour"]):
                groups[one["created"].weekday(), one["created"].hour].append(one)
        return {key: sums(group) for key, group in groups.items()}

    def band(self, day: date, name: str) -> tuple[float, float, float]:
        """What the days before let expect of a day's rate: the median, and the band's ends."""
        before = [self.of_day(one) for one in self.days() if day - timedelta(days=28) <= one < day]
        emails = "delivered" if name == "open_rate" else "attempted"
        expected = median(one[name] for one in before)
        deviation = 1.4826 * median(abs(one[name] - expected) for one in before)
        earlier, now = sum(one[emails] for one in before), self.of_day(day)[emails]
        chance = (expected * earlier + 1) / (earlier + 2)
        reach = 4 * (deviation**2 + chance * (1 - chance) / now) ** 0.5 + 16 / (3 * now)
        return expected, max(expected - reach, 0), min(expected + reach, 1)

    def curve(self) -> list[dict[str, float | None]]:
        """By each age, the bounds of what was delivered and opened, as shares of what was attempted.

        The last age has no upper bound: no scan came after it.
        """
        numbers = np.asarray(self.world.existing(self.as_of))
        created = self.world.columns(numbers, self.as_of)["created_at"]
        seen = [self._counts(numbers, moment) for moment in self.moments]
        times = np.array([m.replace(tzinfo=None) for m in self.moments], dtype="datetime64[us]")
        hours = created.astype("datetime64[h]")
        slots = {hour: hour.astype(datetime).replace(tzinfo=UTC) for hour in np.unique(hours)}
        is_past = hours + np.timedelta64(1, "h") + np.timedelta64(WEEK) <= times[-1]
        final = [hour for hour, slot in slots.items() if self.is_final(slot)]
        cohort = is_past & np.isin(hours, np.array(final))
        stacks = {
            name: np.stack([counts[name] for counts in seen])
            for name in ("attempted", "delivered", "opened")
        }
        known: dict[str, dict[int, Any]] = defaultdict(dict)
        for age in AGES:
            last = np.searchsorted(times, created + np.timedelta64(age, "m"), side="right") - 1
            for name, stack in stacks.items():
                values = stack[np.maximum(last, 0), np.arange(len(numbers))]
                was_seen = (last >= 0) & (times[np.maximum(last, 0)] >= created)
                known[name][age] = np.where(was_seen, values, 0)
        attempted = known["attempted"][AGES[-1]][cohort].sum()
        found = []
        for age in AGES:
            reached = {hour: self._surely_seen(hour, age) for hour in np.unique(hours[cohort])}
            row: dict[str, float | None] = {}
            for name in ("delivered", "opened"):
                most = sum(
                    known[name][until][cohort & (hours == hour)].sum()
                    for hour, until in reached.items()
                )
                row[f"{name}_at_least"] = known[name][age][cohort].sum() / attempted
                row[f"{name}_at_most"] = None if age == AGES[-1] else most / attempted
            found.append(row)
        return found

    def _counts(self, numbers: Any, moment: datetime) -> dict[str, Any]:
        """The counts of these operations at a moment: 0 of those that were not created yet."""
        columns = self.world.columns(numbers, moment)
        attempted = (
            columns["total"] - columns["canceled"] - columns["scheduled"] - columns["queued"]
        )
        counts = {
            "attempted": attempted,
            "delivered": columns["delivered"],
            "opened": columns["opened"],
        }
        missing = len(numbers) - len(attempted)
        return {name: np.pad(values, (0, missing)) for name, values in counts.items()}

    def _surely_seen(self, hour: Any, age: int) -> int:
        """The age by which a scan had seen all operations of the hour at `age` or older."""
        middle = hour.astype(datetime).replace(tzinfo=UTC) + HOUR / 2
        next_age = next((one for one in AGES if one >= age + 30), None)
        if next_age is None:
            return AGES[-1]
        after = middle + timedelta(minutes=next_age)
        scans = [m for m in self.moments if after < m < middle - HOUR / 2 + WEEK]
        if not scans:
            return AGES[-1]
        minutes = (scans[0] - middle) / timedelta(minutes=1) + 30
        # Whole seconds: the scan of the last moment ran a second before midnight.
        return next((one for one in AGES if one >= minutes), AGES[-1])


def state(record: dict[str, Any]) -> State:
    created = datetime.fromisoformat(record["createdAt"])
    return record["stats"] | {
        "id": record["id"],
        "created": created,
        "hour": created.replace(minute=0, second=0, microsecond=0),
    }


def sums(states: Iterable[State]) -> State:
    """Sums of counts, and rates as sums over sums."""
    states = list(states)

    def total(count: Callable[[State], int]) -> int:
        return sum(map(count, states))

    attempted = total(lambda s: s["total"] - s["canceled"] - s["scheduled"] - s["queued"])
    delivered = total(lambda s: s["delivered"])
    opened = total(lambda s: s["opened"])
    return {
        "operations": len(states),
        "emails": total(lambda s: s["total"]),
        "attempted": attempted,
        "delivered": delivered,
        "opened": opened,
        **{name: total(itemgetter(name)) for name in ("undelivered", "failed", "canceled")},
        "delivery_rate": delivered / attempted if attempted else None,
        "open_rate": opened / delivered if delivered else None,
        "undelivered_rate": total(lambda s: s["undelivered"]) / attempted if attempted else None,
        "failure_rate": total(lambda s: s["failed"]) / attempted if attempted else None,
    }
