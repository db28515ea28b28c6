"""The report: what it shows of archives of every kind, and how it is written."""

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.demo import FIRST_DAY
from pipeline.emulator.world import World
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.model.records import Scan
from pipeline.model.schema import AGES
from pipeline.model.windows import Window, midnight
from pipeline.outputs.warehouse import publish
from pipeline.report import data, palette
from pipeline.report.data import Account, read_accounts
from pipeline.report.figures import figures
from pipeline.report.html import change, render
from pipeline.report.png import png
from pipeline.report.write import draw, report
from tests.support import page
from tests.support.archives import account as emulated
from tests.support.archives import sync_all
from tests.support.command import run
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    derived,
    new_lake,
    record,
    scan,
)

FIRST = midnight(DAY)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
FINAL = (FIRST + WEEK - timedelta(seconds=1), FIRST + WEEK + timedelta(hours=11, minutes=59))
"""Two scans of the day that are final ones of all its slots."""


def published(folder: Path, *scans: Scan) -> Lake:
    lake = derived(new_lake(folder), *scans)
    publish(lake)
    return lake


def on(day: date, *records: dict, observed_at: datetime | None = None, **facts: Any) -> Scan:
    """A scan of a day, two days on unless told otherwise."""
    observed = observed_at or midnight(day) + timedelta(days=2)
    return scan(records, observed_at=observed, window=Window.of_day(day), **facts)


def written(lake: Lake, **options: Any) -> str:
    return page.read(report(lake, **options).path)


def test_empty_archive_gives_a_page_saying_so(tmp_path: Path):
    text = written(published(tmp_path))
    assert "This archive is empty: nothing has been scanned yet." in text
    assert "<script" not in text


def test_account_without_operations_gives_a_page_saying_so(tmp_path: Path):
    text = written(published(tmp_path, on(DAY)))
    assert "The archive has no operations of this account yet." in text
    assert ACCOUNT in text
    assert page.specs(text) == {}


def test_unpublished_archive_says_what_to_do(tmp_path: Path):
    with pytest.raises(UsageError, match="email-archive publish"):
        report(new_lake(tmp_path))


@pytest.mark.slow
def test_each_account_has_its_section_and_one_can_be_chosen(tmp_path: Path):
    lake = published(
        tmp_path,
        on(DAY, record(1), account_id=ACCOUNT),
        on(DAY, record(2), record(3), account_id=OTHER_ACCOUNT),
    )
    both = written(lake)
    assert both.index(f'class="account">{OTHER_ACCOUNT}') < both.index(f'class="account">{ACCOUNT}')
    assert both.count("<section") == 2
    assert both.count('data-chart="volume"') == 2
    assert both.count("window.drawChart=") == 1  # Vega is there once, whatever the number of charts
    one = written(lake, account_id=ACCOUNT)
    assert ACCOUNT in one
    assert OTHER_ACCOUNT not in one
    with pytest.raises(
        UsageError, match=f"expected one of the accounts {OTHER_ACCOUNT}, {ACCOUNT}"
    ):
        report(lake, account_id="AC0")


def test_accounts_beyond_one_page_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data, "MOST_ACCOUNTS", 1)
    lake = published(
        tmp_path,
        on(DAY, record(1), account_id=ACCOUNT),
        on(DAY, record(2), record(3), account_id=OTHER_ACCOUNT),
    )
    text = written(lake)
    assert text.count("<section") == 1
    assert f"Not shown, having fewer operations: {ACCOUNT}." in text


def test_day_with_lost_hours_is_a_cross_and_has_no_rate(tmp_path: Path):
    """The afternoon was never scanned: neither the day nor the 28 days have a rate."""
    morning = on(DAY, record(1), observed_at=NOON + timedelta(minutes=30))
    later = DAY + timedelta(days=9)
    lake = published(tmp_path, morning, on(later, record(2, created_at=midnight(later))))
    (account,), _ = read_accounts(lake)
    lost = {row["period"]: row for row in account.series}[DAY]
    assert (lost["completeness"], lost["delivery_rate"]) == ("gaps", None)
    assert account.headline["recent"]["delivery_rate"] is None
    text = written(lake)
    assert page.cards(text)["delivery_rate"][1] == "\N{EN DASH}"
    assert "hours of them lost, so there is no rate." in text
    assert "✕20" in str(page.rows(page.specs(text)["coverage"], "text"))
    assert "✕" in json.dumps(page.specs(text)["delivery_rate"], ensure_ascii=False)


def test_days_without_operations_are_zeros_and_not_left_out(tmp_path: Path):
    later = DAY + timedelta(days=3)
    lake = published(tmp_path, on(DAY, record(1)), on(later, record(2, created_at=midnight(later))))
    (account,), _ = read_accounts(lake)
    days = [(row["period"], row["operations"]) for row in account.series]
    assert days[:4] == [(DAY + timedelta(days=n), [1, 0, 0, 1][n]) for n in range(4)]


