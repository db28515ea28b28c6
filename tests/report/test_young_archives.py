"""A report of an archive's first days, or with an outage: it says only what the archive knows.

Each archive is made by syncs of an emulated account, and asserted against that account's own truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline.cli.demo import FIRST_DAY
from pipeline.emulator.world import World
from pipeline.lake.layout import Lake
from pipeline.report.write import report
from tests.support import page
from tests.support.archives import account, sync_all
from tests.support.cases import some

BEGUN = FIRST_DAY + timedelta(days=9, hours=21, minutes=50)
"""The first sync."""

FIRST_HOUR = datetime(2026, 9, 3, 22, tzinfo=BEGUN.tzinfo)
"""The first hour whose deadline has not passed by then."""

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
RATES = ("delivery_rate", "open_rate", "undelivered_rate", "failure_rate")


@dataclass
class Site:
    """An account, the moments of its syncs, and the report after the last one."""

    world: World
    moments: list[datetime]
    text: str

    def created(self, first: datetime, last: datetime) -> list[dict]:
        """The account's operations that were created in this time, as of the last sync."""
        numbers = self.world.existing(self.moments[-1])
        return [
            one
            for one in self.world.records(numbers, self.moments[-1])
            if first <= datetime.fromisoformat(one["createdAt"]) < last
        ]

    def is_lost(self, hour: datetime) -> bool:
        """Whether no sync came between the end of an hour and its deadline."""
        return hour + WEEK <= self.moments[-1] and not any(
            hour + HOUR <= moment < hour + WEEK for moment in self.moments
        )

    def is_settled(self, hour: datetime) -> bool:
        """Whether an hour had its final scan, or its deadline has passed and it is not lost."""
        final = any(hour + WEEK - 12 * HOUR <= at < hour + WEEK for at in self.moments)
        return final or (hour + WEEK <= self.moments[-1] and not self.is_lost(hour))

    @property
    def hours(self) -> list[datetime]:
        """The hours from the first that the first sync knew to the last sync."""
        number = int((self.moments[-1] - FIRST_HOUR) / HOUR) + 1
        return [FIRST_HOUR + n * HOUR for n in range(number)]


def synced(folder: Path, days: Sequence[int]) -> Site:
    world = World(4, 60.0, FIRST_DAY, end=FIRST_DAY + timedelta(days=40))
    moments = [BEGUN + timedelta(days=n) for n in days]
    with account(world, BEGUN, folder) as (emulator, settings):
        for moment in moments:
            emulator.clock.set(moment)
            sync_all(settings, publishing=moment == moments[-1])
    return Site(world, moments, page.read(report(Lake(folder)).path))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return synced(tmp_path_factory.mktemp("first"), [0])


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return synced(tmp_path_factory.mktemp("young"), range(4))


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return synced(tmp_path_factory.mktemp("settled"), range(9))


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """No sync for 9 days: two days are lost."""
    return synced(tmp_path_factory.mktemp("outage"), [0, 1, 10])


