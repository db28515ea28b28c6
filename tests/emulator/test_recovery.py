"""What the client and a sync make of the emulator's faults."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.emulator import FAULTS, Emulator, Faults, Options, World
from pipeline.emulator.faults import CLOCKS, PAGE_SIZES, REFUSALS
from pipeline.emulator.listing import Order
from pipeline.extract.scan import ScanResult, scan_window, scan_windows
from pipeline.model.schema import OPERATIONS, REJECTS
from pipeline.model.windows import Window
from pipeline.settings import Settings
from pipeline.sync import Range, sync
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import PageTokenError, RetriableApiError
from tests.support.archives import account, rows, sync_all, unlike_truth
from tests.support.cases import some
from tests.support.factories import at

START = at("2026-11-10")
NOW = at("2026-11-12 12:00")
HOUR = timedelta(hours=1)
WORLD = World(6, 150.0, START)
DAY = Window.of_day(START.date())
PAGE = 20
SCOPE = Range(START, START + timedelta(days=3))
PASSING = [
    kind
    for kind in FAULTS
    if kind not in ("stale", "partial", "malformed", "late", *CLOCKS)
    and not kind.startswith("capped")
]
TRANSIENT = (
    *REFUSALS,
    "reset",
    "reset-midway",
    "length-short",
    "length-long",
    "html",
    "gzip",
    "truncated",
)


def no_wait(_: float) -> None:
    """Time is the emulator's."""


@contextmanager
def troubled(folder: Path, faults: Faults, **fields: Any) -> Iterator[tuple[Emulator, Settings]]:
    options = Options(faults=faults)
    with account(WORLD, NOW, folder, options=options, page_size=PAGE, **fields) as found:
        yield found


@pytest.mark.parametrize("kind", TRANSIENT)
def test_client_mends_what_passes(tmp_path: Path, kind: str):
    """R9: and never takes a broken answer for an empty one."""
    with troubled(tmp_path, Faults(script=[kind, kind])) as (emulator, settings):
        with OperationsClient(settings, sleep=no_wait) as client:
            pages = list(client.pages(DAY))
        assert emulator.injected == {kind: 2}
    assert pages[0].attempts >= 3
    assert sum(page.records for page in pages) == len(
        WORLD.numbers(START, START + timedelta(days=1))
    )


@pytest.mark.parametrize("kind", TRANSIENT)
def test_client_reports_persistent_faults(tmp_path: Path, kind: str):
    with (
        troubled(tmp_path, Faults(rates={kind: 1.0}), retry_attempts=3) as (emulator, settings),
        OperationsClient(settings, sleep=no_wait) as client,
    ):
        with pytest.raises(RetriableApiError, match="tried 3 times"):
            list(client.pages(DAY))
        # A line whose length lied is ended: the next try may find out only then.
        assert emulator.injected[kind] == 3 or (
            kind == "length-short" and emulator.injected[kind] == 2
        )


@pytest.mark.parametrize("kind", ["token-refused", "token-loop"])
def test_dead_page_token_is_an_error_of_its_own(tmp_path: Path, kind: str):
    with (
        troubled(tmp_path, Faults(script=[None, kind])) as (_, settings),
        OperationsClient(settings, sleep=no_wait) as client,
        pytest.raises(PageTokenError),
    ):
        list(client.pages(DAY))