def test_archive_of_years_is_shown_by_weeks(tmp_path: Path):
    days = [DAY + timedelta(days=n) for n in (0, 100, 250)]
    scans = [on(day, record(n, created_at=midnight(day))) for n, day in enumerate(days)]
    lake = published(tmp_path, *scans)
    (account,), _ = read_accounts(lake)
    assert account.is_weekly
    assert {row["period"].weekday() for row in account.series} == {0}
    assert [row["operations"] for row in account.series if row["operations"]] == [1, 1, 1]
    assert "Emails by week of creation" in written(lake)


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
    assert "Of 1 of the 2 hours of creation past the deadline, 50%: those that had their" in text


def test_account_without_a_final_hour_has_no_curves(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)), on(DAY + timedelta(days=9)))
    (account,), _ = read_accounts(lake)
    assert account.curve == []
    assert "delivery_curve" not in page.specs(written(lake))


def test_change_is_shown_only_between_comparable_figures():
    now = {"emails": 110, "open_rate": 0.3}
    before = {"emails": 100, "open_rate": 0.32}
    assert change(now, before, "emails") == "+10.0%"
    assert change(now, before, "open_rate") == "\N{MINUS SIGN}2.00 points"
    assert change(now, now, "open_rate") == "±0.00 points"
    assert change(now, before | {"open_rate": None}, "open_rate") == ""
    assert change(now, before | {"emails": 0}, "emails") == ""


