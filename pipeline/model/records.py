"""The values that pass from the API's side to the lake's: a scan and what is known about it."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypeAlias

import pyarrow as pa

from pipeline.model.windows import Window

Subject: TypeAlias = Literal["operation", "errors"]


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """What one scan did: the proof of coverage. All times are UTC, by the API's clock (R10).

    Attributes:
        account_id: the account that was listed.
        window: what was listed.
        observed_at: when the scan began; the window is covered up to this moment, not beyond (R4).
        completed_at: when its last page was answered.
        complete: whether every page was read.
        pages: pages read.
        requests: requests made, retries included.
        retries: requests that had to be repeated.
        records: records in the answers.
        operations: distinct operations inside the window.
        outside: records outside the window, dropped: the margin's.
        duplicates: records that came again unchanged within the scan, dropped.
        rejects: records that could not be read.
    """

    account_id: str
    window: Window
    observed_at: datetime
    completed_at: datetime
    complete: bool
    pages: int
    requests: int
    retries: int
    records: int
    operations: int
    outside: int
    duplicates: int
    rejects: int


@dataclass(frozen=True, slots=True)
class Scan:
    """One complete listing of one window at one moment, not yet landed.

    Attributes:
        facts: what was done.
        operations: the states found, as `schema.OPERATIONS`.
        rejects: the records that could not be read, as `schema.REJECTS` but without `scan_id`,
            which the lake gives.
    """

    facts: ScanFacts
    operations: pa.Table
    rejects: pa.Table


@dataclass(frozen=True, slots=True)
class PendingLookup:
    """An operation to be asked about by its id. All times are UTC, by the API's clock.

    Attributes:
        partition: the account and day that it belongs to.
        operation_id: its id.
        subject: whether its state is wanted, or what failed in it.
        created_at: when it was created.
        observed_at: when its newest state was first seen.
        failed: its failed emails.
        requested_at: when it was last asked about; None if it never was.
    """

    partition: "Partition"
    operation_id: str
    subject: Subject
    created_at: datetime
    observed_at: datetime
    failed: int | None = None
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LookupBatch:
    """What was answered about single operations of one day, not yet landed.

    Attributes:
        partition: the account and day.
        requested_at: when the last of it was answered: UTC, by the API's clock.
        operations: the states found, as `schema.OPERATIONS`.
        rejects: the records that could not be read, as `schema.REJECTS` but without `scan_id`.
        lookups: what was asked, as `schema.LOOKUPS`.
        errors: the errors found, as `schema.OPERATION_ERRORS`.
        requests: requests made, retries included.
    """

    partition: "Partition"
    requested_at: datetime
    operations: pa.Table
    rejects: pa.Table
    lookups: pa.Table
    errors: pa.Table
    requests: int


@dataclass(frozen=True, slots=True)
class SlotCoverage:
    """What is known of one slot. All times are UTC, by the API's clock.

    Attributes:
        slot: its start.
        first_at: when a scan first covered any of it; None if none ever did.
        covered_at: up to when it is covered: at this moment or later, scans listed every part of it.
            None if a part of it was never listed.
        scans: how many scans covered any of it.
        operations: how many operations they found in it the last time, estimated from their windows.
        late_at: when the last scan of any of it began that ended after the deadline. Such a scan covers
            nothing: the API may have left records out.
    """

    slot: datetime
    first_at: datetime | None = None
    covered_at: datetime | None = None
    scans: int = 0
    operations: float = 0.0
    late_at: datetime | None = None


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """One day of one account: the unit of storage, of locking and of merging."""

    account_id: str
    day: date

    def fields(self) -> dict[str, str]:
        """What it is, for a log record."""
        return {"account_id": self.account_id, "day": self.day.isoformat()}

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"