@pytest.mark.parametrize(
    "kind",
    some(sorted(PASSING, key=lambda kind: PASSING.index(kind) % 3), len(PASSING) // 3),
)
def test_archive_equals_the_truth_whatever_goes_wrong(tmp_path: Path, kind: str):
    """R7: one request in five; what a window's own retries do not mend, the next sync does."""
    rate = 0.05 if kind.startswith("token") else 0.2
    faults = Faults(3, {kind: rate}, large_page=PAGE - 1)
    with troubled(tmp_path, faults, retry_attempts=8, read_timeout=0.5) as (emulator, settings):
        for _ in range(5):
            if sync(settings, scope=SCOPE, sleep=no_wait, publishing=False).ok:
                break
        assert emulator.injected[kind] > 0
        problems = unlike_truth(emulator, tmp_path, START, [NOW])
    if kind == "unknown-status":
        assert all("status PAUSED" in problem for problem in problems)
    else:
        assert problems == []
    assert rows(tmp_path, REJECTS).num_rows == 0


@contextmanager
def busy(
    folder: Path, faults: Faults, order: Order = "oldest", **fields: Any
) -> Iterator[tuple[Emulator, Settings]]:
    """An account with 3,000 operations a day."""
    world = World(6, 3000.0, START)
    options = Options(faults=faults, order=order)
    with account(world, START + timedelta(hours=12), folder, options=options, **fields) as found:
        yield found


@pytest.mark.parametrize(
    ("kind", "order"),
    [("capped", "oldest"), ("capped", "scrambled"), ("capped-silently", "newest")],
)
def test_capped_listing_is_cut_until_it_is_complete(tmp_path: Path, kind: str, order: Order):
    """R4, R7"""
    faults = Faults(rates={kind: 1.0}, cap=500)
    with busy(tmp_path, faults, order, page_size=250) as (emulator, settings):
        report = sync(settings, scope=Range(START, START + timedelta(days=1)), publishing=False)
        assert report.ok
        assert emulator.injected[kind] > 0
        assert unlike_truth(emulator, tmp_path, START, [emulator.clock.now()]) == []
        assert len(emulator.requests) < 60


def page_sizes(emulator: Emulator) -> list[int]:
    """The sizes of the pages that listings asked for, in order."""
    return [int(one.query["pageSize"]) for one in emulator.requests if "startDate" in one.query]


@pytest.mark.parametrize("kind", PAGE_SIZES)
def test_page_size_is_halved_until_pages_come(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    """R4: and kept for the rest of the run; the next run begins with the setting."""
    faults = Faults(rates={kind: 1.0}, large_page=300)
    fields = {"retry_attempts": 2, "read_timeout": 0.3, "concurrency": 1}
    with busy(tmp_path, faults, **fields) as (emulator, settings):
        windows = [Window(START + n * HOUR, START + (n + 1) * HOUR) for n in range(3)]
        with OperationsClient(settings, sleep=no_wait) as client:
            listings = list(scan_windows(client, settings.account_sid, windows, concurrency=1))
        assert all(isinstance(one, ScanResult) and one.scan.facts.complete for one in listings)
        assert emulator.injected == {kind: 4}
        assert set(page_sizes(emulator)) == {250}
        assert "as if EMAIL_ARCHIVE_PAGE_SIZE were 250" in caplog.text
        with OperationsClient(settings, sleep=no_wait) as client:
            assert isinstance(scan_window(client, settings.account_sid, windows[0]), ScanResult)
        assert emulator.injected == {kind: 8}


def test_503_with_retry_after_halves_the_page_size_too(tmp_path: Path):
    """What the server asks to wait is waited, and does not say that smaller pages may not come."""
    waits: list[float] = []
    faults = Faults(script=["503-retry-after"] * 2, retry_after=timedelta(seconds=7))
    with busy(tmp_path, faults, retry_attempts=2) as (emulator, settings):
        with OperationsClient(settings, sleep=waits.append) as client:
            assert scan_window(client, settings.account_sid, DAY).scan.facts.complete
        assert emulator.injected == {"503-retry-after": 2}
        assert set(page_sizes(emulator)) == {500}
    assert max(waits) >= 7


def test_page_size_stays_when_it_is_not_the_cause(tmp_path: Path):
    """A server that is down for a while does not make the rest of the run slow."""
    faults = Faults(script=["500"] * 12)  # two tries of each of six sizes
    with busy(tmp_path, faults, retry_attempts=2) as (emulator, settings):
        with OperationsClient(settings, sleep=no_wait) as client:
            with pytest.raises(RetriableApiError, match="500"):
                scan_window(client, settings.account_sid, DAY)
            assert scan_window(client, settings.account_sid, DAY).scan.facts.complete
        assert set(page_sizes(emulator)) == {1000}


def test_stale_replica_never_brings_an_older_state_back(tmp_path: Path):
    """R2, R3"""
    faults = Faults(rates={"stale": 0.5}, stale_by=timedelta(hours=5))
    with troubled(tmp_path, faults) as (emulator, settings):
        newest: dict[str, Any] = {}
        for _ in range(4):
            sync_all(settings, publishing=False)
            table = rows(tmp_path, OPERATIONS).to_pylist()
            now = {row["operation_id"]: row["updated_at"] for row in table}
            assert newest.keys() <= now.keys()
            assert all(now[one] >= newest[one] for one in newest)
            newest = now
            emulator.clock.step(timedelta(hours=1))
        assert emulator.injected["stale"] > 3


def test_partial_response_removes_nothing_seen(tmp_path: Path):
    """R1, R4: and covers nothing, since the deadline has passed."""
    with troubled(tmp_path, Faults(rates={"partial": 1.0})) as (emulator, settings):
        sync_all(settings, publishing=False)
        assert emulator.injected["partial"] == 0
        known = set(rows(tmp_path, OPERATIONS)["operation_id"].to_pylist())
        emulator.clock.set(START + timedelta(days=7, hours=20))
        assert sync(settings, scope=SCOPE, publishing=False).ok
        assert emulator.injected["partial"] > 0
        assert known <= set(rows(tmp_path, OPERATIONS)["operation_id"].to_pylist())


def test_damaged_record_is_a_reject_until_the_next_scan(tmp_path: Path):
    """R9"""
    with troubled(tmp_path, Faults(rates={"malformed": 0.1})) as (emulator, settings):
        sync_all(settings, publishing=False)
        damaged = emulator.injected["malformed"]
        assert rows(tmp_path, REJECTS).num_rows == damaged > 10
        known = rows(tmp_path, OPERATIONS).num_rows
        assert known == len(WORLD.existing(NOW)) - damaged
        sync_all(settings, publishing=False)
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []
        assert rows(tmp_path, REJECTS).num_rows == damaged
