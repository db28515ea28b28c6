"""Scans: the complete listing of a window as tables that can land.

A scan queries its window with a margin, drops records outside the window and duplicates (R7), and gives
every state the time when the scan began, by the API's clock (R10).
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArchiveError
from pipeline.extract.cutting import Ended, may_be_capped, outgrows, parts_of
from pipeline.extract.planner import WINDOW_PAGES
from pipeline.extract.threads import workers
from pipeline.model.records import Scan, ScanFacts
from pipeline.model.schema import OPERATIONS, RECORD_SCHEMA, REJECTS, TIMESTAMP
from pipeline.model.windows import Window
from pipeline.twilio.client import OperationsClient, Page
from pipeline.twilio.errors import ApiError, CredentialsError, PageTokenError
from pipeline.twilio.parsing import Reject, drift

log = logging.getLogger(__name__)

MAX_PAGES: Final = 2 * WINDOW_PAGES
"""A window with more pages than this is split while it is listed."""

_RESTARTS: Final = 2
"""How often a listing is restarted after a refused page token, if the window can't be split."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SMALLEST: Final = timedelta(seconds=1)

_REJECT_SCHEMA = pa.schema([field for field in REJECTS.arrow if field.name != "scan_id"])


@dataclass(frozen=True, slots=True)
class ScanResult:
    """A scan, what is new in it, and the windows that remain to be scanned.

    Attributes:
        scan: what lands.
        drift: unknown statuses, unknown fields and ids of another format, with the number of records.
        parts: the windows to scan instead, if this one outgrew its page budget. The scan is incomplete
            then: its records land, but it adds no coverage (R4).
    """

    scan: Scan
    drift: Counter[str]
    parts: tuple[Window, ...] = ()

    @property
    def window(self) -> Window:
        """The window that was scanned."""
        return self.scan.facts.window


@dataclass(frozen=True, slots=True)
class FailedScan:
    """A window that could not be listed or stored. Nothing of it lands; it stays due."""

    window: Window
    error: ArchiveError


def scan_window(
    client: OperationsClient,
    account_id: str,
    window: Window,
    on_page: Callable[[Page], None] = lambda _: None,
    max_pages: int = MAX_PAGES,
) -> ScanResult:
    """List one window completely, or up to its page budget.

    Args:
        client: the API.
        account_id: the account that the client's credentials read.
        window: what to list.
        on_page: called with each page as it arrives.
        max_pages: the budget, in full pages of the window's own operations. If the window outgrows it, or
            the API ends the listing early, the result has the parts to scan instead. A window of one
            second can't be split and is listed to its end.

    Raises:
        ApiError: a page could not be fetched; nothing of the window is used.
    """
    began = time.monotonic()
    listed = _list_with_restarts(client, account_id, window, on_page, max_pages)
    observed_at = min(page.observed_at for page in listed.pages)
    inside = pa.concat_tables([RECORD_SCHEMA.empty_table(), *listed.found])
    states, operations = _distinct(inside)
    rejects = [one for page in listed.pages for one in page.rejects if _may_belong_to(one, window)]
    records = sum(page.records for page in listed.pages)
    is_complete = listed.ended == "complete"
    facts = ScanFacts(
        account_id=account_id,
        window=window,
        # A cached page may be older than the first one: a scan is as old as its oldest page.
        observed_at=observed_at,
        completed_at=max(page.observed_at for page in listed.pages),
        complete=is_complete,
        pages=len(listed.pages),
        requests=listed.requests,
        retries=listed.requests - len(listed.pages),
        records=records,
        operations=operations,
        outside=records - inside.num_rows - len(rejects),
        duplicates=inside.num_rows - states.num_rows,
        rejects=len(rejects),
    )
    _log_scan(facts, listed.pages, time.monotonic() - began)
    scan = Scan(facts, observed(states, observed_at), rejects_table(rejects, observed_at))
    parts = () if is_complete else parts_of(window, inside, listed.pages, listed.ended)
    return ScanResult(scan, drift(states), parts)


@dataclass(frozen=True, slots=True)
class _Listed:
    """The pages of a window, the operations of each that are in the window, and how the listing ended."""

    pages: Sequence[Page]
    found: Sequence[pa.Table]
    ended: Ended
    requests: int = 0


