"""Lookups by id wait: for the first numbers, and for the next sync once their time is up."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.access.query import ask
from pipeline.emulator import World
from pipeline.lake.layout import Lake
from pipeline.model.records import LookupBatch
from pipeline.observer import Observer
from pipeline.settings import Settings
from pipeline.sync import sync
from tests.support.archives import account
from tests.support.cases import some
from tests.support.command import run
from tests.support.factories import ACCOUNT, at, body, record
from tests.support.scripted_api import Answer, Received, ScriptedApi, scripted

FAILED = 600
NOON = at("2026-11-20 12:00")


def answer(request: Received) -> Answer:
    """600 operations at noon, and each has failed; what failed is asked for by id."""
    if request.path.endswith("/Errors"):
        errors = [{"code": 30003, "message": "Unreachable"}]
        return Answer(json.dumps({"errors": errors, "pagination": {"next": None}}).encode())
    start = request.query.get("startDate", "").removesuffix("Z")
    end = request.query.get("endDate", "").removesuffix("Z")
    is_noon_inside = bool(start) and at(start) <= NOON and (not end or at(end) > NOON)
    failed = {"sent": 0, "delivered": 0, "failed": 1}
    numbers = range(FAILED) if is_noon_inside else ()
    return Answer(body(record(n, created_at=NOON, stats=failed) for n in numbers))


def settings_for(server: ScriptedApi, data: Path, **fields: float) -> Settings:
    return Settings(
        account_sid=ACCOUNT,
        auth_token="token",
        api_url=server.url,
        data=data,
        trust_clock=True,
        **fields,
    )


def lookups(server: ScriptedApi) -> int:
    return len([one for one in server.requests if one.path.endswith("/Errors")])


def one_second_a_look() -> Callable[[], float]:
    """A clock that goes on by a second whenever somebody looks at it."""
    seconds = itertools.count()
    return lambda: float(next(seconds))


def count(data: Path, table: str) -> int:
    return ask(Lake(data), f"SELECT count(*) AS n FROM {table}").to_pylist()[0]["n"]


class Watching(Observer):
    """What can be asked of the warehouse when the lookups begin, and how they go on."""

    def __init__(self, data: Path, server: ScriptedApi) -> None:
        self._data, self._server = data, server
        self.due, self.done = 0, 0
        self.emails: list[dict[str, object]] = []
        self.requests = -1

    def looking_up(self, lookups_due: int) -> None:
        self.due = lookups_due
        self.emails = ask(
            Lake(self._data), "SELECT operations, failed FROM delivery_daily"
        ).to_pylist()
        self.requests = lookups(self._server)

    def looked_up(self, answers: LookupBatch) -> None:
        self.done += answers.lookups.num_rows


def test_first_numbers_are_published_before_any_lookup(tmp_path: Path):
    with scripted(answer) as server:
        watching = Watching(tmp_path, server)
        report = sync(settings_for(server, tmp_path), observer=watching)
    assert report.ok
    assert watching.emails == [{"operations": FAILED, "failed": FAILED}]
    assert watching.requests == 0
    assert (watching.due, watching.done) == (FAILED, FAILED)


def test_few_lookups_are_published_together_with_the_listing(tmp_path: Path):
    """Publishing costs more than they do."""
    published: list[bool] = []

    class Lookups(Observer):
        def looking_up(self, lookups_due: int) -> None:
            published.extend([lookups_due > 0, Lake(tmp_path).warehouse.exists()])

    world, now = World(5, 20.0, at("2026-11-12")), at("2026-11-14 15:00")
    with account(world, now, tmp_path) as (_, settings):
        report = sync(settings, observer=Lookups())
    assert published == [True, False]
    assert report.published


def test_fault_in_the_lookups_keeps_nothing_merged_from_publishing(tmp_path: Path):
    class Failing(Observer):
        def looking_up(self, lookups: int) -> None:
            raise MemoryError(lookups)

    world, now = World(5, 20.0, at("2026-11-12")), at("2026-11-14 15:00")
    with account(world, now, tmp_path) as (_, settings), pytest.raises(MemoryError):
        sync(settings, observer=Failing())
    assert count(tmp_path, "delivery_daily") > 0


def test_what_lookups_found_is_published_in_the_same_sync(tmp_path: Path):
    with scripted(answer) as server:
        report = sync(settings_for(server, tmp_path))
    assert (report.lookups.completed, report.lookups.left, report.published) == (FAILED, 0, True)
    assert count(tmp_path, "operation_errors") == FAILED


@pytest.mark.parametrize("seconds", some([20, 300], 1))
def test_lookups_end_with_their_time_and_the_rest_stays_due(tmp_path: Path, seconds: int):
    """Each of the 8 threads may finish the lookup that it has begun."""
    with scripted(answer) as server:
        settings = settings_for(server, tmp_path, lookup_timeout=seconds)
        first = sync(settings, monotonic=one_second_a_look())
        asked = lookups(server)
        assert 0 < asked <= seconds
        assert first.ok
        assert first.lookups.completed == asked
        assert first.summary()["lookups_left"] == FAILED - asked
        assert count(tmp_path, "operation_errors") == asked
        unlimited = settings_for(server, tmp_path)
        second = sync(unlimited)
        assert (second.lookups.completed, second.lookups.left) == (FAILED - asked, 0)
        assert lookups(server) == FAILED
    assert count(tmp_path, "operation_errors") == FAILED


def test_time_of_lookups_begins_after_the_listing(tmp_path: Path):
    """A long listing, or a long publish, takes nothing from them."""
    looks = itertools.chain([0.0], itertools.repeat(10_000.0))
    with scripted(answer) as server:
        settings = settings_for(server, tmp_path, lookup_timeout=1)
        report = sync(settings, monotonic=lambda: next(looks))
    assert report.lookups.left == 0


def test_command_shows_how_many_lookups_are_done_and_left(tmp_path: Path):
    with scripted(answer) as server:
        environment = settings_for(server, tmp_path).environment()
        done = run("sync", cwd=tmp_path, **environment)
        assert f"looked up 200 of {FAILED} operations by id" in done.stderr
        assert f"looked up {FAILED} of {FAILED} operations by id" in done.stderr
        few = environment | {
            "EMAIL_ARCHIVE_DATA": str(tmp_path / "few"),
            "EMAIL_ARCHIVE_LOOKUP_TIMEOUT": "0.000001",
        }
        left = run("sync", "--json", cwd=tmp_path, **few)
    assert left.returncode == 0
    assert json.loads(left.stdout)["lookups_left"] == FAILED
    assert f"{FAILED} lookups by id are due and left for the next run" in left.stderr


def test_failed_lookups_say_how_many_are_left(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The API gets a rest after a few failures, and the rest of the lookups is told of."""

    def failing(request: Received) -> Answer:
        return Answer(status=500) if request.path.endswith("/Errors") else answer(request)

    with scripted(failing) as server:
        report = sync(settings_for(server, tmp_path, retry_attempts=1), sleep=lambda _: None)
    failed, left = len(report.lookups.failures), report.lookups.left
    assert failed >= 3
    assert failed + left == FAILED
    told = f"{left} lookups by id are due and left for the next run: {failed} failed"
    assert told in caplog.text
