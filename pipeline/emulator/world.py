"""An emulated account: the state of operation i at time t is a pure function of (seed, i, t).

There are no simulation steps. Creation time, size, counts and last change are closed forms, vectorised over
operations, so that any past or future state can be computed directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.emulator.chance import Ints, random_bits, uniform
from pipeline.emulator.lifecycle import Counting, Lifecycle
from pipeline.emulator.rhythm import (
    HOUR_MS,
    WEEK_HOURS,
    mean_hours_since_monday,
    milliseconds_since_monday,
)
from pipeline.model.schema import COUNT_NAMES

_PREFIX: Final = "comms_operation_"
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS, _RANDOM_CHARS = 10, 16
_MONDAY_MS: Final = 4 * 24 * HOUR_MS  # 1970-01-05 was the first Monday of Unix time


@dataclass(frozen=True, slots=True)
class World:
    """The operations of an emulated account.

    Attributes:
        seed: of the pseudo-random numbers.
        per_day: operations per day, on average over a week.
        start: creation of the first operation. UTC.
        end: creation of the last one; None for no end. UTC.
        counting: whether `delivered` includes opened emails, and `sent` delivered ones.
        omit_recipients_and_attempts: whether these counts are missing, as in the guide's sample.
        unknown_fields: whether records have a field and a count that the reference does not have.
        outage: a UTC day of an outage: many more of the emails sent on it are not delivered, and fewer
            are opened. None for none.
    """

    seed: int
    per_day: float
    start: datetime
    end: datetime | None = None
    counting: Counting = "cumulative"
    omit_recipients_and_attempts: bool = False
    unknown_fields: bool = False
    outage: date | None = None

    def numbers(self, start: datetime, end: datetime) -> range:
        """The operations whose `createdAt`, a whole second, is in ``[start, end)``."""
        bounds = [self._first_from(_milliseconds(_ceil_second(bound))) for bound in (start, end)]
        return range(bounds[0], max(bounds))

    def existing(self, at: datetime) -> range:
        """The operations created by that moment, to the millisecond."""
        return range(self._first_from(_milliseconds(at) + 1))

    def records(self, numbers: Sequence[int] | Ints, at: datetime) -> list[dict[str, Any]]:
        """The JSON records of these operations at that moment, without those not created yet."""
        columns = self.columns(numbers, at)
        names = [
            name
            for name in COUNT_NAMES
            if not (self.omit_recipients_and_attempts and name in ("recipients", "attempts"))
        ]
        counts = zip(*(columns[name].tolist() for name in names), strict=True)
        times = (np.datetime_as_string(columns[n], unit="s") for n in ("created_at", "updated_at"))
        rows = zip(
            columns["operation_id"].tolist(),
            columns["status"].tolist(),
            counts,
            *(texts.tolist() for texts in times),
            strict=True,
        )
        return [
            {
                "id": operation_id,
                "status": status,
                "stats": dict(zip(names, stats, strict=True)) | self._unknown({"read": stats[0]}),
                "createdAt": f"{created}Z",
                "updatedAt": f"{updated}Z",
            }
            | self._unknown({"region": "us1"})
            for operation_id, status, stats, created, updated in rows
        ]

    def columns(self, numbers: Sequence[int] | Ints, at: datetime) -> dict[str, npt.NDArray[Any]]:
        """The same as columns named as in `schema`: ids and statuses as text, times as datetime64[us].

        Options that omit or add fields have no effect here.
        """
        every = np.asarray(numbers, dtype=np.int64)
        created = self._created(every)
        now = _milliseconds(at)
        exists = created <= now
        every, created = every[exists], created[exists]
        lifecycle = Lifecycle.of(self.seed, every, created, self.outage)
        status, counts, updated = lifecycle.at(now, self.counting)
        return {
            "operation_id": self._ids(every, created),
            "status": status,
            **{name: counts[name] for name in COUNT_NAMES},
            "created_at": _seconds(created),
            "updated_at": _seconds(updated),
        }

    def number_of(self, operation_id: str) -> int | None:
        """The number of the operation with this id; None if there is none."""
        created = embedded_milliseconds(operation_id)
        if created is None:
            return None
        first = self._first_from(created)
        near = np.arange(first, self._first_from(created + 1), dtype=np.int64)
        found = np.flatnonzero(self._ids(near, self._created(near)) == operation_id)
        return int(near[found[0]]) if len(found) else None

    def _unknown(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields if self.unknown_fields else {}

    def _created(self, numbers: Ints) -> Ints:
        """The creation of each operation in Unix milliseconds, ascending with the number."""
        rank = numbers + uniform(self.seed, numbers, 0)
        return (
            self._start
            + milliseconds_since_monday(self.seed, self._offset + rank / (self.per_day / 24))
            - self._phase
        )

    def _first_from(self, moment: int) -> int:
        """The first number created at `moment` (Unix milliseconds) or later."""
        if self.end is not None:
            moment = min(moment, _milliseconds(self.end))
        hours = (
            mean_hours_since_monday(self.seed, moment - self._start + self._phase) - self._offset
        )
        guess = max(int(hours * (self.per_day / 24)) - 2, 0)
        near = np.arange(guess, guess + 5, dtype=np.int64)
        return guess + int(np.searchsorted(self._created(near), moment))

    @property
    def _start(self) -> int:
        return _milliseconds(self.start)

    @property
    def _phase(self) -> int:
        """Milliseconds from Monday to the start."""
        return (self._start - _MONDAY_MS) % (WEEK_HOURS * HOUR_MS)

    @property
    def _offset(self) -> float:
        return mean_hours_since_monday(self.seed, self._phase)

    def _ids(self, numbers: Ints, created: Ints) -> npt.NDArray[np.str_]:
        shifts = 5 * np.arange(_TIME_CHARS - 1, -1, -1, dtype=np.int64)
        digits = [(created[:, None] >> shifts) & 31]
        for stream in (1, 2):
            bits = random_bits(self.seed, numbers, stream)
            half = 5 * np.arange(_RANDOM_CHARS // 2, dtype=np.uint64)
            digits.append(((bits[:, None] >> half) & np.uint64(31)).astype(np.int64))
        letters = np.frombuffer(_ALPHABET.encode(), dtype="S1")[np.concatenate(digits, axis=1)]
        width = _TIME_CHARS + _RANDOM_CHARS
        texts = np.ascontiguousarray(letters).view(f"S{width}").ravel().astype(np.str_)
        return np.char.add(_PREFIX, texts)


def embedded_milliseconds(operation_id: str) -> int | None:
    """The Unix milliseconds in an id; None if the id has another form."""
    digits = operation_id.removeprefix(_PREFIX)[:_TIME_CHARS]
    if len(operation_id) != len(_PREFIX) + _TIME_CHARS + _RANDOM_CHARS or any(
        digit not in _ALPHABET for digit in digits
    ):
        return None
    value = 0
    for digit in digits:
        value = value * 32 + _ALPHABET.index(digit)
    return value


def _ceil_second(moment: datetime) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


def _milliseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def _seconds(milliseconds: Ints) -> npt.NDArray[np.datetime64]:
    return (milliseconds // 1000).astype("datetime64[s]").astype("datetime64[us]")
