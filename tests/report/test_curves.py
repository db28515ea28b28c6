"""The report's curves: bounds that hold the truth."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline.cli.demo import FIRST_DAY
from pipeline.emulator.world import World
from pipeline.lake.layout import Lake
from pipeline.model.schema import AGES
from pipeline.model.windows import midnight
from pipeline.report.data import read_accounts
from tests.support import page
from tests.support.archives import account as emulated
from tests.support.archives import sync_all
from tests.support.factories import DAY, NOON, record
from tests.support.reports import on, published, rendered, written

FIRST = midnight(DAY)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
FINAL = (FIRST + WEEK - timedelta(seconds=1), FIRST + WEEK + timedelta(hours=11, minutes=59))
"""Two scans of the day that are final ones of all its slots."""


@pytest.mark.slow
def test_curve_bounds_hold_the_truth(tmp_path: Path):
    """Of an account that is synced at odd times, and of every operation at its own age."""
    start = FIRST_DAY
    world = World(4, 30.0, start, end=start + timedelta(days=2))
    odd = (1.4, 2.1, 5, 9.7, 14, 25, 26.5, 40, 70, 100, 160.2, 171.5, 182, 193.7, 205, 213, 217)
    moments = [start + HOUR * n for n in odd]
    with emulated(world, moments[0], tmp_path) as (emulator, settings):
        for moment in moments:
            emulator.clock.set(moment)
            sync_all(settings, publishing=moment == moments[-1])
    (account,), _ = read_accounts(Lake(tmp_path))
    assert len({row["operations"] for row in account.curve}) == 1
    numbers = world.existing(moments[-1])
    at_end = world.records(numbers, moments[-1])
    assert account.curve[0]["operations"] == len(at_end)
    widths = []
    for row in account.curve:
        age = timedelta(minutes=row["age_minutes"])
        delivered = opened = 0
        for number, one in zip(numbers, at_end, strict=True):
            (then,) = world.records([number], datetime.fromisoformat(one["createdAt"]) + age)
            delivered += then["stats"]["delivered"]
            opened += then["stats"]["opened"]
        for name, truth in (("delivered", delivered), ("opened", opened)):
            low, high = (row[f"{name}_{end}"] for end in ("at_least", "at_most"))
            assert low * row["attempted"] - 1e-6 <= truth
            if high is not None:
                assert truth <= high * row["attempted"] + 1e-6, (row["age"], name)
                widths.append(high - low)
    assert max(widths) > 0
    assert len(widths) == 2 * (len(AGES) - 1)


def seen_at(folder: Path, created: timedelta, delivered: timedelta, scans: Sequence[float]) -> Lake:
    """An operation after noon as scans so many minutes after noon see it, and as final ones do."""
    moments = [NOON + timedelta(minutes=minutes) for minutes in scans]
    moments += FINAL
    born = NOON + created
    seen = [
        on(
            DAY,
            *[
                record(
                    1,
                    created_at=born,
                    updated_at=min(moment, born + delivered),
                    stats={"delivered": int(moment >= born + delivered)},
                )
            ][: moment >= born],
            observed_at=moment,
        )
        for moment in moments
    ]
    later = DAY + timedelta(days=9)
    return published(folder, *seen, on(later, observed_at=midnight(later) + HOUR))


@pytest.mark.parametrize(
    ("created", "delivered", "scans"),
    [
        pytest.param(
            timedelta(minutes=59, seconds=59),
            timedelta(minutes=50),
            (100, 480),
            id="the last operation reaches an age half an hour after the middle one: not every scan in "
            "between has looked at it by then",
        ),
        pytest.param(
            timedelta(minutes=59, seconds=59),
            timedelta(minutes=2),
            (50, 150),
            id="a scan within the hour has not seen its end",
        ),
        pytest.param(
            timedelta(0),
            timedelta(minutes=50),
            (40, 361),
            id="the first operation reaches an age half an hour before the middle one: what was known of "
            "it at that age leaves out the scan",
        ),
    ],
)
def test_curve_bounds_hold_for_all_operations_of_an_hour(
    tmp_path: Path, created: timedelta, delivered: timedelta, scans: tuple[float, ...]
):
    (account,), _ = read_accounts(Lake(seen_at(tmp_path, created, delivered, scans).root))
    assert [row["hours"] for row in account.curve] == [1] * len(AGES)
    for row in account.curve:
        truth = int(timedelta(minutes=row["age_minutes"]) >= delivered)
        most = row["delivered_at_most"]
        assert row["delivered_at_least"] <= truth <= (1 if most is None else most), row["age"]
        assert (most is None) == (row is account.curve[-1])


def test_curve_has_no_upper_bound_where_no_scan_came_later(tmp_path: Path):
    """Opens after the final scan are in no count: neither table nor chart bounds the last age above."""
    lake = seen_at(tmp_path, timedelta(0), timedelta(minutes=1), (50,))
    (account,), _ = read_accounts(lake)
    bounds = [(row["delivered_at_most"], row["opened_at_most"]) for row in account.curve]
    assert bounds[-1] == (None, None)
    assert None not in {bound for pair in bounds[:-1] for bound in pair}
    text = written(lake)
    assert [page.table(text, "curve")[-1][n] for n in (2, 4)] == ["\N{EN DASH}"] * 2
    boxes = page.rows(page.specs(text)["delivery_curve"], "to", "high")
    assert (AGES[-1][1], None) in boxes
    assert all(high is not None for to, high in boxes if to != AGES[-1][1])
    assert "there is no upper bound" in page.text(text)


def test_curves_leave_out_hours_without_a_final_scan_and_say_so(tmp_path: Path):
    """Of a closed hour nobody knows what it came to: the last look is no upper bound."""
    closed = DAY + timedelta(days=1)
    lake = published(
        tmp_path,
        *(on(DAY, record(1), observed_at=moment) for moment in FINAL),
        on(closed, record(2, created_at=midnight(closed), stats={"delivered": 0})),
        on(closed + timedelta(days=9)),
    )
    (account,), _ = read_accounts(lake)
    assert {(row["hours"], row["past_hours"], row["operations"]) for row in account.curve} == {
        (1, 2, 1)
    }
    text = page.text(written(lake))
    assert "1 of the 2 hours of creation past the deadline, 50%, had a final scan." in text


def test_account_without_a_final_hour_has_no_curves(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)), on(DAY + timedelta(days=9)))
    (account,), _ = read_accounts(lake)
    assert account.curve == []
    assert "delivery_curve" not in page.specs(written(lake))


def test_curve_without_upper_bound_shows_none(tmp_path: Path):
    (account,), _ = read_accounts(seen_at(tmp_path, timedelta(0), timedelta(minutes=2), (50, 150)))
    unbounded = dict.fromkeys(("delivered_at_most", "opened_at_most"))
    ages = [*account.curve[:-1], account.curve[-1] | unbounded]
    text = rendered(replace(account, curve=ages))
    assert page.table(text, "curve")[-1][2:5:2] == ["\N{EN DASH}"] * 2
    spec = page.specs(text)["delivery_curve"]
    shown = page.rows(spec, "ages", "high", "at_most")
    assert [row for row in shown if row[1] is None] == [
        ("72 h to 168 h", None, "unknown: not scanned after")
    ]
    assert "isValid(datum.high)" in json.dumps(spec)
    every = [row | unbounded for row in account.curve]
    told = page.alternatives(rendered(replace(account, curve=every)))["delivery_curve"][1]
    assert "at most" not in told


def test_curve_sentence_names_a_well_known_age(tmp_path: Path):
    """A wide range says little: the first narrow one is told, otherwise the last age."""
    (account,), _ = read_accounts(seen_at(tmp_path, timedelta(0), timedelta(minutes=2), (50, 150)))

    def told(*ranges: tuple[float, float]) -> str:
        ages = [
            row | {"delivered_at_least": low, "delivered_at_most": high}
            for row, (low, high) in zip(account.curve[-3:], [*ranges, (0.96, None)], strict=True)
        ]
        text = rendered(replace(account, curve=ages))
        return page.alternatives(text)["delivery_curve"][1].partition(" of ")[0]

    names = [row["age"] for row in account.curve[-3:]]
    assert told((0.58, 0.96), (0.93, 0.95)) == (
        f"Within {names[1]}, at least 93.00% and at most 95.00%"
    )
    assert told((0.58, 0.96), (0.8, 0.96)) == f"Within {names[2]}, at least 96.00%"
