"""Lists the API again and compares it with the archive, without changing anything.

The comparison follows the merge (R2, R3): an operation is outdated exactly if a scan now would change it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.extract.api_clock import api_time, machine_time
from pipeline.extract.scan import FailedScan, ScanResult
from pipeline.extraction import scan_all
from pipeline.lake import engine, landing, parquet
from pipeline.lake.coverage import cover
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.statements import comparison
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, HISTORY
from pipeline.model.times import iso, iso_seconds
from pipeline.model.windows import RETENTION, Window, slot_start, windows_between
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient

NEW_WITHIN: Final = timedelta(hours=1)
"""An operation that no scan could have seen yet is outdated while it is younger than this, then missing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Operations of a window or a day, counted by what an operator would do about them.

    Attributes:
        listed: distinct operations that the API returned: `current`, `outdated` and `missing` together.
        current: the archive has this state, or a newer one. Nothing to do.
        outdated: the API has a newer state, or a new operation that no scan could have seen yet. The next
            syncs update these.
        missing: the archive should have the operation, and does not. To be scanned again.
        unlisted: the archive has the operation, and the API did not return it. Expected past the deadline.
        rejects: records that could not be parsed.
    """

    listed: int = 0
    current: int = 0
    outdated: int = 0
    missing: int = 0
    unlisted: int = 0
    rejects: int = 0

    def __add__(self, other: "Comparison") -> "Comparison":
        names = (field.name for field in fields(Comparison))
        return Comparison(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, order=True, slots=True)
class MissingOperation:
    """An operation that the API has and the archive does not. `created_at` is UTC."""

    created_at: datetime
    operation_id: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a comparison. Times are UTC, by the API's clock.

    Attributes:
        account_id: the account.
        now: when it began.
        start: start of the range of creation times.
        end: its end.
        days: each day's comparison.
        missing: every missing operation, oldest first.
        failures: windows that could not be listed, and were not compared.
        requests: requests made, retries included.
    """

    account_id: str
    now: datetime
    start: datetime
    end: datetime
    days: dict[date, Comparison]
    missing: tuple[MissingOperation, ...]
    failures: tuple[FailedScan, ...]
    requests: int

    @property
    def ok(self) -> bool:
        """Whether everything was compared and nothing is missing."""
        return not (self.missing or self.failures)

    @property
    def total(self) -> Comparison:
        """All days together."""
        return sum(self.days.values(), Comparison())

    def as_json(self) -> dict[str, Any]:
        """The same, ready for JSON: times and days as ISO 8601."""
        return {
            "account_id": self.account_id,
            "now": iso(self.now),
            "since": iso(self.start),
            "until": iso(self.end),
            "ok": self.ok,
            **_counts(self.total),
            "days": [{"day": day.isoformat(), **_counts(one)} for day, one in self.days.items()],
            "missing_operations": [
                {"operation_id": one.operation_id, "created_at": iso(one.created_at)}
                for one in self.missing
            ],
            "failed_windows": [
                {"window": str(one.window), "error": str(one.error)} for one in self.failures
            ],
            "requests": self.requests,
        }


def _counts(one: Comparison) -> dict[str, int]:
    return {field.name: getattr(one, field.name) for field in fields(Comparison)}


