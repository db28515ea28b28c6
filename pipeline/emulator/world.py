"""An emulated account: the state of operation i at time t is a pure function of (seed, i, t).

There are no simulation steps. Creation time, size, counts and last change are closed forms, vectorised over
operations, so that any past or future state can be computed directly.

An operation may be scheduled, and canceled while it waits. Then its emails are queued and sent. Some fail.
The others are delivered or not, after log-normal delays, and opened over days. The k-th of n such events
happens at the quantile (k - 1 + v) / n of its delay, with one v per operation: the count at an age is a
floor, and the time of the latest event is the inverse of the delay's distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pipeline.model.schema import COUNT_NAMES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counting = Literal["cumulative", "exclusive"]

MAX_SIZE: Final = 10_000
"""The most recipients of an operation that the API accepts."""

_SINGLE: Final = 0.85  # share of operations with one email
_SCHEDULED, _CANCELED = 0.03, 0.15  # of operations; of scheduled ones
_FAILED, _UNDELIVERABLE, _OPENING = 0.005, 0.02, 0.3  # of emails; opened: of delivered emails
_OUTAGE_UNDELIVERABLE, _OUTAGE_OPENING = 0.2, 0.05  # of emails sent on the day of an outage

_PREFIX: Final = "comms_operation_"
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARS, _RANDOM_CHARS = 10, 16
_WEEK_HOURS: Final = 168
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_EPOCH: Final = date(1970, 1, 1)
_MONDAY_MS: Final = 4 * _DAY_MS  # 1970-01-05 was the first Monday of Unix time

_BY_HOUR: Final = np.array(
    [2, 1, 1, 1, 1, 2, 4, 7, 10, 13, 14, 13, 11, 12, 13, 12, 11, 10, 9, 8, 7, 6, 4, 3], dtype=float
)
_BY_WEEKDAY: Final = np.array([1.1, 1.2, 1.2, 1.15, 1.05, 0.65, 0.65])
_RHYTHM: Final = np.outer(_BY_WEEKDAY, _BY_HOUR).ravel()
_AGES: Final = np.concatenate([[0.0], np.geomspace(500, 12 * _DAY_MS, 4096)])


def _log_normal(median: timedelta, sigma: float) -> Floats:
    """The share of events up to each of `_AGES`, from exactly 0 to exactly 1."""
    logs = (np.log(np.maximum(_AGES, 1.0)) - np.log(median / timedelta(milliseconds=1))) / sigma
    # A logistic approximation of the normal distribution.
    share: Floats = 1 / (1 + np.exp(-1.702 * logs))
    return np.asarray((share - share[0]) / (share[-1] - share[0]))


_DELIVERED: Final = _log_normal(timedelta(seconds=25), 1.9)
_UNDELIVERED: Final = _log_normal(timedelta(minutes=20), 1.5)
# No email is opened before it is delivered.
_OPENED: Final = np.minimum(_log_normal(timedelta(hours=5), 1.6), _DELIVERED)


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
        lifecycle = _Lifecycle.of(self.seed, every, created, self.outage)
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
        rank = numbers + _uniform(self.seed, numbers, 0)
        return (
            self._start
            + _since_monday(self.seed, self._offset + rank / (self.per_day / 24))
            - self._phase
        )

    def _first_from(self, moment: int) -> int:
        """The first number created at `moment` (Unix milliseconds) or later."""
        if self.end is not None:
            moment = min(moment, _milliseconds(self.end))
        hours = _mean_hours(self.seed, moment - self._start + self._phase) - self._offset
        guess = max(int(hours * (self.per_day / 24)) - 2, 0)
        near = np.arange(guess, guess + 5, dtype=np.int64)
        return guess + int(np.searchsorted(self._created(near), moment))

    @property
    def _start(self) -> int:
        return _milliseconds(self.start)

    @property
    def _phase(self) -> int:
        """Milliseconds from Monday to the start."""
        return (self._start - _MONDAY_MS) % (_WEEK_HOURS * _HOUR_MS)

    @property
    def _offset(self) -> float:
        return _mean_hours(self.seed, self._phase)

    def _ids(self, numbers: Ints, created: Ints) -> npt.NDArray[np.str_]:
        shifts = 5 * np.arange(_TIME_CHARS - 1, -1, -1, dtype=np.int64)
        digits = [(created[:, None] >> shifts) & 31]
        for stream in (1, 2):
            bits = _hash(self.seed, numbers, stream)
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


@dataclass(frozen=True, slots=True)
class _Lifecycle:
    """The lifecycles of some operations. Times are Unix milliseconds."""

    created: Ints
    size: Ints
    is_scheduled: npt.NDArray[np.bool_]
    canceled_at: Ints
    send_at: Ints
    duration: Ints
    failed: Ints
    undelivered: Ints
    opened: Ints
    quantile_offset: Floats

    @classmethod
    def of(cls, seed: int, numbers: Ints, created: Ints, outage: date | None) -> "_Lifecycle":
        def chance(stream: int) -> Floats:
            return _uniform(seed, numbers, stream)

        day = created // _DAY_MS
        daily_factor = 0.8 + 0.4 * _uniform(seed, day, 20)
        tail = np.floor(2 * (1 - chance(4)) ** (-1 / 1.1))
        size = np.where(chance(3) < _SINGLE, 1, np.minimum(tail, MAX_SIZE)).astype(np.int64)
        is_scheduled = chance(5) < _SCHEDULED
        # From ten minutes to ten days ahead, mostly soon; some later than the retention.
        ahead = np.where(is_scheduled, 600_000 * 1440 ** chance(6), 0).astype(np.int64)
        send_at = created + ahead
        canceled = is_scheduled & (chance(7) < _CANCELED)
        never = np.iinfo(np.int64).max
        canceled_at = np.where(canceled, created + (ahead * chance(8)).astype(np.int64), never)
        failed = _rounded(size * _FAILED, chance(9))
        in_outage = send_at // _DAY_MS == (-1 if outage is None else (outage - _EPOCH).days)
        undeliverable = np.where(in_outage, _OUTAGE_UNDELIVERABLE, _UNDELIVERABLE) * daily_factor
        undelivered = np.minimum(_rounded(size * undeliverable, chance(10)), size - failed)
        delivered = size - failed - undelivered
        opening = np.where(in_outage, _OUTAGE_OPENING, _OPENING) * daily_factor
        opened = np.minimum(_rounded(delivered * opening, chance(11)), delivered)
        return cls(
            created=created,
            size=size,
            is_scheduled=is_scheduled,
            canceled_at=canceled_at,
            send_at=send_at,
            duration=(2_000 + 20 * size).astype(np.int64),
            failed=failed,
            undelivered=undelivered,
            opened=opened,
            quantile_offset=1 - chance(12),  # in (0, 1]: no event at age 0
        )

    def at(
        self, now: int, counting: Counting
    ) -> tuple[npt.NDArray[np.str_], dict[str, Ints], Ints]:
        """Status, counts and time of the last change."""
        none = np.zeros_like(self.size)
        is_canceled = self.canceled_at <= now
        is_waiting = self.is_scheduled & ~is_canceled & (now < self.send_at)
        done_at = self.send_at + self.duration
        is_done = ~is_canceled & (now >= done_at)
        is_sending = ~is_canceled & ~is_waiting & ~is_done

        elapsed = np.clip(now - self.send_at, 0, self.duration)
        sent_so_far = np.where(is_sending, self.size * elapsed // self.duration, none)
        age = np.where(is_done, now - done_at, 0).astype(float)
        (delivered, undelivered, opened), latest = self._events(age)
        failed = np.where(is_done, self.failed, none)
        processed = np.where(is_done, self.size, sent_so_far)

        sending_since = self.send_at + -(-self.duration * sent_so_far // self.size)
        updated = np.select(
            [is_canceled, is_waiting, is_sending],
            [self.canceled_at, self.created, sending_since],
            done_at + latest.astype(np.int64),
        )
        is_cumulative = counting == "cumulative"
        sent = processed - failed - (0 if is_cumulative else delivered + undelivered)
        counts = {
            "total": self.size,
            "recipients": self.size,
            "attempts": processed,
            "queued": np.where(is_sending, self.size - sent_so_far, none),
            "sent": sent,
            "scheduled": np.where(is_waiting, self.size, none),
            "delivered": delivered if is_cumulative else delivered - opened,
            "opened": opened,
            "undelivered": undelivered,
            "failed": failed,
            "canceled": np.where(is_canceled, self.size, none),
        }
        status = np.select(
            [is_canceled, is_waiting, is_sending],
            ["CANCELED", "SCHEDULED", "PROCESSING"],
            "COMPLETED",
        )
        return status, counts, updated

    def _events(self, age: Floats) -> tuple[list[Ints], Floats]:
        """How many emails are delivered, undelivered and opened by an age; the age of the latest event.

        Ages are milliseconds since all emails were sent.
        """
        deliverable = self.size - self.failed - self.undelivered
        kinds = (
            (deliverable, _DELIVERED),
            (self.undelivered, _UNDELIVERED),
            (self.opened, _OPENED),
        )
        happened = [
            _happened(total, self.quantile_offset, np.interp(age, _AGES, curve))
            for total, curve in kinds
        ]
        latest = [
            _latest(count, total, self.quantile_offset, curve)
            for count, (total, curve) in zip(happened, kinds, strict=True)
        ]
        return happened, np.maximum.reduce(latest)


def _happened(total: Ints, quantile_offset: Floats, share: Floats) -> Ints:
    """How many of `total` events have happened at a quantile of the delay."""
    return np.clip(np.floor(total * share + 1 - quantile_offset), 0, total).astype(np.int64)


def _latest(happened: Ints, total: Ints, quantile_offset: Floats, curve: Floats) -> Floats:
    """The age of the latest event so far; 0 if there is none."""
    share = (happened - 1 + quantile_offset) / np.maximum(total, 1)
    return np.where(happened > 0, np.interp(share, curve, _AGES), 0.0)


def _rounded(expected: npt.NDArray[np.floating], chance: Floats) -> Ints:
    return np.floor(expected + chance).astype(np.int64)


def _cumulative(seed: int, week: int) -> Floats:
    """Cumulated operations by hour of a week, in mean hours; weeks differ."""
    hours = week * _WEEK_HOURS + np.arange(_WEEK_HOURS)
    by_day = 0.8 + 0.4 * _uniform(seed, hours // 24, 21)
    by_hour = 0.7 + 0.6 * _uniform(seed, hours, 22)
    rhythm = _RHYTHM * by_day * by_hour
    return np.asarray(np.concatenate([[0.0], np.cumsum(rhythm)]) / rhythm.mean())


def _mean_hours(seed: int, since_monday: int) -> float:
    """Operations in the milliseconds since a Monday, in mean hours."""
    week, rest = divmod(since_monday, _WEEK_HOURS * _HOUR_MS)
    within = np.interp(rest / _HOUR_MS, np.arange(_WEEK_HOURS + 1), _cumulative(seed, week))
    return float(week * _WEEK_HOURS + within)


def _since_monday(seed: int, mean_hours: Floats) -> Ints:
    """The inverse of `_mean_hours`."""
    weeks = np.floor(mean_hours / _WEEK_HOURS).astype(np.int64)
    hours = np.arange(_WEEK_HOURS + 1, dtype=float)
    found = np.empty(len(weeks), dtype=np.int64)
    for week in np.unique(weeks):
        in_week = weeks == week
        within = mean_hours[in_week] - week * _WEEK_HOURS
        hour = week * _WEEK_HOURS + np.interp(within, _cumulative(seed, int(week)), hours)
        found[in_week] = np.floor(hour * _HOUR_MS)
    return found


def _hash(seed: int, numbers: Ints, stream: int) -> npt.NDArray[np.uint64]:
    """64 pseudo-random bits per number, by the finisher of splitmix64."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def _uniform(seed: int, numbers: Ints, stream: int) -> Floats:
    """A pseudo-random value in [0, 1) per number."""
    return np.asarray((_hash(seed, numbers, stream) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def chances(seed: int, numbers: Ints) -> Floats:
    """A pseudo-random value in [0, 1) per operation, for choices of the server."""
    return _uniform(seed, numbers, 40)


def _ceil_second(moment: datetime) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


def _milliseconds(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def _seconds(milliseconds: Ints) -> npt.NDArray[np.datetime64]:
    return (milliseconds // 1000).astype("datetime64[s]").astype("datetime64[us]")
