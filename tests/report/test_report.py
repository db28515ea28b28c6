"""The report: what it shows of archives of every kind."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.lake.accounts import note_accounts
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, OPERATIONS, Table
from pipeline.model.windows import midnight
from pipeline.report import data, palette
from pipeline.report.blocks import change
from pipeline.report.data import Account, read_accounts
from pipeline.report.write import report
from tests.support import page
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    new_lake,
    operation_id,
    record,
)
from tests.support.reports import on, published, rendered, written

FIRST = midnight(DAY)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
NAMES = {ACCOUNT: "news", OTHER_ACCOUNT: "receipts"}
FINAL = (FIRST + WEEK - timedelta(seconds=1), FIRST + WEEK + timedelta(hours=11, minutes=59))
"""Two scans of the day that are final ones of all its slots."""


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


def test_total_is_on_top_and_accounts_have_names(tmp_path: Path):
    """Accounts with different readings: under each one's own, all of one's emails were delivered."""
    lake = published(
        tmp_path,
        on(DAY, *opened_alone(9), account_id=ACCOUNT),
        on(DAY, *(record(n) for n in range(20, 23)), account_id=OTHER_ACCOUNT),
    )
    note_accounts(lake, dict.fromkeys((ACCOUNT, OTHER_ACCOUNT), True), NAMES, NOON)
    text = written(lake)
    assert re.findall(r'class="account[^"]*">(.*?)<', text) == ["All accounts", "news", "receipts"]
    cards = page.cards(text)
    assert (cards["operations"][1], cards["emails"][1]) == ("12", "12")
    assert cards["delivery_rate"][1:] == ["100.00%", "12 of 12 attempted"]
    assert [row[:4] for row in page.table(text, "accounts")] == [
        ["news", "9", "9", "100.00%"],
        ["receipts", "3", "3", "100.00%"],
    ]
    assert {row[1] for row in page.table(text, "largest")} == {"news", "receipts"}
    assert "curve" not in page.chosen(text).partition('id="account-2"')[0].partition("<main>")[2]


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an account with 7 bad days after 15 good ones, and of one that begins on the last."""
    days = [DAY + timedelta(days=n) for n in range(22)]
    undelivered = [20] * 15 + [900] * 7
    scans = [
        on(
            day,
            record(
                n, created_at=midnight(day), stats={"total": 1000, "undelivered": undelivered[n]}
            ),
            observed_at=midnight(day) + WEEK - HOUR,
            account_id=ACCOUNT,
        )
        for n, day in enumerate(days)
    ]
    young = record(50, created_at=midnight(days[-1]))
    seen = midnight(days[-1]) + WEEK - HOUR
    scans.append(on(days[-1], young, observed_at=seen, account_id=OTHER_ACCOUNT))
    lake = published(tmp_path_factory.mktemp("unusual"), *scans)
    note_accounts(lake, dict.fromkeys((ACCOUNT, OTHER_ACCOUNT), True), NAMES, NOON)
    return written(lake)


def section(text: str, name: str) -> str:
    return next(
        one for one in text.split("<section ") if re.search(f'class="account[^>]*>{name}<', one)
    )


def test_total_names_the_unusual_days_of_each_account(unusual: str):
    shown = page.chosen(section(unusual, "All accounts"))
    lines = page.text(shown.partition('<div class="summary">')[2].partition("</div>")[0]).split(
        "\n"
    )
    assert len(lines) == 1 + 5 + 1
    last = DAY + timedelta(days=21)
    assert lines[1].startswith(
        f"Unusual for news: {last:%a} {last.day} {last:%b %Y}, undelivered rate 90.00%"
    )
    assert lines[-1] == "And 2 more unusual days."


def test_legend_explains_unusual_days_where_they_are_marked(unusual: str):
    parts = {name: section(unusual, name) for name in ("All accounts", "news", "receipts")}
    assert [name for name, text in parts.items() if "unusual, with the range" in text] == ["news"]


def test_account_not_scanned_for_a_day_is_named(tmp_path: Path):
    late = on(DAY, record(1), account_id=ACCOUNT, observed_at=midnight(DAY) + timedelta(days=1))
    new = on(
        DAY, record(2), account_id=OTHER_ACCOUNT, observed_at=midnight(DAY) + timedelta(days=3)
    )
    lake = published(tmp_path, late, new)
    note_accounts(lake, dict.fromkeys((ACCOUNT, OTHER_ACCOUNT), True), NAMES, NOON)
    text = page.text(written(lake))
    assert "Not scanned for a day or more: news. The last days lack it." in text
    assert "Other accounts were scanned later" in text
    note_accounts(lake, {ACCOUNT: False, OTHER_ACCOUNT: True}, NAMES, NOON)
    text = page.text(written(lake))
    assert "the account is retired." in text
    assert "Not scanned for a day or more" not in text


