"""That the refresh benchmark's model counts what real syncs do, and measures what they archive."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import numpy as np
import pytest

from pipeline.emulator import World
from pipeline.extract.planner import RefreshPolicy
from pipeline.lake.coverage import read_slots
from pipeline.lake.layout import Lake
from pipeline.model.records import SlotCoverage
from pipeline.model.schema import HISTORY, OPERATIONS
from pipeline.model.windows import retained_days
from pipeline.settings import Settings
from pipeline.sync import sync
from tests.benchmarks.errors import Errors, Population, measure
from tests.benchmarks.model import Archive, Seen, archive, rescan, yesterday_once
from tests.benchmarks.output import (
    FINDING,
    HOURLY,
    OURS,
    QUARTERLY,
    YESTERDAY,
    Result,
    document,
    targets,
)
from tests.benchmarks.refresh import POLICY
from tests.support.archives import account, rows
from tests.support.factories import ACCOUNT, at

START = at("2026-09-01")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PAGE = 30


def every(step: timedelta, until: datetime, first: datetime = START) -> Iterator[datetime]:
    now = first
    while now < until:
        yield now
        now += step


@pytest.mark.slow
def test_model_counts_the_requests_of_real_syncs_and_archives_the_same(tmp_path: Path):
    """Slots of all ages up to their deadline, windows that are merged and cut, final scans."""
    world = World(3, 6_000, START, end=START + 9 * HOUR)
    moments = [
        *every(20 * MINUTE, START + HOUR),
        *every(2 * HOUR, START + 8 * HOUR, START + HOUR),
        *every(20 * MINUTE, START + 9 * HOUR, START + 8 * HOUR),
        *every(50 * MINUTE, START + 11 * HOUR, START + 9 * HOUR),
        *every(22 * HOUR, START + 7 * DAY, START + 12 * HOUR),
        *every(5 * HOUR, START + 7 * DAY + 9 * HOUR, START + 7 * DAY - 2 * HOUR),
    ]
    with account(world, START, tmp_path / "lake", page_size=PAGE) as (emulator, settings):
        model = Archive(world, RefreshPolicy.of(settings))
        windows, biggest = [], 0.0
        for now in moments:
            emulator.clock.set(now)
            before = len(emulator.requests)
            report = sync(settings, publishing=False)
            model.sync(now)
            assert report.ok
            listings = [r for r in emulator.requests[before:] if r.path.endswith("/Operations")]
            assert model.log.requests[now] == len(listings)
            known = read_slots(Lake(settings.data), settings.account_sid, retained_days(now))
            assert [model.known.get(one.slot, SlotCoverage(one.slot)) for one in known] == [
                approximately(one) for one in known
            ]
            windows += [scan.window for scan in report.extraction.scans]
            biggest = max(biggest, *(one.operations for one in known))
        assert any(window.end - window.start > HOUR for window in windows)
        assert any(window.end - window.start < HOUR for window in windows)
        assert biggest > 10 * PAGE
        archived = rows(settings.data, OPERATIONS)
        states = rows(settings.data, HISTORY)

    found = dict.fromkeys(range(world.existing(moments[-1]).stop), START - DAY)
    for seen in model.log.seen:
        for number in set(world.numbers(seen.start, seen.end)) & set(world.existing(seen.at)):
            found[number] = seen.at
    expected = set()
    for moment in set(found.values()) - {START - DAY}:
        numbers = np.array([number for number, last in found.items() if last == moment])
        columns = world.columns(numbers, moment)
        names = ("operation_id", "delivered", "opened")
        expected |= set(zip(*(columns[name].tolist() for name in names), strict=True))
    counts = archived.select(["operation_id", "delivered", "opened"]).to_pylist()
    assert {tuple(row.values()) for row in counts} == expected
    assert states.num_rows > archived.num_rows == len(expected)


def approximately(one: SlotCoverage) -> SlotCoverage:
    """Equal but for the last digits of an estimate that is summed in another order."""
    estimate = pytest.approx(one.operations)
    return replace(one, operations=estimate)


def test_naive_listings_take_the_pages_served_by_the_emulator(tmp_path: Path):
    world = World(3, 500, START)
    now = START + 8 * DAY + 10 * MINUTE
    with account(world, now, tmp_path / "lake") as (_, settings):
        since = len(list(listing(settings, startDate=now - 7 * DAY)))
        yesterday = {
            "startDate": now.replace(minute=0) - DAY - timedelta(seconds=1),
            "endDate": now.replace(minute=0),
        }
        day = list(listing(settings, **yesterday))
    assert rescan(world, PAGE, [now]).requests == {now: since}
    assert yesterday_once(world, PAGE, [now]).requests == {now: len(day)}
    assert sum(day) == len(world.numbers(START + 7 * DAY, START + 8 * DAY))


def listing(settings: Settings, **bounds: datetime) -> Iterator[int]:
    """How many operations each page of a script's listing has."""
    query = {name: f"{bound:%Y-%m-%dT%H:%M:%SZ}" for name, bound in bounds.items()}
    query["pageSize"] = str(PAGE)
    with httpx2.Client(auth=settings.basic_auth()) as client:
        while True:
            page = client.get(f"{settings.api_url}/Emails/Operations", params=query).json()
            yield len(page["operations"])
            if page["pagination"]["next"] is None:
                return
            query["pageToken"] = page["pagination"]["next"]


