"""The records that `twilio`, `extract` and `lake` exchange: scans, lookups, slot coverage and partitions."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, TypeAlias

import pyarrow as pa

from pipeline.model.windows import Window

Subject: TypeAlias = Literal["operation", "errors"]


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """One scan's row of `coverage`: what it listed, when, and with what result. All times are UTC (R10).

    Attributes:
        account_id: the account that was listed.
        window: the window that was listed.
        observed_at: when the scan began; the window is covered up to this moment (R4).
        completed_at: when the API returned the last page.
        complete: whether every page was read.
        pages: pages read.
        requests: requests made, retries included.
        retries: requests that were retries.
        records: records in the responses.
        operations: distinct operations inside the window.
        outside: records outside the window, in the margin of the query; dropped.
        duplicates: records returned more than once within the scan; dropped.
        rejects: records that could not be parsed.
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
        facts: its row of `coverage`.
        operations: the observed states, as `schema.OPERATIONS`.
        rejects: the records that could not be parsed, as `schema.REJECTS` without `scan_id`, which the lake
            adds.
    """

    facts: ScanFacts
    operations: pa.Table
    rejects: pa.Table


@dataclass(frozen=True, slots=True)
class PendingLookup:
    """An operation to be looked up by id. All times are UTC, by the API's clock.

    Attributes:
        partition: its account and day.
        operation_id: its id.
        subject: whether to request its state or the errors of its failed emails.
        created_at: when it was created.
        observed_at: when its newest state was first observed.
        failed: its failed emails.
        requested_at: when it was last requested; None if never.
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
    """The results of some lookups of one day, not yet landed.

    Attributes:
        partition: the account and day.
        requested_at: the time of the latest response: UTC, by the API's clock.
        operations: the states returned, as `schema.OPERATIONS`.
        rejects: the records that could not be parsed, as `schema.REJECTS` without `scan_id`.
        lookups: the requests, as `schema.LOOKUPS`.
        errors: the errors returned, as `schema.OPERATION_ERRORS`.
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
    """The coverage of one slot. All times are UTC, by the API's clock.

    Attributes:
        slot: its start.
        first_at: when a scan first covered any of it; None if none did.
        covered_at: the slot is covered up to this moment: at this moment or later, scans listed every part of
            it. None if a part was never listed.
        scans: the number of scans that covered any of it.
        operations: its operations according to the last scans, estimated from their windows.
        late_at: when the last scan of any of it began that ended after the deadline. Such a scan covers
            nothing, since the API may have left records out.
    """

    slot: datetime
    first_at: datetime | None = None
    covered_at: datetime | None = None
    scans: int = 0
    operations: float = 0.0
    late_at: datetime | None = None


@dataclass(frozen=True, order=True, slots=True)
class Partition:
    """One day of one account: the unit of storage, locking and merging."""

    account_id: str
    day: date

    def fields(self) -> dict[str, str]:
        """Its fields in a log record."""
        return {"account_id": self.account_id, "day": self.day.isoformat()}

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"
