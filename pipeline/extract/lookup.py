"""Lookups by id: operations whose final state no listing will show, and the errors of failures.

An operation may still be scheduled when listings begin to omit it, and listings do not include errors.
Responses land like scans but add no coverage.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import ArchiveError
from pipeline.extract.scan import observed, rejects_table
from pipeline.extract.threads import workers
from pipeline.model.records import LookupBatch, Partition, PendingLookup, Subject
from pipeline.model.schema import LOOKUPS, OPERATION_ERRORS, RECORD_SCHEMA
from pipeline.twilio.client import OperationErrors, OperationsClient, Page
from pipeline.twilio.errors import (
    ApiError,
    CredentialsError,
    NotFoundError,
    RetriableApiError,
    UnexpectedResponseError,
)

log = logging.getLogger(__name__)

LOOKUPS_PER_BATCH: Final = 200
"""Lookups per landed batch: few enough to lose little when the process dies."""

_MAX_FAILURES: Final = 3
"""Failures after which a subject is skipped for the rest of the run: the API may be failing."""


@dataclass(frozen=True, slots=True)
class FailedLookup:
    """A lookup that failed; it is retried in later syncs, at growing intervals."""

    pending: PendingLookup
    error: ArchiveError


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A lookup and its result; without page, errors or error, the API returned 404."""

    pending: PendingLookup
    requested_at: datetime
    requests: int
    page: Page | None = None
    errors: OperationErrors | None = None
    error: ApiError | None = None


def look_up(
    client: OperationsClient,
    pending: Iterable[PendingLookup],
    now: datetime,
    *,
    concurrency: int,
    is_time_up: Callable[[], bool] = lambda: False,
) -> Iterator[LookupBatch | FailedLookup]:
    """Look up operations on threads; yield the results in batches, each of one day.

    Batches include failed lookups, so that these are not repeated at once and a permanent failure does
    not delay other lookups.

    Args:
        client: the API.
        pending: what to look up, the most urgent first.
        now: the API's time when the run began, used for responses without a date.
        concurrency: lookups in flight at once.
        is_time_up: called before each lookup; once it returns true, no more are started.
    """
    worker = _LookupWorker(client, now, is_time_up)
    lookups = list(pending)
    with workers(concurrency, "lookup") as pool:
        for first in range(0, len(lookups), LOOKUPS_PER_BATCH):
            if is_time_up():
                break
            outcomes = [
                pool.submit(worker.look_up, one)
                for one in lookups[first : first + LOOKUPS_PER_BATCH]
            ]
            done = [one for outcome in outcomes if (one := outcome.result()) is not None]
            yield from (FailedLookup(one.pending, one.error) for one in done if one.error)
            yield from _by_day(done)


class _LookupWorker:
    """Looks up operations. Skips a subject that has failed too often, and all of them when time is up."""

    def __init__(
        self, client: OperationsClient, now: datetime, is_time_up: Callable[[], bool]
    ) -> None:
        self._client = client
        self._now = now
        self._is_time_up = is_time_up
        self._failures: Counter[Subject] = Counter()
        self._lock = threading.Lock()

    def look_up(self, pending: PendingLookup) -> _Lookup | None:
        """The result of one lookup; None if it was skipped."""
        if self._failures[pending.subject] >= _MAX_FAILURES or self._is_time_up():
            return None
        try:
            return self._look_up(pending)
        except NotFoundError as error:
            return _Lookup(pending, error.responded_at or self._now, error.attempts)
        except ApiError as error:
            # Credentials that may list operations may not be allowed to fetch single ones.
            if isinstance(error, CredentialsError):
                self._count(pending.subject, _MAX_FAILURES)
            elif isinstance(error, RetriableApiError):
                self._count(pending.subject, 1)
            log.warning(
                "%s of %s: %s",
                pending.subject,
                pending.operation_id,
                error,
                extra={
                    "event": "lookup_failed",
                    "account_id": pending.partition.account_id,
                    "day": str(pending.partition.day),
                    "operation_id": pending.operation_id,
                    "subject": pending.subject,
                    "request_id": error.request_id,
                },
            )
            requested_at = error.responded_at or self._now
            return _Lookup(pending, requested_at, error.attempts, error=error)

    def _count(self, subject: Subject, failures: int) -> None:
        with self._lock:
            self._failures[subject] += failures

    def _look_up(self, pending: PendingLookup) -> _Lookup:
        if pending.subject == "errors":
            errors = self._client.operation_errors(pending.operation_id)
            return _Lookup(pending, errors.observed_at, errors.attempts, errors=errors)
        page = self._client.operation(pending.operation_id)
        for row in page.operations.select(["operation_id", "created_at"]).to_pylist():
            day = row["created_at"].astimezone(UTC).date()
            if row["operation_id"] != pending.operation_id or day != pending.partition.day:
                msg = (
                    f"expected operation {pending.operation_id} of {pending.partition.day}; got "
                    f"{row['operation_id'][:80]} of {day}"
                )
                raise UnexpectedResponseError(msg, request_id=page.request_id)
        return _Lookup(pending, page.observed_at, page.attempts, page=page)


def _by_day(done: Iterable[_Lookup]) -> Iterator[LookupBatch]:
    ordered = sorted(done, key=lambda one: (one.pending.partition, one.pending.operation_id))
    for partition, group in groupby(ordered, key=lambda one: one.pending.partition):
        yield _batch_of(partition, list(group))


def _batch_of(partition: Partition, done: Sequence[_Lookup]) -> LookupBatch:
    pages = [(one, one.page) for one in done if one.page is not None]
    states = [observed(page.operations, one.requested_at, by_id=True) for one, page in pages]
    rejects = [rejects_table(page.rejects, one.requested_at) for one, page in pages]
    empty = observed(RECORD_SCHEMA.empty_table(), done[0].requested_at)
    return LookupBatch(
        partition,
        requested_at=max(one.requested_at for one in done),
        operations=pa.concat_tables([empty, *states]),
        rejects=pa.concat_tables([rejects_table((), done[0].requested_at), *rejects]),
        lookups=pa.Table.from_pylist([_lookup(one) for one in done], schema=LOOKUPS.arrow),
        errors=pa.Table.from_pylist(
            [row for one in done for row in _errors(one)], schema=OPERATION_ERRORS.arrow
        ),
        requests=sum(one.requests for one in done),
    )


def _lookup(one: _Lookup) -> dict[str, Any]:
    is_not_found = one.page is None and one.errors is None and one.error is None
    return {
        "operation_id": one.pending.operation_id,
        "subject": one.pending.subject,
        "requested_at": one.requested_at,
        "failed": one.pending.failed if one.pending.subject == "errors" else None,
        "not_found_at": one.requested_at if is_not_found else None,
        "error": str(one.error) if one.error else None,
    }


def _errors(one: _Lookup) -> list[dict[str, Any]]:
    found = Counter(one.errors.errors if one.errors else ())
    return [
        {
            "operation_id": one.pending.operation_id,
            "code": error.code,
            "message": error.message,
            "raw": error.raw,
            "occurrences": times,
            "observed_at": one.requested_at,
        }
        for error, times in found.items()
    ]
