"""What a sync did: the results of its steps, and the report of all."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.errors import ArchiveError
from pipeline.extract.lookup import FailedLookup
from pipeline.extract.scan import FailedScan
from pipeline.lake.layout import LakeError
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.times import iso


@dataclass(frozen=True, slots=True)
class Extraction:
    """What scanning brought into the lake.

    Attributes:
        scans: the facts of the scans that landed.
        failures: windows that could not be scanned; they stay due.
        drift: what the reference does not know, with the number of records.
    """

    scans: tuple[ScanFacts, ...]
    failures: tuple[FailedScan, ...]
    drift: Counter[str]


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the lookups by id brought into the lake.

    Attributes:
        completed: lookups with a response, 404 included.
        not_found: those with 404.
        errors: distinct errors of the operations.
        requests: requests made, retries included.
        failures: lookups that failed; they stay due.
        left: due lookups that are left for the next sync, since the time or request budget is spent.
    """

    completed: int = 0
    not_found: int = 0
    errors: int = 0
    requests: int = 0
    failures: tuple[FailedLookup, ...] = ()
    left: int = 0

    @property
    def landed(self) -> bool:
        """Whether anything landed. Failures do too, with the time of the attempt."""
        return bool(self.completed or self.failures)

    @classmethod
    def of(cls, batch: LookupBatch) -> "Lookups":
        """A batch that landed. Its failed lookups are not counted."""
        lookups = batch.lookups
        return cls(
            completed=lookups["error"].null_count,
            not_found=lookups.num_rows - lookups["not_found_at"].null_count,
            errors=batch.errors.num_rows,
            requests=batch.requests,
        )

    def __add__(self, other: "Lookups") -> "Lookups":
        """Both together."""
        return Lookups(
            self.completed + other.completed,
            self.not_found + other.not_found,
            self.errors + other.errors,
            self.requests + other.requests,
            self.failures + other.failures,
            self.left + other.left,
        )


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. Times are UTC by the API's clock; `seconds` is how long it took.

    Attributes:
        account_id: the account.
        now: when it began.
        extraction: what was scanned.
        left: due slots that are left for the next sync, since the request budget is spent.
        lookups: what was looked up by id.
        merges: the days that were merged.
        compacted: how many days were compacted; they do not change any more.
        errors: what could not be merged, compacted, derived or published, and why; also a ClockError if
            the archive has scans of the future.
        published: whether the warehouse was rebuilt.
        foreign: files in the lake that are not the archive's.
        seconds: elapsed real time.
    """

    account_id: str
    now: datetime
    extraction: Extraction
    left: int
    lookups: Lookups
    merges: tuple[MergeReport, ...]
    compacted: int
    errors: tuple[ArchiveError, ...]
    published: bool
    foreign: tuple[str, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every window was scanned, no lookup failed and every day was merged."""
        return not (self.extraction.failures or self.lookups.failures or self.errors)

    @staticmethod
    def nothing() -> dict[str, object]:
        """The figures of `summary` for accounts without a sync: zero or empty; without account and time."""
        empty = SyncReport(
            account_id="",
            now=datetime.min.replace(tzinfo=UTC),
            extraction=Extraction((), (), Counter()),
            left=0,
            lookups=Lookups(),
            merges=(),
            compacted=0,
            errors=(),
            published=False,
            foreign=(),
        ).summary()
        return {name: value for name, value in empty.items() if name not in ("account_id", "now")}

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON. `requests` counts landed scans and lookups, `retries` scans only."""
        scans, merges = self.extraction.scans, self.merges
        return {
            "account_id": self.account_id,
            "now": iso(self.now),
            "windows": len(scans) + len(self.extraction.failures),
            "failed_windows": [
                {"window": str(f.window), "error": str(f.error)} for f in self.extraction.failures
            ],
            "slots_left": self.left,
            "operations_seen": sum(scan.operations for scan in scans),
            "new": sum(report.new for report in merges),
            "changed": sum(report.changed for report in merges),
            "unchanged": sum(report.unchanged for report in merges),
            "rejects": sum(report.new_rejects for report in merges),
            "lookups": self.lookups.completed,
            "lookups_left": self.lookups.left,
            "failed_lookups": [
                {"operation_id": f.pending.operation_id, "error": str(f.error)}
                for f in self.lookups.failures
            ],
            "not_found": self.lookups.not_found,
            "operation_errors": self.lookups.errors,
            "requests": sum(scan.requests for scan in scans) + self.lookups.requests,
            "retries": sum(scan.retries for scan in scans),
            "days_merged": len(merges),
            "days_compacted": self.compacted,
            "errors": [str(error) for error in self.errors],
            "drift": dict(self.extraction.drift),
            "foreign_files": list(self.foreign),
            "published": self.published,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Derivation:
    """What deriving the delivery tables and the warehouse did.

    Attributes:
        errors: what could not be derived, and why; these days stay due.
        published: whether the warehouse was rebuilt.
    """

    errors: tuple[LakeError, ...] = ()
    published: bool = False

    def __add__(self, later: "Derivation") -> "Derivation":
        """Both, with the errors of the later one: it tried again what the first could not derive."""
        return Derivation(later.errors, self.published or later.published)
