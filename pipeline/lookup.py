"""Single operations by their ids: those that a listing no longer settles, and the errors of failures.

An operation may still be scheduled when the API's listings begin to forget it, and what failed in an
operation is in no listing. What is answered lands like a scan, and covers nothing.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import ArchiveError
from pipeline.facts import Answers, Partition, Subject, Watched
from pipeline.scan import observed, rejects_table
from pipeline.schema import LOOKUPS, OPERATION_ERRORS, RECORD_SCHEMA
from pipeline.threads import workers
from pipeline.twilio.client import OperationErrors, OperationsClient, Page
from pipeline.twilio.errors import ApiError, CredentialsError, GoneError, UnexpectedAnswerError

log = logging.getLogger(__name__)

_BATCH: Final = 200
"""Questions whose answers land together: few enough to lose little when the process dies."""

_PATIENCE: Final = 3
"""Failures after which a subject is given up for this run: it stays due, and the API gets a rest."""


@dataclass(frozen=True, slots=True)
class FailedLookup:
    """A question that was not answered, nor were those about the same subject after it; it stays due."""

    watched: Watched
    error: ArchiveError


@dataclass(frozen=True, slots=True)
class _Answered:
    """One answer; both None if the API does not know the operation any more."""

    watched: Watched
    asked_at: datetime
    requests: int
    page: Page | None = None
    errors: OperationErrors | None = None


def look_up(
    client: OperationsClient, watched: Iterable[Watched], now: datetime, *, concurrency: int
) -> Iterator[Answers | FailedLookup]:
    """Ask about single operations on threads; give the answers in batches, each of one day.

    Args:
        client: the API.
        watched: what to ask, the most urgent first.
        now: the API's time when the run began: that of an answer without a date of its own.
        concurrency: questions under way at once.

    Raises:
        CredentialsError: the API refuses the credentials.
    """
    desk = _Desk(client, now)
    every = list(watched)
    with workers(concurrency, "lookup") as pool:
        for first in range(0, len(every), _BATCH):
            outcomes = list(pool.map(desk.ask, every[first : first + _BATCH]))
            yield from (one for one in outcomes if isinstance(one, FailedLookup))
            answered = [one for one in outcomes if isinstance(one, _Answered)]
            yield from _by_day(answered)


class _Desk:
    """Asks, and stops asking about a subject once that has failed too often."""

    def __init__(self, client: OperationsClient, now: datetime) -> None:
        self._client = client
        self._now = now
        self._failures: Counter[Subject] = Counter()
        self._lock = threading.Lock()

    def ask(self, watched: Watched) -> _Answered | FailedLookup | None:
        """One answer; None if the subject is given up."""
        if self._failures[watched.subject] >= _PATIENCE:
            return None
        try:
            return self._ask(watched)
        except GoneError as gone:
            return _Answered(watched, gone.answered_at or self._now, requests=1)
        except CredentialsError:
            raise
        except ApiError as error:
            with self._lock:
                self._failures[watched.subject] += 1
            log.warning(
                "%s of %s: %s",
                watched.subject,
                watched.operation_id,
                error,
                extra={
                    "event": "lookup_failed",
                    "account_id": watched.partition.account_id,
                    "day": str(watched.partition.day),
                    "operation_id": watched.operation_id,
                    "subject": watched.subject,
                    "request_id": error.request_id,
                },
            )
            return FailedLookup(watched, error)

    def _ask(self, watched: Watched) -> _Answered:
        if watched.subject == "errors":
            errors = self._client.operation_errors(watched.operation_id)
            return _Answered(watched, errors.observed_at, errors.attempts, errors=errors)
        page = self._client.operation(watched.operation_id)
        for row in page.operations.select(["operation_id", "created_at"]).to_pylist():
            day = row["created_at"].astimezone(UTC).date()
            if row["operation_id"] != watched.operation_id or day != watched.partition.day:
                msg = (
                    f"expected operation {watched.operation_id} of {watched.partition.day}; got "
                    f"{row['operation_id'][:80]} of {day}"
                )
                raise UnexpectedAnswerError(msg, request_id=page.request_id)
        return _Answered(watched, page.observed_at, page.attempts, page=page)


def _by_day(answered: Iterable[_Answered]) -> Iterator[Answers]:
    ordered = sorted(answered, key=lambda one: (one.watched.partition, one.watched.operation_id))
    for partition, group in groupby(ordered, key=lambda one: one.watched.partition):
        yield _answers(partition, list(group))


def _answers(partition: Partition, answered: Sequence[_Answered]) -> Answers:
    pages = [(one, one.page) for one in answered if one.page is not None]
    states = [observed(page.operations, one.asked_at) for one, page in pages]
    rejects = [rejects_table(page.rejects, one.asked_at) for one, page in pages]
    nothing = observed(RECORD_SCHEMA.empty_table(), answered[0].asked_at)
    return Answers(
        partition,
        asked_at=max(one.asked_at for one in answered),
        operations=pa.concat_tables([nothing, *states]),
        rejects=pa.concat_tables([rejects_table((), answered[0].asked_at), *rejects]),
        lookups=pa.Table.from_pylist([_lookup(one) for one in answered], schema=LOOKUPS.arrow),
        errors=pa.Table.from_pylist(
            [row for one in answered for row in _errors(one)], schema=OPERATION_ERRORS.arrow
        ),
        requests=sum(one.requests for one in answered),
    )


def _lookup(one: _Answered) -> dict[str, Any]:
    is_gone = one.page is None and one.errors is None
    return {
        "operation_id": one.watched.operation_id,
        "subject": one.watched.subject,
        "asked_at": one.asked_at,
        "failed": one.watched.failed if one.watched.subject == "errors" else None,
        "gone_at": one.asked_at if is_gone else None,
    }


def _errors(one: _Answered) -> list[dict[str, Any]]:
    found = Counter(one.errors.errors if one.errors else ())
    return [
        {
            "operation_id": one.watched.operation_id,
            "code": error.code,
            "message": error.message,
            "raw": error.raw,
            "occurrences": times,
            "observed_at": one.asked_at,
        }
        for error, times in found.items()
    ]