def test_error_is_what_the_archive_misses_at_each_moment():
    """Against sums by hand: every operation, every 10 minutes."""
    world = World(5, 60, START)
    first, last = START + 8 * DAY, START + 9 * DAY
    scans = [Seen(now, now - 7 * DAY, now) for now in every(2 * HOUR, last)]
    population = Population.of(world, last)
    everyone = population.emails.sum()
    (errors,) = measure(population, [scans], first, last, sample=int(everyone))

    missing, lifetime = np.zeros((2, 2)), np.zeros(2)
    for now in every(10 * MINUTE, last, first + 5 * MINUTE):
        scanned = now - (now - START) % (2 * HOUR)
        for young, age in enumerate((7 * DAY, DAY)):
            numbers = np.array(world.numbers(now - age, now), dtype=np.int64)
            truth = world.columns(numbers, now)
            known = world.columns(numbers, scanned)
            lifetime[young] += len(numbers)
            for place, name in enumerate(("delivered", "opened")):
                missing[young, place] += truth[name].sum() - known[name].sum()
    alive, young_ones = missing / lifetime[:, None]
    assert errors.alive == pytest.approx(tuple(alive), rel=0.05)
    assert errors.young == pytest.approx(tuple(young_ones), rel=0.05)


def test_operations_no_scan_found_are_lost_with_their_counts():
    world = World(5, 60, START)
    first, last = START + 8 * DAY, START + 9 * DAY
    hole = START + 30 * HOUR
    scans = [Seen(hole + DAY, START, hole), Seen(hole + DAY, hole + HOUR, hole + DAY)]
    population = Population.of(world, last)
    (errors,) = measure(population, [scans], first, last, sample=1_000)
    assert errors.lost == len(world.numbers(hole, hole + HOUR)) > 0
    assert errors.ended == len(world.numbers(START + DAY, START + 2 * DAY))
    assert errors.equal < 1
    assert errors.final[0] > 0


def test_sample_stands_for_every_operation():
    population = Population.of(World(5, 2_000, START), START + 10 * DAY)
    numbers, weights = population.sample(5_000)
    assert len(numbers) < len(population.emails) / 2
    assert weights.sum() == pytest.approx(len(population.emails), rel=0.05)
    assert (weights * population.emails[numbers]).sum() == pytest.approx(
        population.emails.sum(), rel=0.05
    )


def test_default_policy_of_the_settings_is_what_is_measured():
    assert RefreshPolicy.of(Settings(account_sid=ACCOUNT, auth_token="t")) == POLICY


def test_model_refuses_what_a_scan_would_have_cut():
    model = Archive(World(1, 100_000, START), POLICY)
    with pytest.raises(ValueError, match="a scan would cut it"):
        model.sync(START + DAY)


def test_aligned_refresh_lists_and_merges_little():
    """At 2,000 operations a day, half of the listings look for new operations every 10 minutes."""
    first, days = START + 8 * DAY, 3
    world = World(1, 2_000, START)
    log = archive(world, POLICY, every(10 * MINUTE, first + days * DAY))
    listings = sum(requests - 1 for now, requests in log.requests.items() if now >= first)
    merges = {(seen.at, seen.start.date()) for seen in log.seen if seen.at >= first}
    assert listings <= days * 2 * FINDING
    assert len(merges) <= days * 240


def test_many_listings_miss_the_target_unless_a_rescan_takes_more():
    ours = Result(100, OURS, 434, errors_of(0.01), clock_per_day=144)
    target, *_ = targets([ours, Result(100, QUARTERLY, 1_500, errors_of(0.01))], 100).values()
    assert target == "missed: 1/3.5, 290 listings"
    target, *_ = targets([ours, Result(100, QUARTERLY, 434 * 15, errors_of(0.01))], 100).values()
    assert target == "met: 1/15.0, 290 listings"
    few = replace(ours, requests_per_day=432)
    target, *_ = targets([few, Result(100, QUARTERLY, 1_500, errors_of(0.01))], 100).values()
    assert target == "met: 1/3.5, 288 listings"


def errors_of(young: float, *, equal: float = 1.0, lost: int = 0) -> Errors:
    return Errors((young, young), (young, young), (0.0, 0.0), equal, 5.0, 1.0, lost, 1_000)


def test_document_says_which_targets_are_met_and_which_are_missed():
    results = [
        Result(100, OURS, 10, errors_of(0.02, equal=0.99999, lost=3), clock_per_day=4),
        Result(100, QUARTERLY, 150, errors_of(0.01)),
        Result(100, HOURLY, 40, errors_of(0.05)),
        Result(100, YESTERDAY, 1, errors_of(1.0)),
    ]
    assert list(targets(results, 100).values()) == [
        "met: 1/15.0, 6 listings",
        "met: 5.0 min against 5.0 min",
        "missed: 20.0 missing against 10.0",
        "missed: 20.0 missing against 10.0",
        "missed: 99.999% of them",
        "missed: 3 of 1,000",
    ]
    text = document(results, START, START + 14 * DAY, seed=1)
    assert "| this policy | 10.0 | 1/15.0 | 20.0 / 20.0 | 20.0 / 20.0 |" in text
