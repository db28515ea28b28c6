"""What goes wrong in a sync costs only itself."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.access.query import ask
from pipeline.emulator import World
from pipeline.extraction import extract
from pipeline.lake.files import Disk, Files
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import MergeReport
from pipeline.merge_runner import MergeResults
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS, REJECTS
from pipeline.model.windows import Window, retained_days
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync import EVERYTHING, sync
from pipeline.twilio.client import OperationsClient
from pipeline.twilio.errors import CredentialsError, RetriableApiError
from tests.support.archives import account, rows, sync_all, unlike_truth
from tests.support.factories import ACCOUNT, NOON, at, body, operation_id, record, rfc3339
from tests.support.scripted_api import Answer, Received, scripted

START = at("2026-11-10")
NOW = at("2026-11-14 15:00")
WORLD = World(5, 300.0, START)
HOUR = timedelta(hours=1)


def test_day_with_a_failed_window_is_reported_scanned(tmp_path: Path):
    """R4: what landed of it can be merged; what failed stays due."""
    midnight = at("2026-11-20")
    windows = [Window(midnight + n * HOUR, midnight + (n + 1) * HOUR) for n in range(4)]

    def answer(request: Received) -> Answer:
        fails = request.query["startDate"] == rfc3339(windows[2].start - timedelta(seconds=1))
        return Answer(b"", 400) if fails else Answer(body([]))

    told: list[Partition] = []
    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", data=tmp_path, api_url=server.url, trust_clock=True
        )
        with OperationsClient(settings) as client:
            found = extract(
                client, Lake(tmp_path).open(), settings, windows, Observer(), on_day=told.append
            )
    assert [failure.window for failure in found.failures] == [windows[2]]
    assert told == [Partition(ACCOUNT, midnight.date())]


class _NoMemory(Disk):
    """Fails, as for a lack of memory, where a day's history is to be replaced."""

    def rename(self, source: Path, target: Path) -> None:
        if "history" in target.parts:
            raise MemoryError
        super().rename(source, target)


def test_failed_merge_prevents_no_scan(tmp_path: Path):
    """R1: what is not asked for now may be forgotten when the merge works again."""
    with account(WORLD, NOW, tmp_path, concurrency=1) as (emulator, settings):
        with pytest.raises(MemoryError):
            sync(settings, scope=EVERYTHING, files=Files(_NoMemory()), publishing=False)
        scans = len(emulator.requests)
        lake = Lake(tmp_path)
        kept = lake.pending() | set(lake.partitions("coverage"))
        assert {partition.day for partition in kept} == set(retained_days(NOW))
        assert sync(settings, publishing=False).ok
        assert [one for one in emulator.requests[scans:] if "startDate" in one.query] == []
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []


def test_failure_mended_by_the_next_merge_is_no_error():
    (day, other), error = (
        (Partition(ACCOUNT, at(text).date()) for text in ("2026-11-20", "2026-11-21")),
        LakeError("too many open files"),
    )
    again = MergeReport(day, *([0] * 9), None)
    both = MergeResults(failures={day: error, other: error}) + MergeResults((again,))
    assert (both.merges, both.errors) == ((again,), (error,))


def test_day_of_which_every_window_failed_is_not_merged(tmp_path: Path):
    def answer(request: Received) -> Answer:
        return Answer(b"", 400) if "startDate" in request.query else Answer(body([]))

    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", data=tmp_path, api_url=server.url, trust_clock=True
        )
        report = sync(settings, scope=EVERYTHING, publishing=False)
    assert report.extraction.failures
    assert report.merges == ()


def flaky(failing: dict[str, Answer], otherwise: bytes) -> Any:
    """A server whose windows beginning on certain days fail."""

    def answer(request: Received) -> Answer:
        return failing.get(request.query.get("startDate", "")[:10], Answer(otherwise))

    return answer


def test_failing_window_stays_due_and_the_others_arrive(tmp_path: Path):
    """R4: what failed lands nothing and claims nothing."""
    # The window of a day is asked from one second before it.
    answer = flaky({"2026-11-17": Answer(b"", 500)}, body([record(1)]))
    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT,
            auth_token="t",
            api_url=server.url,
            data=tmp_path,
            retry_attempts=1,
            trust_clock=True,
        )
        report = sync_all(settings)
    assert not report.ok
    assert [failure.window.day for failure in report.extraction.failures] == [
        at("2026-11-18").date()
    ]
    covered = {partition.day for partition in Lake(tmp_path).partitions("coverage")}
    assert covered == set(retained_days(NOON)) - {at("2026-11-18").date()}
    assert rows(tmp_path, OPERATIONS)["operation_id"].to_pylist() == [operation_id(1)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(Answer(b"", 401), CredentialsError), (Answer(b"", 503), RetriableApiError)],
)
def test_unreachable_api_is_one_error(tmp_path: Path, answer, error):
    with scripted([answer]) as server:
        settings = Settings(
            account_sid=ACCOUNT,
            auth_token="t",
            api_url=server.url,
            data=tmp_path,
            retry_attempts=1,
            trust_clock=True,
        )
        with pytest.raises(error):
            sync_all(settings)
    assert list(Lake(tmp_path).partitions("coverage")) == []


