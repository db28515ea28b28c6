"""Coverage of slots, computed from scans (R4).

A scan counts if it is complete and ended before the slot's deadline; after that the API may leave records
out. It covers the window that it listed, up to the moment when it began.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import parquet
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition, SlotCoverage
from pipeline.model.schema import COVERAGE, SLOT_COVERAGE
from pipeline.model.windows import SLOT, Window, deadline

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of one slot that one scan listed."""

    start: datetime
    end: datetime
    observed_at: datetime
    operations: float


def cover(day: date, coverage: pa.Table) -> list[SlotCoverage]:
    """The coverage of a day's 24 slots.

    Args:
        day: the UTC day.
        coverage: its scans, as `schema.COVERAGE`.

    Returns:
        One entry per slot of the day, in order, including slots without a scan.
    """
    slots = list(Window.of_day(day).slots())
    pieces: dict[datetime, list[_Piece]] = {slot: [] for slot in slots}
    late: dict[datetime, datetime] = {}
    for scan in coverage.to_pylist():
        if not scan["complete"]:
            continue
        window = Window(scan["window_start"], scan["window_end"])
        density = scan["operations"] / (window.end - window.start).total_seconds()
        for slot in window.slots():
            if scan["completed_at"] < deadline(slot):
                start, end = max(slot, window.start), min(slot + SLOT, window.end)
                operations = density * (end - start).total_seconds()
                pieces[slot].append(_Piece(start, end, scan["observed_at"], operations))
            else:
                late[slot] = max(late.get(slot, scan["observed_at"]), scan["observed_at"])
    return [replace(_covered(slot, pieces[slot]), late_at=late.get(slot)) for slot in slots]


def _covered(slot: datetime, pieces: list[_Piece]) -> SlotCoverage:
    if not pieces:
        return SlotCoverage(slot)
    latest_first = sorted(pieces, key=lambda piece: piece.observed_at, reverse=True)
    holes = [(slot, slot + SLOT)]
    covered_at, operations = None, 0.0
    for piece in latest_first:
        left = [rest for hole in holes for rest in _without(hole, piece)]
        if left == holes:
            continue
        length = (piece.end - piece.start).total_seconds()
        operations += piece.operations * (_length(holes) - _length(left)) / length
        holes = left
        if not holes:
            covered_at = piece.observed_at
            break
    return SlotCoverage(
        slot,
        first_at=latest_first[-1].observed_at,
        covered_at=covered_at,
        scans=len(pieces),
        operations=operations,
    )


def _without(hole: tuple[datetime, datetime], piece: _Piece) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a hole that a piece does not cover."""
    start, end = hole
    if start < min(end, piece.start):
        yield start, min(end, piece.start)
    if max(start, piece.end) < end:
        yield max(start, piece.end), end


def _length(holes: Iterable[tuple[datetime, datetime]]) -> float:
    return sum((end - start).total_seconds() for start, end in holes)


def to_table(slots: Iterable[SlotCoverage]) -> pa.Table:
    """Rows of `schema.SLOT_COVERAGE`."""
    rows = [
        {
            "slot": one.slot,
            "first_scan_at": one.first_at,
            "covered_at": one.covered_at,
            "scans": one.scans,
            "operations": one.operations,
        }
        for one in slots
    ]
    return pa.Table.from_pylist(rows, schema=SLOT_COVERAGE.arrow)


def latest_scan(lake: Lake, account_id: str, since: date = date.max) -> datetime | None:
    """When the latest merged scan ended, by the API's clock; None if there is none.

    Args:
        lake: the archive.
        account_id: the account.
        since: only days from this one on are read, and always the newest day.
    """
    days = [p.day for p in lake.partitions(COVERAGE.name) if p.account_id == account_id]
    wanted = [day for day in days if day >= min(since, days[-1])]
    ended = [_scans(lake, account_id, day)["completed_at"] for day in wanted]
    return max((moment for each in ended if (moment := pc.max(each).as_py())), default=None)


def read_slots(lake: Lake, account_id: str, days: Iterable[date]) -> list[SlotCoverage]:
    """The coverage of every slot of some days, from the merged scans, in order.

    A day with an unreadable coverage file counts as never scanned, so it is scanned again and does not
    block other days. Merging it reports the error.
    """
    found: list[SlotCoverage] = []
    for day in sorted(set(days)):
        found += cover(day, _scans(lake, account_id, day))
    return found


def _scans(lake: Lake, account_id: str, day: date) -> pa.Table:
    try:
        return parquet.read(lake.part(COVERAGE, Partition(account_id, day)), COVERAGE.arrow)
    except LakeError as error:
        log.warning("the coverage of %s can't be read, so the day is scanned again: %s", day, error)
        return COVERAGE.arrow.empty_table()
