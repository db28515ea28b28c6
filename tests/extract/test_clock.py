"""A wrong clock, the API's or this machine's: the API's is stored, if it can be right (R10)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from pydantic import SecretStr

from pipeline.access.query import ask
from pipeline.emulator import Clock, Emulator, Faults, Options, World, running
from pipeline.extract.api_clock import ClockError
from pipeline.lake.layout import Lake
from pipeline.model.schema import COVERAGE
from pipeline.outputs.views import MOST_YEARS
from pipeline.quality.status import status
from pipeline.quality.verify import verify
from pipeline.settings import Settings
from pipeline.sync import sync
from pipeline.sync_report import SyncReport
from pipeline.twilio.errors import CredentialsError
from tests.support.archives import rows, settings_for
from tests.support.cases import some
from tests.support.command import run
from tests.support.factories import at, snapshot

NOW = at("2026-11-20 14:00")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR_9966 = at("9966-11-20") - at("2026-11-20")
WORLD = World(7, 60.0, NOW - 9 * DAY)


class Api:
    """An emulated account, and an archive of it that is synced without trusting its clock."""

    def __init__(self, data: Path, now: datetime = NOW) -> None:
        self.clock, self.data = Clock(now), data
        self.lake = Lake(data)

    @contextmanager
    def served(self, faults: Faults | None = None) -> Iterator[tuple[Emulator, Settings]]:
        with running(WORLD, clock=self.clock, options=Options(faults=faults)) as emulator:
            yield emulator, settings_for(emulator, self.data, trust_clock=False)

    def sync(
        self,
        faults: Faults | None = None,
        *,
        machine: timedelta = timedelta(),
        trust_clock: bool = False,
        publishing: bool = False,
    ) -> SyncReport:
        """One sync, on a machine whose clock is so much ahead."""
        with self.served(faults) as (_, settings):
            return sync(
                settings.model_copy(update={"trust_clock": trust_clock}),
                publishing=publishing,
                sleep=lambda _: None,
                wall_clock=lambda: self.clock.now() + machine,
            )


def always(wrong_by: timedelta) -> Faults:
    """Every response has a Date that is so much ahead."""
    return Faults(rates={"wrong-date": 1.0}, wrong_by=wrong_by)


WRONG = some([400 * DAY, -6 * 365 * DAY, 5 * HOUR, YEAR_9966, 3 * DAY, -5 * HOUR], 2)
"""Days, and what a proxy makes of it that takes its own time zone for GMT."""


@pytest.mark.parametrize("wrong_by", WRONG, ids=str)
def test_wrong_date_stops_a_run_before_anything_is_stored(tmp_path: Path, wrong_by: timedelta):
    """R10, R4"""
    api = Api(tmp_path)
    api.sync()
    before = snapshot(api.lake)
    api.clock.step(10 * timedelta(minutes=1))
    with pytest.raises(ClockError, match=r"was at 2026-11-20T14:00:00Z.*sync --trust-clock"):
        api.sync(always(wrong_by))
    assert snapshot(api.lake) == before
    api.clock.step(10 * timedelta(minutes=1))
    assert api.sync().ok


@pytest.mark.parametrize("wrong_by", WRONG, ids=str)
def test_wrong_date_stops_a_first_sync(tmp_path: Path, wrong_by: timedelta):
    """R10: there is no scan yet to compare with."""
    api = Api(tmp_path / "archive")
    with pytest.raises(ClockError, match="there is no scan yet"):
        api.sync(always(wrong_by))
    assert list(tmp_path.iterdir()) == []


def test_refused_first_sync_leaves_no_archive(tmp_path: Path):
    api = Api(tmp_path / "archive")
    with api.served() as (_, settings), pytest.raises(CredentialsError):
        sync(settings.model_copy(update={"auth_token": SecretStr("wrong")}))
    assert list(tmp_path.iterdir()) == []


def test_wrong_date_stops_a_verification(tmp_path: Path):
    api = Api(tmp_path)
    api.sync()
    with (
        api.served(always(YEAR_9966)) as (_, settings),
        pytest.raises(ClockError, match="the API's clock shows 9966"),
    ):
        verify(settings, start=NOW - DAY, wall_clock=api.clock.now)


@pytest.mark.parametrize(
    "machine", some([-2 * HOUR, 3650 * DAY, 2 * HOUR, -56 * 365 * DAY], 1), ids=str
)
def test_wrong_clock_of_the_machine_is_only_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, machine: timedelta
):
    """R10"""
    api, right = Api(tmp_path / "wrong"), Api(tmp_path / "right")
    for one in (api, right):
        one.sync()
        one.clock.step(10 * timedelta(minutes=1))
    with caplog.at_level(logging.WARNING):
        assert api.sync(machine=machine).ok
    assert "taken to be wrong, since the archive's last scan agrees with the API's" in caplog.text
    assert right.sync().ok
    assert snapshot(api.lake) == snapshot(right.lake)


def test_clocks_minutes_apart_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    api = Api(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert api.sync(machine=50 * timedelta(minutes=1)).ok
    assert "clock" not in caplog.text


def test_sync_after_an_outage_of_months_goes_on(tmp_path: Path):
    """The API's clock is far from the last scan's, and agrees with the machine's."""
    api = Api(tmp_path)
    api.sync()
    api.clock.step(120 * DAY)
    assert api.sync().ok