@pytest.fixture(params=["first", "young", "settled", "outage"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


def summary(site: Site) -> list[str]:
    found = page.chosen(site.text).partition('<div class="summary">')[2].partition("</div>")[0]
    return page.text(found).split("\n")


def totals(records: list[dict]) -> tuple[str, str]:
    """Operations and emails as a card shows them."""
    return f"{len(records):,}", f"{sum(one['stats']['total'] for one in records):,}"


@pytest.mark.parametrize(
    ("name", "length"),
    some(
        [("first", "7 days"), ("outage", "17 days"), ("young", "10 days"), ("settled", "15 days")],
        2,
    ),
)
def test_period_is_named_as_it_is_covered(name: str, length: str, request: pytest.FixtureRequest):
    site: Site = request.getfixturevalue(name)
    told = summary(site)[0]
    assert told.startswith(f"In the {length} from 3 Sep 2026 22:00 UTC, ")
    assert f"The {length} from 3 Sep 2026 22:00 UTC, still changing</h3>" in site.text
    assert "sent" not in told


def test_headline_counts_known_hours(site: Site):
    """`total` of the operations is named emails, and what the API half remembers is not in it."""
    known = [
        one
        for hour in site.hours
        if not site.is_lost(hour)
        for one in site.created(hour, hour + HOUR)
    ]
    operations, emails = totals(known)
    assert f"{operations} operations with {emails} emails were created." in summary(site)[0]
    cards = page.cards(site.text)
    assert (cards["operations"][1], cards["emails"][1]) == (operations, emails)


def test_lost_hours_are_counted_and_have_no_rate(outage: Site):
    lost = sum(map(outage.is_lost, outage.hours))
    assert lost
    assert f"{lost} hours of them lost, so there is no rate." in summary(outage)[0]
    assert page.cards(outage.text)["delivery_rate"][1] == "\N{EN DASH}"


@pytest.mark.parametrize("name", ["first", "young"])
def test_no_settled_week_without_7_whole_settled_days(name: str, request: pytest.FixtureRequest):
    site: Site = request.getfixturevalue(name)
    assert "There is no settled week yet" in site.text
    assert "last settled week" not in site.text


def test_first_settled_week_is_true_and_compared_with_nothing(settled: Site):
    monday = datetime(2026, 9, 5, tzinfo=BEGUN.tzinfo)
    days = [hour for hour in settled.hours if hour.hour == 0]
    whole = [d for d in days if all(settled.is_settled(d + n * HOUR) for n in range(24))]
    assert whole[-7] == monday
    operations, emails = totals(settled.created(monday, monday + WEEK))
    assert page.table(settled.text, "settled")[:2] == [
        ["Emails", emails],
        ["Operations", operations],
    ]
    assert '<th scope="col" class="number">5 Sep to 11 Sep 2026</th></tr>' in settled.text
    assert "7 days before are not all final or closed, so there is no comparison." in settled.text


def test_hours_of_the_week_are_blank_until_they_are_known(site: Site):
    """Of a known hour 0 is shown as 0; of an unknown one nothing is drawn."""
    known: dict[tuple[str, int], int] = {}
    for hour in filter(site.is_settled, site.hours):
        key = (f"{hour:%a}", hour.hour)
        known[key] = known.get(key, 0) + len(site.created(hour, hour + HOUR))
    spec = page.specs(site.text)["weekday_hour"]
    cells = page.rows(spec, "weekday", "hour", "operations", "emails")
    assert {(day, hour): n for day, hour, n, _ in cells if n is not None} == known
    assert all(emails is None for *_, n, emails in cells if n is None)
    caption = page.alternatives(site.text)["weekday_hour"][1]
    if len(known) < 168:
        assert "busiest" not in caption
        assert f"{len(known)} of the 168 hours of the week are known so far." in caption


def test_busiest_hour_is_named_when_every_hour_is_known(settled: Site):
    """Hours known for two weeks do not beat those of one: they compare by their mean."""
    seen: dict[str, list[int]] = {}
    for hour in filter(settled.is_settled, settled.hours):
        seen.setdefault(f"{hour:%A %H:%M} UTC", []).append(len(settled.created(hour, hour + HOUR)))
    assert {len(counts) for counts in seen.values()} == {1, 2}
    means = {name: sum(counts) / len(counts) for name, counts in seen.items()}
    told = page.alternatives(settled.text)["weekday_hour"][1]
    name = told.partition("the busiest hour of the week is ")[2].partition(" with")[0]
    assert means[name] == max(means.values())


def test_partly_known_day_is_named(site: Site):
    charts = page.specs(site.text)
    days = page.rows(charts["volume"], "period", "completeness", "known")
    assert days[0] == ("2026-09-03", "partial", "partly known: 2 of 24 hours")
    assert page.table(site.text, "series")[-1][1] == "partly known: 2 of 24 hours"
    assert page.rows(charts["coverage"], "day", "state")[0] == ("Thu 3 Sep 2026", "partly known")
    assert "1 partly known" in page.text(site.text)


@pytest.mark.parametrize("name", ["first", "young", "settled"])
def test_no_day_is_called_usual_before_any_has_a_range(name: str, request: pytest.FixtureRequest):
    site: Site = request.getfixturevalue(name)
    assert summary(site)[1].startswith("No day has an expected range yet")
    for rate in RATES:
        assert page.alternatives(site.text)[rate][1].endswith("No day has an expected range yet.")


def test_sizes_leave_out_days_with_lost_or_unknown_hours(site: Site):
    days = [hour for hour in site.hours if hour.hour == 0]
    known = [
        one
        for day in days
        if not any(site.is_lost(day + n * HOUR) for n in range(24))
        for one in site.created(day, day + timedelta(days=1))
    ]
    sizes = page.rows(page.specs(site.text)["sizes"], "size", "operations")
    assert sum(operations for _, operations in sizes) == len(known)
    assert "From 4 Sep to " in page.alternatives(site.text)["sizes"][1]