def verify(
    settings: Settings,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    observer: Observer | None = None,
    wall_clock: Callable[[], datetime] = machine_time,
) -> Verification:
    """List the operations created in a range, and compare them with the archive.

    Args:
        settings: credentials, the API's address, the archive's folder.
        start: start of the range; by default 7 days ago.
        end: end of the range; by default, and at the latest, now.
        observer: called with each page and scan.
        wall_clock: this machine's clock, which only guards the API's (R10).

    Raises:
        UsageError: there is no archive in the folder, or the range is empty.
        ApiError: the API can't be reached, or refuses the credentials.
        ClockError: the API's clock is implausible.
        LakeError: a file of the archive is damaged or foreign.
    """
    lake = Lake.of(settings).must_exist()
    with OperationsClient(settings) as client:
        now = api_time(client, lake, settings, wall_clock)
        start, end = _range(start, end, now)
        windows = windows_between(start, end)
        days = {window.day: Comparison() for window in windows}
        missing: list[MissingOperation] = []

        def compare(result: ScanResult) -> None:
            if not result.parts:  # otherwise the parts list the same operations again
                compared, unknown = _compare(lake, result)
                days[result.window.day] += compared
                missing.extend(unknown)

        outcome = scan_all(client, settings, windows, observer or Observer(), on_scan=compare)
    return Verification(
        settings.account_sid,
        now,
        start,
        end,
        days,
        tuple(sorted(missing)),
        tuple(outcome.failures),
        sum(scan.requests for scan in outcome.scans),
    )


def _range(
    start: datetime | None, end: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    start = slot_start(now - RETENTION) if start is None else start
    end = now if end is None else min(end, now)
    if start >= end:
        msg = (
            f"expected a range that begins before it ends and before now, {iso_seconds(now)}; "
            f"got {iso_seconds(start)} to {iso_seconds(end)}"
        )
        raise UsageError(msg)
    return start, end


def _compare(lake: Lake, result: ScanResult) -> tuple[Comparison, list[MissingOperation]]:
    """Compare a complete scan with the archive; also returns the missing operations."""
    facts = result.scan.facts
    seen, scans = _seen(lake, Partition(facts.account_id, facts.window.day), facts.window)
    with engine.connect(spill=lake.spill) as connection:
        connection.register("seen", seen)
        connection.register("listed", result.scan.operations)
        rows = connection.execute(comparison()).fetchall()
    count = Counter(kind for _, _, kind in rows)
    unknown = [
        MissingOperation(created_at, operation_id)
        for operation_id, created_at, kind in rows
        if kind == "unknown"
    ]
    missing = list(_missing(unknown, facts.window.day, scans, facts.observed_at))
    compared = Comparison(
        listed=len(rows) - count["unlisted"],
        current=count["current"],
        outdated=count["outdated"] + len(unknown) - len(missing),
        missing=len(missing),
        unlisted=count["unlisted"],
        rejects=facts.rejects,
    )
    return compared, missing


def _seen(lake: Lake, partition: Partition, window: Window) -> tuple[pa.Table, pa.Table]:
    """The states of a window and the scans of its day, both merged and landed."""
    waiting = list(_waiting(lake, partition))
    # Read after the landed files: scans that are merged meanwhile are then in both, and not in neither.
    scans = parquet.read(lake.part(COVERAGE, partition), COVERAGE.arrow)
    history = parquet.read(lake.part(HISTORY, partition), HISTORY.arrow)
    states = pa.concat_tables([history, *(one.operations for one in waiting)])
    return _inside(states, window), pa.concat_tables([scans, *(one.coverage for one in waiting)])


def _waiting(lake: Lake, partition: Partition) -> Iterator[landing.Landed]:
    for path in lake.landed(partition):
        try:
            yield landing.read(path)
        except LakeError:
            if path.exists():
                raise
            # It was merged meanwhile.


def _inside(rows: pa.Table, window: Window) -> pa.Table:
    created = rows["created_at"]
    return rows.filter(
        pc.and_(pc.greater_equal(created, window.start), pc.less(created, window.end))
    )


def _missing(
    unknown: Iterable[MissingOperation], day: date, scans: pa.Table, now: datetime
) -> Iterable[MissingOperation]:
    """The operations that the archive should have: a scan has covered their creation, or should have."""
    covered = {one.slot: one.covered_at for one in cover(day, scans)}
    for one in unknown:
        covered_at = covered[slot_start(one.created_at)]
        is_new = covered_at is None or one.created_at >= covered_at
        if not (is_new and now - one.created_at < NEW_WITHIN):
            yield one