@pytest.mark.slow
def test_each_account_has_its_section_and_one_can_be_chosen(tmp_path: Path):
    lake = published(
        tmp_path,
        on(DAY, record(1), account_id=ACCOUNT),
        on(DAY, record(2), record(3), account_id=OTHER_ACCOUNT),
    )
    both = written(lake)
    assert both.index(f'sid">{OTHER_ACCOUNT}') < both.index(f'sid">{ACCOUNT}')
    assert both.count("<section") == 3  # and all together
    assert both.count('data-chart="volume"') == 3
    assert both.count(page.vega(both)) == 1  # whatever the number of charts
    one = written(lake, accounts=[ACCOUNT])
    assert ACCOUNT in one
    assert OTHER_ACCOUNT not in one
    with pytest.raises(UsageError, match=f"no account 'AC0'; it has: .*{ACCOUNT}.*{OTHER_ACCOUNT}"):
        report(lake, accounts=["AC0"])


@pytest.mark.parametrize("table", [OPERATIONS, COVERAGE], ids=lambda table: table.name)
def test_report_of_an_account_opens_no_file_of_another(tmp_path: Path, table: Table):
    """R12: that of the other account is damaged."""
    lake = published(tmp_path, on(DAY, record(1)), on(DAY, record(2), account_id=OTHER_ACCOUNT))
    damaged = lake.part(table, Partition(OTHER_ACCOUNT, DAY))
    damaged.chmod(0o600)
    damaged.write_bytes(b"damaged")
    text = written(lake, accounts=[ACCOUNT])
    assert len(page.table(text, "largest")) == 1


def test_accounts_beyond_one_page_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data, "MOST_ACCOUNTS", 1)
    lake = published(
        tmp_path,
        on(DAY, record(1), account_id=ACCOUNT),
        on(DAY, record(2), record(3), account_id=OTHER_ACCOUNT),
    )
    text = written(lake)
    assert text.count("<section") == 2
    assert f"Without a section, having fewer operations: {ACCOUNT}." in text
    assert page.cards(text)["operations"][1] == "3"  # the total is of all


def test_day_with_lost_hours_is_a_cross_and_has_no_rate(tmp_path: Path):
    """The afternoon was never scanned: neither the day nor the 28 days have a rate."""
    morning = on(DAY, record(1), observed_at=NOON + timedelta(minutes=30))
    later = DAY + timedelta(days=9)
    lake = published(tmp_path, morning, on(later, record(2, created_at=midnight(later))))
    (account,), _ = read_accounts(lake)
    lost = {row["period"]: row for row in account.days}[DAY]
    assert (lost["completeness"], lost["delivery_rate"]) == ("gaps", None)
    assert account.periods["28"]["delivery_rate"] is None
    text = written(lake)
    assert page.cards(text)["delivery_rate"][1] == "\N{EN DASH}"
    assert "hours of them lost, so there is no rate." in text
    assert "✕20" in str(page.rows(page.specs(text)["coverage"], "text"))


def test_outage_begun_before_a_period_is_lost_in_it(tmp_path: Path):
    """One account was scanned before the 28 days and again at their end, the other on each of them."""
    days = [DAY + timedelta(days=n) for n in range(34)]
    scanned = {ACCOUNT: days, OTHER_ACCOUNT: [days[0], days[-1]]}
    scans = [
        on(day, record(n, created_at=midnight(day)), account_id=account)
        for account, its_days in scanned.items()
        for n, day in enumerate(its_days, start=1 if account == ACCOUNT else 100)
    ]
    accounts, _ = read_accounts(published(tmp_path, *scans))
    periods = {one.account_id: one.periods["28"] for one in accounts}
    assert periods[ACCOUNT]["lost_hours"] == 0
    for account in (OTHER_ACCOUNT, ""):
        assert periods[account]["lost_hours"] > 20 * 24
        assert periods[account]["delivery_rate"] is None


def test_days_without_operations_are_zeros_and_not_left_out(tmp_path: Path):
    later = DAY + timedelta(days=3)
    lake = published(tmp_path, on(DAY, record(1)), on(later, record(2, created_at=midnight(later))))
    (account,), _ = read_accounts(lake)
    days = [(row["period"], row["operations"]) for row in account.days]
    assert days[:4] == [(DAY + timedelta(days=n), [1, 0, 0, 1][n]) for n in range(4)]