def test_trusted_clock_is_compared_with_nothing(tmp_path: Path):
    api = Api(tmp_path)
    assert api.sync(machine=-400 * DAY, trust_clock=True).ok
    assert rows(tmp_path, COVERAGE).num_rows > 0


@pytest.mark.parametrize(
    "wrong_by", some([400 * DAY, HOUR / 2, -HOUR / 2, YEAR_9966, 5 * HOUR, -400 * DAY], 2), ids=str
)
@pytest.mark.parametrize("trust_clock", [False, True])
def test_wrong_date_within_a_run_is_requested_again(
    tmp_path: Path, wrong_by: timedelta, trust_clock: bool
):
    """R4, R10: each Date that would be stored is looked at, whatever the run's first one was."""
    api = Api(tmp_path)
    faults = Faults(script=[None, None, "wrong-date"], wrong_by=wrong_by)
    with api.served(faults) as (emulator, settings):
        trusting = settings.model_copy(update={"trust_clock": trust_clock})
        report = sync(trusting, publishing=False, sleep=lambda _: None, wall_clock=api.clock.now)
        assert emulator.injected["wrong-date"] == 1
    assert report.ok
    scans = rows(tmp_path, COVERAGE)
    for name in ("observed_at", "completed_at"):
        assert pc.unique(scans[name]).to_pylist() == [NOW]


def test_command_stops_unless_the_clock_is_trusted(tmp_path: Path):
    """The emulator's clock shows a time that no machine's does."""
    start = at("2091-11-20")
    with running(World(7, 20.0, start - DAY), clock=Clock(start)) as emulator:
        variables = settings_for(emulator, tmp_path / "archive", trust_clock=False).environment()
        stopped = run("sync", cwd=tmp_path, **variables)
        assert stopped.returncode == 1
        assert "ERROR the API's clock shows 2091-11-20T00:00:00Z" in stopped.stderr
        assert "email-archive sync --trust-clock" in stopped.stderr
        assert run("sync", "--trust-clock", cwd=tmp_path, **variables).returncode == 0
        told = run("status", cwd=tmp_path, **variables)
        assert told.returncode == 1
        assert "scans of the future" in told.stdout
        assert "[bold" not in told.stdout
        variables["EMAIL_ARCHIVE_TRUST_CLOCK"] = "true"
        assert run("sync", cwd=tmp_path, **variables).returncode == 0
        assert run("status", cwd=tmp_path, **variables).returncode == 0


# An archive that has gone by a wrong clock.


def poisoned(data: Path, wrong_by: timedelta) -> Api:
    """An archive of three syncs, the second of which went by a wrong clock."""
    api = Api(data)
    api.sync()
    api.clock.step(HOUR)
    api.sync(always(wrong_by), trust_clock=True)
    api.clock.step(HOUR)
    return api


@pytest.mark.parametrize("wrong_by", some([3 * DAY, 400 * DAY], 1), ids=str)
def test_scans_of_the_future_are_reported_by_sync_and_status(tmp_path: Path, wrong_by: timedelta):
    api = poisoned(tmp_path, wrong_by)
    report = api.sync()
    assert not report.ok
    assert "email-archive repair" in str(report.errors[-1])
    now = api.clock.now()
    found = status(api.lake, now)
    assert found.accounts[0].future_scans > 0
    assert not found.ok
    assert status(api.lake, now + wrong_by).accounts[0].future_scans == 0
    assert status(api.lake, now, trust_clock=True).accounts[0].future_scans == 0


def test_scan_of_a_far_year_makes_no_rows_of_centuries(tmp_path: Path):
    """A sync went by the year 9966: publishing makes no row of each hour until then."""
    api = poisoned(tmp_path, YEAR_9966)
    assert api.sync(publishing=True).published
    (count,) = ask(api.lake, "SELECT count(*) AS n FROM coverage_slots").column("n").to_pylist()
    assert 0 < count <= (MOST_YEARS + 1) * 366 * 24
    (days,) = ask(api.lake, "SELECT count(*) AS n FROM delivery_daily").column("n").to_pylist()
    assert days <= (MOST_YEARS + 1) * 366
