"""What becomes of an operation: its status and counts at any time.

An operation may be scheduled, and canceled while it waits. Then its emails are queued and sent. Some fail.
The others are delivered or not, after log-normal delays, and opened over days. The k-th of n such events
happens at the quantile (k - 1 + v) / n of its delay, with one v per operation: the count at an age is a
floor, and the time of the latest event is the inverse of the delay's distribution.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pipeline.emulator.chance import Floats, Ints, uniform

Counting = Literal["cumulative", "exclusive"]

MAX_SIZE: Final = 10_000
"""The most recipients of an operation that the API accepts."""

_SINGLE: Final = 0.85  # share of operations with one email
_SCHEDULED, _CANCELED = 0.03, 0.15  # of operations; of scheduled ones
_FAILED, _UNDELIVERABLE, _OPENING = 0.005, 0.02, 0.3  # of emails; opened: of delivered emails
_OUTAGE_UNDELIVERABLE, _OUTAGE_OPENING = 0.2, 0.05  # of emails sent on the day of an outage

_DAY_MS: Final = 24 * 3_600_000
_EPOCH: Final = date(1970, 1, 1)
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
class Lifecycle:
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
    def of(cls, seed: int, numbers: Ints, created: Ints, outage: date | None) -> "Lifecycle":
        """Those of some operations, by their numbers and creation times."""

        def chance(stream: int) -> Floats:
            return uniform(seed, numbers, stream)

        day = created // _DAY_MS
        daily_factor = 0.8 + 0.4 * uniform(seed, day, 20)
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