def _list_with_restarts(
    client: OperationsClient,
    account_id: str,
    window: Window,
    on_page: Callable[[Page], None],
    max_pages: int,
) -> _Listed:
    """List a window. Restart if a page token is refused, or with smaller pages if pages fail."""
    requests = refused_tokens = 0

    def count(page: Page) -> None:
        nonlocal requests
        requests += page.attempts
        on_page(page)

    while True:
        size = client.page_size.current
        try:
            return replace(_list(client, window, size, count, max_pages), requests=requests)
        except PageTokenError as error:
            refused_tokens += 1
            if refused_tokens > _RESTARTS:
                raise
            requests += error.attempts
            log.warning("%s", error, extra=_about(account_id, window, error))
        except ApiError as error:
            # It is not documented whether a token works with another page size, so the listing restarts.
            smaller = client.page_size.after_failure(size, error)
            if smaller is None:
                raise
            requests += error.attempts
            log.warning(
                "%s. Pages of %d operations fail; %s is listed again with pages of %d, as if "
                "EMAIL_ARCHIVE_PAGE_SIZE were %d",
                *(error, size, window, smaller, smaller),
                extra=_about(account_id, window, error),
            )


def _list(
    client: OperationsClient,
    window: Window,
    page_size: int,
    on_page: Callable[[Page], None],
    max_pages: int,
) -> _Listed:
    pages: list[Page] = []
    found: list[pa.Table] = []
    can_be_split = window.end - window.start > _SMALLEST
    listing = client.pages(window, page_size=page_size)
    while True:
        # Pages without operations of the window depend on the API's filter, not on the window's size. Its
        # parts would have as many of them, and would be split for ever.
        may_be_split = can_be_split and any(table.num_rows for table in found)
        try:
            page = next(listing, None)
        except PageTokenError as error:
            if not may_be_split:
                raise
            log.warning("%s is split: %s", window, error)
            return _Listed(pages, found, "capped")
        if page is None:
            is_capped = may_be_split and may_be_capped(pages)
            return _Listed(pages, found, "capped" if is_capped else "complete")
        pages.append(page)
        on_page(page)
        found.append(_inside(page.operations, window))
        has_more = can_be_split and page.next_token is not None
        if has_more and outgrows(window, pages, found, max_pages):
            return _Listed(pages, found, "outgrown")


def scan_windows(
    client: OperationsClient,
    account_id: str,
    windows: Iterable[Window],
    *,
    concurrency: int,
    on_page: Callable[[Page], None] = lambda _: None,
) -> Generator[ScanResult | FailedScan, None, None]:
    """Scan many windows concurrently; yield each result as it is done, in no particular order.

    A window that outgrows its page budget yields what was listed of it; its parts are scanned next. A window
    that fails does not stop the others.

    To bound memory, at most 1.5 x `concurrency` scans are queued, running or unconsumed, plus one for each
    request that many later ones have overtaken. Closing the generator cancels queued scans; running ones
    end at their next page and are not waited for.

    Raises:
        CredentialsError: the API refuses the credentials, so that every window would fail.
    """
    stop = threading.Event()
    scan = partial(_scan_or_failure, client, account_id, on_page=_unless(stop, on_page))
    queue = deque(windows)
    with workers(3 * concurrency, "scan") as pool:
        running: set[Future[ScanResult | FailedScan]] = set()
        try:
            while True:
                most = concurrency + concurrency // 2 + client.overtaken
                while len(running) < most and queue:
                    running.add(pool.submit(scan, queue.popleft()))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                while done:
                    outcome = done.pop().result()
                    if isinstance(outcome, ScanResult):
                        queue.extendleft(reversed(outcome.parts))
                    else:
                        _log_failure(account_id, outcome)
                    yield outcome
                    del outcome  # frees its memory as soon as the caller is done with it
        finally:
            stop.set()
            for future in running:
                future.cancel()


def _scan_or_failure(
    client: OperationsClient, account_id: str, window: Window, on_page: Callable[[Page], None]
) -> ScanResult | FailedScan:
    try:
        return scan_window(client, account_id, window, on_page)
    except CredentialsError:
        raise
    except ApiError as error:
        return FailedScan(window, error)


class _StoppedError(Exception):
    """Ends a scan whose result is no longer wanted."""