def test_same_warehouse_gives_the_same_page_and_pictures(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    first = report(lake)
    text = page.read(first.path)
    assert written(lake) == text
    (_, (figure, *_)) = first.accounts[0]
    assert png(figure) == png(figure)
    assert png(figure).startswith(b"\x89PNG")


def test_report_is_written_whole_or_not_at_all(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    assert report(lake).path == (lake.root / "report.html").absolute()
    target = tmp_path / "elsewhere.html"
    target.write_text("an old one")
    report(lake, target)
    assert "Email delivery" in target.read_text()
    assert [path.name for path in tmp_path.glob("*elsewhere*")] == ["elsewhere.html"]
    with pytest.raises(UsageError, match="a folder that exists"):
        report(lake, tmp_path / "nowhere" / "report.html")


def test_unchanged_report_is_left_alone(tmp_path: Path):
    """A report of the same warehouse is the same file; whatever changes in it makes a new one."""
    lake = published(tmp_path, on(DAY, record(1)))
    first = report(lake)
    file = first.path.stat()
    again = report(lake)
    assert (first.is_new, again.is_new) == (True, False)
    assert (first.path.stat().st_ino, first.path.stat().st_mtime_ns) == (
        file.st_ino,
        file.st_mtime_ns,
    )
    content = first.path.read_bytes()
    first.path.write_bytes(content.replace(b"Email", b"Snail"))  # as long as it was
    assert report(lake).is_new
    assert first.path.read_bytes() == content
    derived(lake, on(DAY, record(1), observed_at=midnight(DAY) + timedelta(days=3)))
    publish(lake)
    assert report(lake).is_new  # nothing else was found, but the page is true for a later moment


def test_report_goes_into_a_pipe_or_device(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    pipe, null = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    null.symlink_to("/dev/null")
    copied = tmp_path / "copied.html"
    with copied.open("wb") as copy, subprocess.Popen(["/bin/cat", str(pipe)], stdout=copy):
        assert report(lake, pipe).is_new
    assert copied.read_bytes() == draw(lake).content
    assert pipe.is_fifo()
    assert report(lake, null).path == null
    assert null.is_symlink()
    assert null.is_char_device()


@pytest.mark.parametrize("name", ["report.html", "elsewhere.html"])
def test_link_stays_and_its_target_is_replaced(tmp_path: Path, name: str):
    lake = published(tmp_path, on(DAY, record(1)))
    (tmp_path / "www").mkdir()
    served, link = tmp_path / "www" / "email.html", lake.root / name
    served.write_text("an old one")
    link.symlink_to(served)
    report(lake, None if name == "report.html" else link)
    assert link.is_symlink()
    assert served.read_bytes() == draw(lake).content
    assert [path.name for path in served.parent.iterdir()] == ["email.html"]


@pytest.mark.slow
def test_command_writes_the_report_to_stdout(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    done = run("report", "--data", str(lake.root), "-o", "-", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == draw(lake).content
    assert not (lake.root / "report.html").exists()
    assert not (tmp_path / "-").exists()


@pytest.mark.slow
def test_command_writes_the_report(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    done = run("report", "--data", str(lake.root), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {(lake.root / 'report.html').absolute()}: ")
    again = run("report", "--data", str(lake.root), cwd=tmp_path)
    assert again.stdout.startswith("nothing new in ")
    wrong = run("report", "--data", str(lake.root), "--account", "AC0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "expected one of the accounts" in wrong.stderr


def test_ten_years_of_an_account_take_less_than_a_megabyte(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    (account,), _ = read_accounts(lake)
    assert len(rendered(long(account))) < 1_000_000


def rendered(account: Account, *left_out: str) -> str:
    return render([(account, tuple(figures(account)))], left_out, "")


def long(account: Account) -> Account:
    """The account with ten years of weeks, each with anomalies, and a calendar of all their days."""
    weeks = [DAY - timedelta(weeks=n) for n in reversed(range(520))]
    rates = dict.fromkeys(("delivery_rate", "open_rate", "undelivered_rate", "failure_rate"), 1 / 3)
    anomaly = {"direction": "below", "expected": 0.5, "low": 0.4, "high": 0.6, "emails": 10**6}
    return Account(
        **{
            name: getattr(account, name)
            for name in Account.__slots__
            if name not in {"is_weekly", "series", "anomalies", "coverage"}
        },
        is_weekly=True,
        series=[
            {"period": week, "completeness": "final", "operations": 10**6, "emails": 10**8}
            | {"hours": 168, "asked_hours": 168, "lost_hours": 0}
            | rates
            for week in weeks
        ],
        anomalies=[
            {"created_date": week, "rate": rate, "value": 0.3} | anomaly
            for week in weeks[::-5]
            for rate in rates
        ],
        coverage=[
            account.coverage[0] | {"created_date": DAY - timedelta(days=n)} for n in range(3650)
        ],
    )


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_colours_stand_out_in_both_schemes(scheme: palette.Palette):
    """WCAG 2.2: text by 4.5:1, what a chart draws by 3:1."""
    ground = scheme["@paper"]
    for name in ("@ink", "@quiet", "@blue", "@alarm", "@green"):
        assert contrast(scheme[name], ground) >= 4.5, name
    assert contrast(scheme["@on_blue"], scheme["@blue"]) >= 4.5
    assert contrast(scheme["@paper"], scheme["@alarm"]) >= 4.5
    assert contrast(scheme["@high"], ground) >= 3


def test_schemes_have_the_same_colours():
    assert palette.LIGHT.keys() == palette.DARK.keys()


def test_text_in_the_data_can_not_end_the_script(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    (account,), _ = read_accounts(lake)
    hostile = "</script><script>alert(1)</script>"
    sizes = [account.sizes[0] | {"size_class": hostile}]
    fields = {name: getattr(account, name) for name in Account.__slots__} | {"sizes": sizes}
    text = rendered(Account(**fields), hostile)
    assert hostile not in text
    assert page.rows(page.specs(text)["sizes"], "size") == [(hostile,)]


def opened_alone(number: int) -> list[dict]:
    """Records whose counts are possible only if `delivered` leaves out what has been opened."""
    return [record(n, stats={"sent": 0, "delivered": 0, "opened": 1}) for n in range(number)]


def test_undecided_reading_is_shown_on_top_and_beside_rates(tmp_path: Path):
    """Two operations decide nothing: cumulative is assumed, and under exclusive all were delivered."""
    lake = published(tmp_path, on(DAY, *opened_alone(2)))
    text = written(lake)
    banner = page.text(text.partition('<p class="undecided"')[2].partition("</p>")[0])
    assert "rates assume cumulative counting" in banner
    assert "is 0.00% if counting is cumulative and 100.00% if it is exclusive" in banner
    assert "delivery_rate_cumulative, delivery_rate_exclusive" in banner
    cards = page.cards(text)
    assert cards["delivery_rate"][2] == "cumulative counting assumed; 100.00% if exclusive"
    assert len(cards["failure_rate"]) == 2
    told = {key: caption for key, (_, caption) in page.alternatives(text).items()}
    assert {key for key in told if "Cumulative counting is assumed." in told[key]} == {
        *("delivery_rate", "open_rate", "sizes"),
    }


def test_decided_reading_needs_no_banner(tmp_path: Path):
    text = written(published(tmp_path, on(DAY, *opened_alone(9))))
    assert '<p class="undecided"' not in text
    assert page.cards(text)["delivery_rate"][1:] == ["100.00%"]
    assert "counting is assumed" not in text


def test_curve_without_upper_bound_shows_none(tmp_path: Path):
    (account,), _ = read_accounts(seen_at(tmp_path, timedelta(0), timedelta(minutes=2), (50, 150)))
    unbounded = dict.fromkeys(("delivered_at_most", "opened_at_most"))
    ages = [*account.curve[:-1], account.curve[-1] | unbounded]
    fields = {name: getattr(account, name) for name in Account.__slots__} | {"curve": ages}
    text = rendered(Account(**fields))
    assert page.table(text, "curve")[-1][2:5:2] == ["\N{EN DASH}"] * 2
    spec = page.specs(text)["delivery_curve"]
    shown = page.rows(spec, "ages", "high", "at_most")
    assert [row for row in shown if row[1] is None] == [
        ("72 h to 168 h", None, "unknown: not scanned after")
    ]
    assert "isValid(datum.high)" in json.dumps(spec)
    every = [row | unbounded for row in account.curve]
    told = page.alternatives(rendered(Account(**fields | {"curve": every})))["delivery_curve"][1]
    assert "at most" not in told