BAD_RECORDS = {
    "empty id": record(10, id=""),
    "null id": record(11, id=None),
    "negative count": record(12, stats={"sent": -1}),
    "fractional count": record(13, stats={"sent": 1.5}),
    "count as text": record(14, stats={"sent": "1"}),
    "count of 10^20": record(15, stats={"sent": 10**20}),
    "null stats": record(16, stats=None) | {"stats": None},
    "bad date": record(17, createdAt="20 November"),
    "no record": 7,
}


def test_every_bad_record_is_a_reject_verbatim_and_costs_no_other(tmp_path: Path):
    """R1, R9: nothing is lost, nothing is guessed."""
    missing = record(18)
    del missing["id"]
    bad = [*BAD_RECORDS.values(), missing]
    answer = flaky(
        {"2026-11-19": Answer(body([record(1), *bad, record(2, id="op-odd")]))}, body([])
    )
    with scripted(answer) as server:
        settings = Settings(
            account_sid=ACCOUNT, auth_token="t", api_url=server.url, data=tmp_path, trust_clock=True
        )
        report = sync_all(settings)
        again = sync_all(settings)
    assert report.ok
    assert rows(tmp_path, OPERATIONS)["operation_id"].to_pylist() == [operation_id(1), "op-odd"]
    rejects = rows(tmp_path, REJECTS).to_pylist()
    raws = [json.loads(reject["raw"]) for reject in rejects]
    assert sorted(map(json.dumps, raws)) == sorted(map(json.dumps, bad))
    assert all(reject["reason"] for reject in rejects)
    assert report.summary()["rejects"] == len(bad)
    assert again.summary()["rejects"] == 0
    assert any("id" in what for what in report.extraction.drift)


def test_foreign_file_in_the_lake_is_reported_and_left_alone(tmp_path: Path):
    with account(WORLD, NOW, tmp_path) as (_, settings):
        sync_all(settings, publishing=True)
        (part,) = (tmp_path / "operations").glob(f"*/created_date={NOW.date()}/part-0.parquet")
        foreign = part.with_name("copy.parquet")
        foreign.write_bytes(part.read_bytes())
        report = sync_all(settings, publishing=True)
    assert report.foreign == (str(foreign),)
    assert foreign.exists()
    counted = ask(
        Lake(tmp_path), "SELECT count(*) = count(DISTINCT operation_id) AS ok FROM operations"
    )
    assert counted.to_pylist() == [{"ok": True}]


def test_damaged_coverage_of_one_day_delays_no_other(tmp_path: Path):
    """R9: seven days of archiving nothing for one damaged file would be a loss."""
    world = World(12, 60.0, START)
    with account(world, NOW, tmp_path, fetch_operation_errors=False) as (emulator, settings):
        assert sync(settings, publishing=False).ok
        (damaged,) = tmp_path.glob(f"coverage/*/created_date={NOW.date()}/*.parquet")
        damaged.write_bytes(b"PAR1")
        emulator.clock.step(timedelta(hours=12))
        report = sync(settings, publishing=False)
        assert report.errors
        assert all(str(damaged) in str(error) for error in report.errors)
        found = len(rows(tmp_path, OPERATIONS))
        damaged.unlink()  # what its user is told to do; it is gone, and so is what it claimed
        assert sync_all(settings).ok
        moments = [NOW, emulator.clock.now()]
        assert unlike_truth(emulator, tmp_path, START, moments) == []
        assert rows(tmp_path, OPERATIONS).num_rows >= found


@pytest.mark.slow
def test_budget_says_what_it_leaves_to_the_next_sync(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with account(World(12, 60.0, START), NOW, tmp_path, max_requests=1) as (_, settings):
        report = sync(settings)
        assert report.left > 100
        assert report.summary()["slots_left"] == report.left
        assert f"{report.left} hours are due and left for the next run" in caplog.text
        for _ in range(20):
            report = sync(settings)
        assert report.left == 0


def test_foreign_file_among_the_landed_costs_only_its_day(tmp_path: Path):
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        folder = tmp_path / "landing" / f"account_id={settings.account_sid}"
        day = folder / f"created_date={NOW.date()}"
        day.mkdir(parents=True)
        (day / "notes.parquet").write_text("not Parquet")
        report = sync_all(settings)
        assert not report.ok
        (error,) = report.errors
        assert "notes.parquet" in str(error)
        (day / "notes.parquet").unlink()
        healed = sync_all(settings)
        assert healed.ok
        assert unlike_truth(emulator, tmp_path, START, [NOW]) == []


def test_damaged_delivery_table_is_derived_again_by_the_next_sync(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        sync_all(settings, publishing=True)
        before = ask(Lake(tmp_path), "FROM delivery_daily")
        (part,) = (tmp_path / "delivery_hourly").glob("*/created_date=2026-11-10/part-0.parquet")
        part.write_bytes(b"PAR1 not really")
        emulator.clock.step(timedelta(hours=1))
        report = sync_all(settings, publishing=True)
        assert report.ok
        assert report.published
        assert f"{part} can't be read and is derived again" in caplog.text
        assert unlike_truth(emulator, tmp_path, START, [emulator.clock.now()]) == []
    assert ask(Lake(tmp_path), "FROM delivery_daily").num_rows == before.num_rows