def _unless(stop: threading.Event, on_page: Callable[[Page], None]) -> Callable[[Page], None]:
    """`on_page`, but raising `_StoppedError` once `stop` is set."""

    def call(page: Page) -> None:
        if stop.is_set():
            raise _StoppedError
        on_page(page)

    return call


def _log_failure(account_id: str, failed: FailedScan) -> None:
    about = {"event": "scan_failed", **_about(account_id, failed.window, failed.error)}
    log.warning("window %s failed: %s", failed.window, failed.error, extra=about)


def _log_scan(facts: ScanFacts, pages: Sequence[Page], seconds: float) -> None:
    log.info(
        "scanned %s %s: %d operations, %d pages",
        facts.account_id,
        facts.window,
        facts.operations,
        facts.pages,
        extra={
            "event": "scan",
            "account_id": facts.account_id,
            "window": str(facts.window),
            "complete": facts.complete,
            "operations": facts.operations,
            "pages": facts.pages,
            "requests": facts.requests,
            "retries": facts.retries,
            "rejects": facts.rejects,
            "seconds": round(seconds, 6),
            "request_ids": [page.request_id for page in pages if page.request_id],
        },
    )


def _about(account_id: str, window: Window, error: ArchiveError) -> dict[str, object]:
    """The fields of a log record that say what failed."""
    about: dict[str, object] = {"account_id": account_id, "window": str(window)}
    if isinstance(error, ApiError):
        about |= {"status": error.status, "code": error.code, "request_id": error.request_id}
    return about


def _inside(operations: pa.Table, window: Window) -> pa.Table:
    """The operations created in the window. Nothing is copied if they are contiguous."""
    # Compared as integers: converting a page's times to datetime costs more than the comparison.
    created_at = operations["created_at"].to_numpy().view(np.int64)
    start, end = (_microseconds(bound) for bound in (window.start, window.end))
    if not len(created_at) or (start <= created_at.min() and created_at.max() < end):
        return operations
    places = np.flatnonzero((start <= created_at) & (created_at < end))
    if not len(places) or places[-1] - places[0] == len(places) - 1:
        return operations.slice(places[0] if len(places) else 0, len(places))
    return operations.take(pa.array(places))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _may_belong_to(reject: Reject, window: Window) -> bool:
    """Whether a reject may belong to the window: its creation time is inside, or unknown."""
    return reject.created_at is None or window.start <= reject.created_at < window.end


def _distinct(states: pa.Table) -> tuple[pa.Table, int]:
    """The states without duplicates, and the number of operations.

    Two different states of one operation are both kept: both were observed (R1).
    """
    ids = states["operation_id"].combine_chunks()
    if pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
        return states, states.num_rows  # most listings are in this order: no hash table needed
    operations = pc.count_distinct(ids).as_py()
    if operations == states.num_rows:
        return states, operations
    names = states.schema.names
    distinct = states.group_by(names, use_threads=False).aggregate([])
    return distinct.select(names).cast(states.schema), operations


def observed(states: pa.Table, observed_at: datetime, *, by_id: bool = False) -> pa.Table:
    """Records (`schema.RECORD_SCHEMA`) as states (`schema.OPERATIONS`).

    Args:
        states: the records.
        observed_at: when they were observed: UTC, by the API's clock.
        by_id: whether they were looked up by id, and not listed.
    """
    columns = {name: states[name] for name in states.schema.names}
    columns["observed_at"] = _repeated(observed_at, states.num_rows)
    columns["looked_up_at"] = _repeated(observed_at if by_id else None, states.num_rows)
    return pa.table([columns[name] for name in OPERATIONS.names], schema=OPERATIONS.arrow)


def rejects_table(rejects: Sequence[Reject], observed_at: datetime) -> pa.Table:
    """Rejects as `schema.REJECTS` without `scan_id`."""
    rows: list[dict[str, Any]] = [
        {
            "reason": reject.reason,
            "raw": reject.raw,
            "operation_id": reject.operation_id,
            "created_at": reject.created_at,
            "observed_at": observed_at,
        }
        for reject in rejects
    ]
    return pa.Table.from_pylist(rows, schema=_REJECT_SCHEMA)


def _repeated(moment: datetime | None, times: int) -> pa.Array:
    return pa.repeat(pa.scalar(moment, TIMESTAMP), times)
