"""One page of a listing: which operations match, in which order, and with which fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import numpy as np

from pipeline.emulator.chance import chances
from pipeline.emulator.faults import Injector
from pipeline.emulator.request import (
    INVALID_PAGE_TOKEN,
    RefusedError,
    moment_of,
    next_second,
    page_size,
    read_token,
    write_token,
)
from pipeline.emulator.world import World
from pipeline.model.schema import STATUSES
from pipeline.model.windows import RETENTION

Order = Literal["oldest", "newest", "scrambled"]
Bounds = Literal["inclusive", "exclusive", "start_inclusive", "end_inclusive"]
_BLOCK: Final = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """A listing at one moment, for one request.

    Attributes:
        world: the operations.
        now: the moment.
        order: of the results.
        bounds: which of startDate and endDate are inclusive.
        fading: how long after the retention some operations are still listed.
        empty_pages: whether a third of the pages are empty.
        injector: injects faults.
        fault: the request's fault; None for none.
    """

    world: World
    now: datetime
    order: Order
    bounds: Bounds
    fading: timedelta
    empty_pages: bool
    injector: Injector
    fault: str | None

    def page(
        self, query: Mapping[str, str], page_limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The records of a page, and the token of the next one."""
        size = min(page_size(query.get("pageSize")), page_limit)
        status = query.get("status")
        if status is not None and status not in STATUSES:
            raise RefusedError(400, f"status must be one of {', '.join(STATUSES)}")
        filters = [query.get("startDate"), query.get("endDate"), status]
        matching = self._matching(filters[0], filters[1])
        order = _Ordered(self.world.seed, self.order, matching)
        token = query.get("pageToken")
        place, was_empty = read_token(token, filters) if token is not None else (order.first, False)
        size, end = self._limits(order, place, size, has_token=token is not None)
        if is_empty := not was_empty and self._is_empty(place):
            records, following = [], place
        else:
            numbers, following = order.page(place, size)
            records = self._records(self._shuffled(numbers, order, place), status)
        if token is not None and self._has("token-loop"):
            return records, token
        if following >= end:
            return records, None
        return records, write_token(following, filters, is_empty=is_empty)

    def _has(self, kind: str) -> bool:
        return self.injector.counted(self.fault, kind)

    def _matching(self, start: str | None, end: str | None) -> range:
        """The numbers of operations whose createdAt, a whole second, lies between the bounds."""
        begin, stop = self.world.start, next_second(self.now)
        if start is not None:
            begin = moment_of("startDate", start)
            if self.bounds in ("exclusive", "end_inclusive"):
                begin = next_second(begin)
        if end is not None:
            until = moment_of("endDate", end)
            if self.bounds in ("inclusive", "end_inclusive"):
                until = next_second(until)
            stop = min(stop, until)
        numbers = self.world.numbers(max(begin, self.world.start), max(stop, self.world.start))
        last = self.world.existing(self.now).stop
        return range(min(numbers.start, last), min(numbers.stop, last))

    def _limits(
        self, order: "_Ordered", place: int, size: int, *, has_token: bool
    ) -> tuple[int, int]:
        """The size of the page, and the place where the listing ends."""
        if has_token and self._has("token-refused"):
            raise RefusedError(400, "Invalid page token", INVALID_PAGE_TOKEN)
        cap = order.first + self.injector.faults.cap
        if self.fault not in ("capped", "capped-silently") or order.end <= cap:
            return size, order.end
        is_silent = self.fault == "capped-silently"
        if is_silent and place + size >= cap:
            self.injector.count("capped-silently")
        elif place >= cap:
            self.injector.count(self.fault)
            msg = f"A listing has at most {self.injector.faults.cap} results"
            raise RefusedError(400, msg)
        return min(size, max(cap - place, 0)), cap if is_silent else order.end

    def _is_empty(self, place: int) -> bool:
        if self._has("empty-pages"):
            return True
        draw = float(chances(self.world.seed, np.array([place]))[0])
        return self.empty_pages and draw < 1 / 3

    def _shuffled(self, numbers: list[int], order: "_Ordered", place: int) -> list[int]:
        if self._has("duplicates"):
            # The last three of the page before, and the last one twice.
            before = order.page(max(place - 3, order.first), min(3, place - order.first))[0]
            return [*before, *numbers, *numbers[-1:]]
        if self._has("reordered"):
            return numbers[1::2] + numbers[::2]
        return numbers

    def _records(self, numbers: list[int], status: str | None) -> list[dict[str, Any]]:
        """The records that the API still lists, with faults."""
        records = self.world.records(numbers, self.now)
        draws = chances(self.world.seed, np.array(numbers, dtype=np.int64)).tolist()
        listed = [
            (number, record)
            for number, record, draw in zip(numbers, records, draws, strict=True)
            if status in (None, record["status"]) and self._is_listed(record, draw)
        ]
        if not self.injector.faults.rates and self.fault is None:
            return [record for _, record in listed]
        shown = [
            (number, record)
            for number, record in listed
            if not self.injector.hides(
                number, datetime.fromisoformat(record["createdAt"]), self.now, self.fault
            )
        ]
        if len(shown) < len(listed):
            self._has("partial")
        return [self.injector.with_faults(number, record, self.fault) for number, record in shown]

    def _is_listed(self, record: dict[str, Any], draw: float) -> bool:
        """Whether a record is within the retention, or one of the few that are listed after it."""
        beyond = self.now - RETENTION - datetime.fromisoformat(record["createdAt"])
        if beyond <= timedelta():
            return True
        return bool(self.fading) and draw < 0.5 * (1 - beyond / self.fading)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Numbers in an order, addressed by places that a token can hold."""

    seed: int
    order: Order
    numbers: range

    @property
    def first(self) -> int:
        return self._places.start

    @property
    def end(self) -> int:
        return self._places.stop

    @property
    def _places(self) -> range:
        match self.order:
            case "oldest":
                return self.numbers
            case "newest":
                return range(-self.numbers.stop + 1, -self.numbers.start + 1)
            case "scrambled":
                start, stop = self.numbers.start // _BLOCK, -(-self.numbers.stop // _BLOCK)
                return range(start * _BLOCK, stop * _BLOCK)

    def page(self, place: int, size: int) -> tuple[list[int], int]:
        """The numbers of the page that begins at `place`, and the place of the next page."""
        places = range(max(place, self.first), min(place + size, self.end))
        following = max(places.stop, place)
        match self.order:
            case "oldest":
                return list(places), following
            case "newest":
                return [-p for p in places], following
            case "scrambled":
                return [n for n in map(self._scrambled, places) if n in self.numbers], following

    def _scrambled(self, place: int) -> int:
        """The number at a place: numbers are shuffled within blocks."""
        block, within = divmod(place, _BLOCK)
        base = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int64)
        return int(base[np.argsort(chances(self.seed + 1, base))[within]])