def test_archive_of_years_is_shown_by_weeks(tmp_path: Path):
    days = [DAY + timedelta(days=n) for n in (0, 100, 400)]
    scans = [on(day, record(n, created_at=midnight(day))) for n, day in enumerate(days)]
    lake = published(tmp_path, *scans)
    (account,), _ = read_accounts(lake)
    assert {row["period"].weekday() for row in account.weeks} == {0}
    assert [row["operations"] for row in account.weeks if row["operations"]] == [1, 1, 1]
    text = written(lake)
    assert " weeks have 3 emails" in page.chosen(text, "all")
    assert "28 days have" in page.chosen(text)
    assert len(page.table(text, "largest", "all")) == 2
    assert "Operations and reasons are those of the last 366 days." in page.chosen(text, "all")


def test_operations_without_a_count_are_named_and_in_no_rate(tmp_path: Path):
    unrated = record(2)
    del unrated["stats"]["delivered"]
    text = written(published(tmp_path, on(DAY, record(1), unrated)))
    assert page.cards(text)["delivery_rate"][1:] == ["100.00%", "1 of 1 attempted"]
    assert page.cards(text)["operations"][1] == "2"
    assert "1 operation lacks a count that the rates need." in page.text(page.chosen(text))


def test_worst_operations_may_lack_a_count(tmp_path: Path):
    worst = record(2, stats={"total": 900, "failed": 800})
    del worst["stats"]["undelivered"]
    text = written(published(tmp_path, on(DAY, record(1), worst)))
    assert [row[-2:] for row in page.table(text, "worst")] == [["\N{EN DASH}", "800"]]


def test_worst_operations_are_beyond_the_average_of_their_period(tmp_path: Path):
    """A small one that fails completely comes before a large one that fails like all."""
    failed = {1: (10_000, 250), 2: (150, 150), 3: (100, 2)}
    records = [
        record(n, stats={"total": total, "delivered": total - lost, "failed": lost})
        for n, (total, lost) in failed.items()
    ]
    text = written(published(tmp_path, on(DAY, *records)))
    assert [row[0].split()[0] for row in page.table(text, "worst")] == [operation_id(2)]
    text = written(published(tmp_path / "alike", on(DAY, records[0])))
    assert len(page.table(text, "worst")) == 1  # all of it failed alike
    scheduled = record(1, stats={"delivered": 0, "sent": 0, "scheduled": 1})
    text = written(published(tmp_path / "none", on(DAY, scheduled)))
    assert 'class="worst"' not in text


def test_change_is_shown_only_between_comparable_figures():
    now = {"emails": 110, "open_rate": 0.3}
    before = {"emails": 100, "open_rate": 0.32}
    assert change(now, before, "emails") == "+10.0%"
    assert change(now, before, "open_rate") == "\N{MINUS SIGN}2.00 points"
    assert change(now, now, "open_rate") == "±0.00 points"
    assert change(now, before | {"open_rate": None}, "open_rate") == ""
    assert change(now, before | {"emails": 0}, "emails") == ""


def test_ten_years_of_an_account_take_less_than_a_megabyte(tmp_path: Path):
    lake = published(tmp_path, on(DAY, record(1)))
    (account,), _ = read_accounts(lake)
    assert len(rendered(long(account))) < 1_000_000


def long(account: Account) -> Account:
    """The account with ten years of days and weeks, with anomalies, and a calendar of all days."""
    days = [DAY - timedelta(days=n) for n in reversed(range(3650))]
    weeks = days[::7]
    rates = dict.fromkeys(("delivery_rate", "open_rate", "undelivered_rate", "failure_rate"), 1 / 3)
    anomaly = {"direction": "below", "expected": 0.5, "low": 0.4, "high": 0.6, "emails": 10**6}
    counts = ("operations", "emails", "attempted", "delivered", "opened", "undelivered", "failed")
    known = {"completeness": "final", "hours": 168, "archived_hours": 168, "lost_hours": 0}
    row = dict.fromkeys((*counts, "canceled"), 10**6) | known | rates
    return replace(
        account,
        days=[row | {"period": day, "days": 1} for day in days],
        weeks=[row | {"period": week, "days": 7} for week in weeks],
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
    assert cards["delivery_rate"][3] == "cumulative counting assumed; 100.00% if exclusive"
    assert len(cards["failure_rate"]) == 3
    told = {key: caption for key, (_, caption) in page.alternatives(text).items()}
    assert {key for key in told if "Cumulative counting is assumed." in told[key]} == {
        *("delivery_rate", "open_rate", "sizes"),
    }


def test_decided_reading_needs_no_banner(tmp_path: Path):
    text = written(published(tmp_path, on(DAY, *opened_alone(9))))
    assert '<p class="undecided"' not in text
    assert page.cards(text)["delivery_rate"][1:] == ["100.00%", "9 of 9 attempted"]
    assert "delivered emails leave out opened ones, which are added here" in page.text(text)
    assert "counting is assumed" not in text
