"""What a sync did: results of its steps, and the report of the whole."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import ArchiveError
from pipeline.extract.lookup import FailedLookup
from pipeline.extract.scan import FailedScan
from pipeline.lake.layout import LakeError
from pipeline.lake.merge import MergeReport
from pipeline.model.records import ScanFacts
from pipeline.model.times import iso


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
class Lookups:
    """What asking about single operations brought into the lake.

    Attributes:
        asked: questions that were answered, 404 included.
        gone: those that the API answered with 404.
        errors: distinct errors that the API returned, by operation.
        requests: requests made, retries included.
        failures: questions that were not answered; they stay due.
        left: lookups that the budgets of time and requests left for the next sync.
    """

    asked: int = 0
    gone: int = 0
    errors: int = 0
    requests: int = 0
    failures: tuple[FailedLookup, ...] = ()
    left: int = 0

    @property
    def landed(self) -> bool:
        """Whether anything landed: failures do too, with the time of the question."""
        return bool(self.asked or self.failures)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. Times are UTC by the API's clock; `seconds` is how long it took.

    Attributes:
        account_id: the account.
        now: when it began.
        extraction: what was scanned.
        left: due slots that the budget of requests left for the next sync.
        lookups: what was asked about single operations.
        merges: the days that were merged.
        compacted: how many days were compacted: nothing of them will change.
        errors: what could not be merged, compacted, derived or published, and why; or that the archive
            has scans of the future.
        published: whether the warehouse was built anew.
        foreign: files in the lake that are none of the archive's.
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
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every window was scanned, every question answered and every day merged."""
        return not (self.extraction.failures or self.lookups.failures or self.errors)

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON; `requests` are those of what landed, `retries` of the scans."""
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
            "lookups": self.lookups.asked,
            "lookups_left": self.lookups.left,
            "failed_lookups": [
                {"operation_id": f.watched.operation_id, "error": str(f.error)}
                for f in self.lookups.failures
            ],
            "gone": self.lookups.gone,
            "operation_errors": self.lookups.errors,
            "requests": sum(scan.requests for scan in scans) + self.lookups.requests,
            "retries": sum(scan.retries for scan in scans),
            "days_merged": len(merges),
            "days_compacted": self.compacted,
            "errors": [str(error) for error in self.errors],
            "surprises": dict(self.extraction.surprises),
            "foreign_files": list(self.foreign),
            "published": self.published,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Derivation:
    """What deriving the delivery tables and the warehouse did.

    Attributes:
        errors: what could not be derived, and why; it stays due.
        published: whether the warehouse was built anew.
    """

    errors: tuple[LakeError, ...] = ()
    published: bool = False

    def __add__(self, later: "Derivation") -> "Derivation":
        """Both: what could not be derived is what the later one could not derive."""
        return Derivation(later.errors, self.published or later.published)
