"""The main job: plan, scan, land, fold, summarize, publish.

`sync` is all of it; the steps are functions of their own, which Dagster's assets call one by one.
Each step may be killed and run again (R5): what landed stays, what did not is still due.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from pipeline import engine
from pipeline.errors import ArchiveError
from pipeline.facts import Partition, ScanFacts
from pipeline.lake.fold import FoldReport, fold
from pipeline.lake.landing import land
from pipeline.lake.layout import Lake, LakeError
from pipeline.marts.summarize import summarize
from pipeline.scan import FailedScan, Listing, scan_windows
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient, Page
from pipeline.warehouse import publish
from pipeline.windows import Window, retained_days

log = logging.getLogger(__name__)


class Observer:
    """Is told how a sync goes on; does nothing by itself. Its methods are called from threads."""

    def planned(self, windows: Sequence[Window]) -> None:
        """The windows that will be scanned."""

    def received(self, page: Page) -> None:
        """A page arrived."""

    def landed(self, facts: ScanFacts) -> None:
        """A scan landed."""

    def failed(self, failure: FailedScan) -> None:
        """A window could not be scanned."""

    def folded(self, report: FoldReport) -> None:
        """A day was folded."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What scanning brought into the lake.

    Attributes:
        scans: the facts of the scans that landed.
        failures: windows that could not be scanned; they stay due.
        surprises: what the reference does not know, and how many records have it.
    """

    scans: tuple[ScanFacts, ...]
    failures: tuple[FailedScan, ...]
    surprises: Counter[str]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. Times are UTC by the API's clock; `seconds` is how long it took.

    Attributes:
        account_id: the account.
        now: when it began.
        extraction: what was scanned.
        folds: the days that were folded.
        errors: what could not be folded, summarized or published, and why.
        published: whether the warehouse was built anew.
        foreign: files in the lake that are none of the archive's.
        seconds: elapsed real time.
    """

    account_id: str
    now: datetime
    extraction: Extraction
    folds: tuple[FoldReport, ...]
    errors: tuple[ArchiveError, ...]
    published: bool
    foreign: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every window was scanned and every day folded."""
        return not (self.extraction.failures or self.errors)

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON; `requests` and `retries` are those of the scans that landed."""
        scans, folds = self.extraction.scans, self.folds
        return {
            "account_id": self.account_id,
            "now": self.now.isoformat().replace("+00:00", "Z"),
            "windows": len(scans) + len(self.extraction.failures),
            "failed_windows": [
                {"window": str(f.window), "error": str(f.error)} for f in self.extraction.failures
            ],
            "operations_seen": sum(scan.operations for scan in scans),
            "new": sum(report.new for report in folds),
            "changed": sum(report.changed for report in folds),
            "unchanged": sum(report.unchanged for report in folds),
            "rejects": sum(report.new_rejects for report in folds),
            "requests": sum(scan.requests for scan in scans),
            "retries": sum(scan.retries for scan in scans),
            "days_folded": len(folds),
            "errors": [str(error) for error in self.errors],
            "surprises": dict(self.extraction.surprises),
            "foreign_files": list(self.foreign),
            "published": self.published,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Folding:
    """What folding many days did.

    Attributes:
        folds: the days that were folded.
        errors: days whose files could not be folded, and why; they are left as they are.
    """

    folds: tuple[FoldReport, ...] = ()
    errors: tuple[LakeError, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Derivation:
    """What deriving the delivery tables and the warehouse did.

    Attributes:
        errors: what could not be derived, and why; it stays due.
        published: whether the warehouse was built anew.
    """

    errors: tuple[LakeError, ...] = ()
    published: bool = False


def sync(
    settings: Settings,
    *,
    days: Iterable[date] | None = None,
    observer: Observer | None = None,
    publishing: bool = True,
) -> SyncReport:
    """Scan what the API still knows, and bring everything up to date.

    Args:
        settings: credentials, the API's address, the archive's folder.
        days: the UTC days to scan; by default all that the API may still know something of.
        observer: is told how it goes on.
        publishing: whether the delivery tables and the warehouse are derived too. Without, the facts
            alone are brought up to date, and the next sync that publishes derives what is due.

    Returns:
        What was done. A window that failed is in it and stays due; the others are in the archive.

    Raises:
        ApiError: the API could not be reached at all, or refuses the credentials.
        LakeError: the archive's folder can't be used.
    """
    observer = observer or Observer()
    began = time.monotonic()
    lake = Lake(settings.data).open()
    with OperationsClient(settings) as client:
        now = client.clock()
        windows = plan(now, days)
        observer.planned(windows)
        extraction = extract(client, lake, settings, windows, observer)
    folding = fold_pending(lake, observer)
    derived = _derive(lake) if publishing else Derivation()
    foreign = tuple(str(path) for path in lake.foreign_files())
    for path in foreign:
        log.warning("%s is no file of the archive, but readers would read it: move it away", path)
    return SyncReport(
        account_id=settings.account_sid,
        now=now,
        extraction=extraction,
        folds=folding.folds,
        errors=(*folding.errors, *derived.errors),
        published=derived.published,
        foreign=foreign,
        seconds=time.monotonic() - began,
    )


def plan(now: datetime, days: Iterable[date] | None = None) -> list[Window]:
    """The windows to scan: each of `days` whole, newest first; by default the retention's days.

    The newest go first since nothing else has seen them yet. Pure: `now` is the API's (R10).
    """
    wanted = retained_days(now) if days is None else sorted(set(days))
    return [Window.of_day(day) for day in reversed(wanted)]


def extract(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    windows: Sequence[Window],
    observer: Observer,
) -> Extraction:
    """Scan windows concurrently and land each scan as soon as it is complete."""
    scans: list[ScanFacts] = []
    failures: list[FailedScan] = []
    surprises: Counter[str] = Counter()
    outcomes = scan_windows(
        client,
        settings.account_sid,
        windows,
        concurrency=settings.concurrency,
        on_page=observer.received,
    )
    for outcome in outcomes:
        if isinstance(outcome, Listing):
            land(lake, outcome.scan)
            scans.append(outcome.scan.facts)
            surprises.update(outcome.surprises)
            observer.landed(outcome.scan.facts)
        else:
            failures.append(outcome)
            observer.failed(outcome)
    for what, times in surprises.most_common():
        log.warning("the API sent something new: %s (%d records); it is kept", what, times)
    return Extraction(tuple(scans), tuple(failures), surprises)


def fold_pending(lake: Lake, observer: Observer | None = None) -> Folding:
    """Fold every day that has something to fold, what earlier runs left included."""
    folds: list[FoldReport] = []
    errors: list[LakeError] = []
    for partition in sorted(lake.pending()):
        try:
            report = fold(lake, partition)
        except LakeError as error:
            # One damaged or foreign file must not keep the other days from the archive.
            log.warning("%s was not folded: %s", partition, error)
            errors.append(error)
        else:
            folds.append(report)
            if observer:
                observer.folded(report)
    return Folding(tuple(folds), tuple(errors))


def summarize_pending(lake: Lake) -> tuple[LakeError, ...]:
    """Summarize every day whose operations changed since it was summarized, in whatever run.

    Returns:
        What went wrong: days with a damaged or foreign file, left as they are.
    """
    errors: list[LakeError] = []
    with engine.connect() as connection:
        for partition in sorted(lake.stale()):
            try:
                summarize(lake, partition, connection)
            except LakeError as error:
                log.warning("%s was not summarized: %s", partition, error)
                errors.append(error)
    return tuple(errors)


def _derive(lake: Lake) -> Derivation:
    """Summarize and publish; what fails stays due and costs nothing that was archived."""
    errors = summarize_pending(lake)
    try:
        return Derivation(errors, published=publish(lake, force=False))
    except LakeError as error:
        log.warning("%s", error)
        return Derivation((*errors, error))


def rebuild(lake: Lake) -> int:
    """Summarize every day anew and publish: derived tables from facts.

    Returns:
        How many days were summarized.
    """
    fold_pending(lake)
    days: set[Partition] = set(lake.partitions("history"))
    with engine.connect() as connection:
        for partition in sorted(days):
            summarize(lake, partition, connection)
    publish(lake)
    return len(days)
