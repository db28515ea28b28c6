"""How an account's counts are read: what its operations show, and when that decides."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.access.query import ask
from pipeline.emulator.lifecycle import Counting
from pipeline.emulator.world import World
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import COUNT_NAMES, COUNTING_EVIDENCE, PUBLISHED
from pipeline.model.windows import Window
from pipeline.outputs.counting import CLEAR_SHARE, FEWEST_OPERATIONS
from pipeline.outputs.warehouse import publish
from pipeline.quality.status import status
from pipeline.sync import sync
from tests.support.archives import account
from tests.support.cases import some
from tests.support.command import run
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    at,
    derived,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
)

PAGE = Path(__file__).parents[2] / "docs" / "counting.md"
CASE = re.compile(r"^\| ([A-Z]+) \| (total [^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAMES = ("cumulative", "opened_apart", "delivered_apart", "exclusive")
CUMULATIVE = {"total": 1, "sent": 1, "delivered": 1, "opened": 1}
EXCLUSIVE = {"total": 1, "sent": 0, "delivered": 0, "opened": 1}
LOST = {"total": 1, "sent": 1, "delivered": 0, "opened": 1}
"""A cumulative account's operation whose delivery never was counted."""

OPENED, DELIVERED = "opened_in_delivered", "delivered_in_sent"


def counted(number: int, status: str = "COMPLETED", **counts: int) -> dict[str, Any]:
    """A record with these counts and no others."""
    return record(number, status=status, stats=dict.fromkeys(COUNT_NAMES, 0) | counts)


def many(first: int, number: int, counts: dict[str, int]) -> list[dict[str, Any]]:
    return [counted(first + n, **counts) for n in range(number)]


def published(folder: Path, records: Iterable[dict[str, Any]]) -> Lake:
    lake = derived(new_lake(folder), scan(records))
    publish(lake)
    return lake


def counting(lake: Lake, question: str = OPENED) -> dict[str, Any]:
    (row,) = ask(lake, f"FROM counting WHERE question = '{question}'").to_pylist()
    return row


def rates(lake: Lake) -> tuple[float, float, str, bool]:
    query = "SELECT delivery_rate, open_rate, reading, reading_decided FROM delivery_daily"
    (row,) = ask(lake, query).to_pylist()
    return row["delivery_rate"], row["open_rate"], row["reading"], row["reading_decided"]


# What an operation shows.


CASES = CASE.findall(PAGE.read_text())


def account_of(case: int) -> str:
    return f"AC{case:032x}"


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """An archive with an account for each documented case, of as many operations as decide."""
    scans = []
    for case, (state, counts, *_) in enumerate(CASES):
        stats = {name: int(n) for name, n in (part.split() for part in counts.split(", "))}
        records = [counted(n, state, **stats) for n in range(FEWEST_OPERATIONS)]
        scans.append(scan(records, account_id=account_of(case)))
    lake = derived(new_lake(tmp_path_factory.mktemp("documented")), *scans)
    publish(lake)
    return lake


@pytest.mark.parametrize(
    ("case", "models", "shows"),
    [
        pytest.param(number, models, shows, id=f"{state} {counts}")
        for number, (state, counts, models, shows) in enumerate(CASES)
    ],
)
def test_operation_shows_what_the_documented_case_says(
    documented: Lake, case: int, models: str, shows: str
):
    partition = Partition(account_of(case), DAY)
    evidence = snapshot(documented, [COUNTING_EVIDENCE])[f"counting_evidence {partition}"]
    if models.strip() == "all":
        assert evidence == []
    else:
        expected = "" if models.strip() == "none" else models.strip().replace(",", "")
        assert [tuple(row.values()) for row in evidence] == [(expected, 5, operation_id(0))]
    decisions = ask(
        documented, f"FROM counting WHERE account_id = '{account_of(case)}'"
    ).to_pylist()
    decided = {row["question"]: row["reading"] for row in decisions if row["decided"]}
    assert decided == shown(shows)


def shown(text: str) -> dict[str, str]:
    """The readings that a case of the page says to be shown."""
    if found := re.match(r"both are (\w+)", text):
        return dict.fromkeys((OPENED, DELIVERED), found[1])
    clauses = re.findall(r"`(\w+)`(?: is)? (cumulative|exclusive)", text)
    return {OPENED if name == "delivered" else DELIVERED: reading for name, reading in clauses}


@pytest.mark.parametrize("name", [n for n in COUNT_NAMES if n not in ("recipients", "attempts")])
def test_operation_without_a_count_is_no_evidence(tmp_path: Path, name: str):
    """Fact: "every count may be absent: absent is NULL, never 0"."""
    lacking = counted(1, **EXCLUSIVE)
    del lacking["stats"][name]
    lake = derived(new_lake(tmp_path), scan([lacking]))
    assert snapshot(lake)[f"counting_evidence {PARTITION}"] == []


def test_operation_without_recipients_and_attempts_is_evidence(tmp_path: Path):
    """The guide's sample lacks both."""
    lacking = counted(1, total=2, delivered=2)
    del lacking["stats"]["recipients"], lacking["stats"]["attempts"]
    lake = derived(new_lake(tmp_path), scan([lacking]))
    (row,) = snapshot(lake)[f"counting_evidence {PARTITION}"]
    assert row["models"] == "delivered_apart exclusive"


STAGES = ("queued", "scheduled", "failed", "canceled", "sent", "undelivered", "delivered", "opened")


def luck_of(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the same each time is what is wanted


def counted_by(model: str, number: int, luck: Random) -> dict[str, Any]:
    """An operation whose emails are at random stages, with the counts that a model gives it."""
    size = luck.choice([1, 1, 2, 30])
    shares = [1, 0, 1, 0, 2, 1, 9, 6] if luck.random() < 0.9 else [1] * len(STAGES)
    at_stage = Counter(luck.choices(STAGES, shares, k=size))
    is_completed = not at_stage["queued"] and not at_stage["scheduled"]
    # Of an operation in progress some emails are in no count yet.
    total = size if is_completed else size + luck.randrange(3)
    counts = {stage: at_stage[stage] for stage in STAGES}
    if model in ("cumulative", "opened_apart"):
        counts["sent"] += sum(at_stage[stage] for stage in STAGES[-3:])
    if model in ("cumulative", "delivered_apart"):
        counts["delivered"] += at_stage["opened"]
    status = "COMPLETED" if is_completed else "PROCESSING"
    return counted(number, status, total=total, **counts)


@pytest.mark.parametrize("model", NAMES)
def test_operation_is_never_evidence_against_its_own_model(tmp_path: Path, model: str):
    records = [counted_by(model, n, luck_of(n)) for n in range(400)]
    lake = derived(new_lake(tmp_path), scan(records))
    evidence = snapshot(lake)[f"counting_evidence {PARTITION}"]
    assert sum(row["operations"] for row in evidence) > 200
    assert all(model in row["models"].split() for row in evidence)


# When that decides.


@pytest.mark.parametrize("share", some([0.3, 0.6, 0, 0.05], 2))
@pytest.mark.parametrize("model", NAMES)
def test_decision_is_never_wrong_however_many_counts_are(tmp_path: Path, model: str, share: float):
    """So many operations have counts of other models, or counts at random."""
    records = []
    for n in range(400):
        luck = luck_of(n)
        is_odd = luck.random() < share
        one = counted_by(luck.choice(NAMES) if is_odd else model, n, luck)
        if is_odd and luck.random() < 0.5:
            one["stats"][luck.choice(STAGES)] = luck.randrange(4)
        records.append(one)
    lake = published(tmp_path, records)
    truth = {
        OPENED: "cumulative" if model in ("cumulative", "delivered_apart") else "exclusive",
        DELIVERED: "cumulative" if model in ("cumulative", "opened_apart") else "exclusive",
    }
    for question, reading in truth.items():
        row = counting(lake, question)
        assert row["decided"] == (share < 0.1), row
        assert not row["decided"] or row["reading"] == reading


def test_single_emails_leaving_delivered_are_exclusive(tmp_path: Path):
    """An opened email is no longer counted as delivered: `delivered` is 0 where `opened` is 1."""
    delivered = {"total": 1, "sent": 0, "delivered": 1}
    failed = {"total": 1, "sent": 0, "failed": 1}
    lake = published(
        tmp_path, [*many(0, 66, delivered), *many(100, 31, EXCLUSIVE), *many(200, 3, failed)]
    )
    assert rates(lake) == (0.97, 31 / 97, "exclusive", True)
    row = counting(lake)
    assert (row["cumulative_operations"], row["exclusive_operations"]) == (0, 31)
    assert row["exclusive_example"] == operation_id(100)
    assert row["evidence"] == (
        f"31 operations speak for exclusive, 0 for cumulative (100.0 %); for example "
        f"{operation_id(100)}."
    )


@pytest.mark.parametrize("counts", [CUMULATIVE, EXCLUSIVE], ids=["cumulative", "exclusive"])
def test_few_contradicting_operations_neither_flip_nor_block(
    tmp_path: Path, counts: dict[str, int]
):
    other = EXCLUSIVE if counts is CUMULATIVE else LOST
    lake = published(tmp_path, [*many(0, 95, counts), *many(200, 5, other)])
    row = counting(lake)
    reading = "cumulative" if counts is CUMULATIVE else "exclusive"
    assert (row["reading"], row["decided"]) == (reading, True)
    assert row["majority"] >= CLEAR_SHARE


def test_lost_deliveries_of_a_cumulative_account_do_not_make_it_exclusive(tmp_path: Path):
    """`opened` is more than `delivered` there, as in an exclusive account."""
    lake = published(tmp_path, [*many(0, 95, CUMULATIVE), *many(200, 5, LOST)])
    row = counting(lake)
    assert (row["reading"], row["decided"], row["majority"]) == ("cumulative", True, 0.95)
    assert (row["cumulative_operations"], row["exclusive_operations"]) == (95, 5)
    assert (row["cumulative_example"], row["exclusive_example"]) == (
        operation_id(0),
        operation_id(200),
    )


@pytest.mark.parametrize(
    ("records", "why"),
    [
        pytest.param([], "No operation distinguishes the two.", id="nothing opened"),
        pytest.param(
            many(0, FEWEST_OPERATIONS - 1, EXCLUSIVE),
            "4 operations speak for exclusive, 0 for cumulative: fewer than 5 in all.",
            id="too few",
        ),
        pytest.param(
            many(0, 1, EXCLUSIVE),
            "1 operation speaks for exclusive, 0 for cumulative: fewer than 5 in all.",
            id="one",
        ),
        pytest.param(
            [*many(0, 60, EXCLUSIVE), *many(100, 40, CUMULATIVE)],
            "60 operations speak for exclusive, 40 for cumulative: less than 90 %.",
            id="no majority",
        ),
        pytest.param(
            [*many(0, 20, EXCLUSIVE), *many(100, 20, CUMULATIVE)],
            "less than 90 %.",
            id="even",
        ),
        pytest.param(
            [*many(0, 60, EXCLUSIVE), *many(100, 40, {"total": 1})],
            "40 of 100 operations contradict the likeliest two answers: more than 10 %.",
            id="counts that nothing explains",
        ),
    ],
)
def test_undecided_reading_is_assumed_and_says_why(
    tmp_path: Path, records: list[dict[str, Any]], why: str
):
    """A wrong decision is worse than none."""
    waiting = counted(900, "SCHEDULED", total=1, scheduled=1)
    lake = published(tmp_path, [waiting, *records])
    row = counting(lake)
    assert (row["reading"], row["decided"]) == ("cumulative", False)
    assert f"{why} Cumulative is assumed, as in the reference's samples." in row["evidence"]
    assert rates(lake)[2:] == ("cumulative", False)


def test_evidence_of_days_adds_up(tmp_path: Path):
    lake = new_lake(tmp_path)
    for n in range(FEWEST_OPERATIONS):
        created = NOON.replace(day=NOON.day - n)
        one = record(n, created_at=created, stats={"sent": 0, "delivered": 0, "opened": 1})
        derived(
            lake,
            scan([one], window=Window.of_day(created.date()), observed_at=NOON.replace(hour=14)),
        )
    publish(lake)
    assert counting(lake)["exclusive_operations"] == FEWEST_OPERATIONS
    assert counting(lake)["decided"]


def test_reading_is_each_accounts_own(tmp_path: Path):
    lake = derived(
        new_lake(tmp_path),
        scan(many(0, 10, EXCLUSIVE)),
        scan(many(100, 10, CUMULATIVE), account_id=OTHER_ACCOUNT),
    )
    publish(lake)
    query = (
        "SELECT account_id, delivery_rate, reading, reading_decided FROM delivery_daily ORDER BY 1"
    )
    assert [tuple(row.values()) for row in ask(lake, query).to_pylist()] == [
        (ACCOUNT, 1.0, "exclusive", True),
        (OTHER_ACCOUNT, 1.0, "cumulative", True),
    ]


# What says so.


def test_status_warns_of_an_assumed_reading_and_names_both_rates(tmp_path: Path):
    lake = published(tmp_path, many(0, FEWEST_OPERATIONS - 1, EXCLUSIVE))
    shown = run("status", "--data", str(lake.root), cwd=tmp_path).stdout
    assert (
        "undecided rates assume cumulative counting, which the account's counts don't decide: 4 operations"
        in shown
    )
    assert "delivery_rate_cumulative and delivery_rate_exclusive" in shown
    as_json = json.loads(run("status", "--json", "--data", str(lake.root), cwd=tmp_path).stdout)
    told = as_json["accounts"][0]["reading"]
    assert (told["reading"], told["decided"], told["matters"]) == ("cumulative", False, True)
    assert told["evidence"].startswith("4 operations speak for exclusive")


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(many(0, 10, EXCLUSIVE), id="decided"),
        pytest.param(many(0, 10, {"total": 1, "sent": 1, "delivered": 1}), id="nothing opened"),
    ],
)
def test_status_is_silent_where_the_reading_makes_no_difference(
    tmp_path: Path, records: list[dict[str, Any]]
):
    lake = published(tmp_path, records)
    found = status(lake, NOON)
    assert found.accounts[0].reading is not None
    assert found.accounts[0].reading.warning is None
    assert "undecided" not in run("status", "--data", str(lake.root), cwd=tmp_path).stdout


def test_status_without_a_warehouse_knows_no_reading(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan(many(0, 1, EXCLUSIVE)))
    assert status(lake, NOON).accounts[0].reading is None


def test_every_table_with_a_rate_says_how_the_counts_are_read():
    for table in PUBLISHED:
        names = {column.name for column in table.published}
        if any(name.endswith("_rate") for name in names) or "rate" in names:
            assert names >= {"reading", "reading_decided"}, table.name


# A whole account.


def account_records(world: World, *, single: bool) -> tuple[list[dict[str, Any]], float]:
    """What an account's operations of a day look like days later, and its true delivery rate."""
    numbers = np.array(world.numbers(at("2026-11-20 00:00"), at("2026-11-21 00:00")))
    later = at("2026-11-26 12:00")
    cumulative = World(world.seed, world.per_day, world.start).columns(numbers, later)
    chosen = (cumulative["total"] == 1) | (not single)
    waiting = cumulative["canceled"] + cumulative["scheduled"] + cumulative["queued"]
    attempted = (cumulative["total"] - waiting)[chosen].sum()
    truth = cumulative["delivered"][chosen].sum() / attempted
    return world.records(numbers[chosen], later), float(truth)


@pytest.mark.parametrize("single", [True, False], ids=["one recipient each", "any size"])
@pytest.mark.parametrize("reading", ["cumulative", "exclusive"])
def test_account_is_decided_and_shows_its_true_rate(
    tmp_path: Path, reading: Counting, single: bool
):
    world = World(3, 800, at("2026-11-18 00:00"), counting=reading)
    records, truth = account_records(world, single=single)
    lake = published(tmp_path, records)
    rate, _, *shown_as = rates(lake)
    assert shown_as == [reading, True]
    assert rate == pytest.approx(truth)
    assert rate > 0.95
    assert counting(lake, DELIVERED)["reading"] == reading
    assert counting(lake)["majority"] == 1


@pytest.mark.parametrize("reading", ["cumulative", "exclusive"])
def test_first_sync_shows_the_true_rate_of_the_account(tmp_path: Path, reading: Counting):
    """Whatever happened to the emails so far, under either way of counting it."""
    start, now = at("2026-11-10 00:00"), at("2026-11-14 15:00")
    world = World(5, 300.0, start, counting=reading)
    with account(world, now, tmp_path) as (_, settings):
        assert sync(settings).ok
    truth = World(5, 300.0, start).columns(world.existing(now), now)
    waiting = sum(truth[name] for name in ("canceled", "scheduled", "queued"))
    attempted = (truth["total"] - waiting).sum()
    query = (
        "SELECT reading, bool_and(reading_decided) AS decided, sum(rated_delivered) AS delivered, "
        "sum(rated_opened) AS opened, sum(rated_delivered) / sum(rated_attempted) AS rate "
        "FROM delivery_daily GROUP BY reading"
    )
    assert ask(Lake(tmp_path), query).to_pylist() == [
        {
            "reading": reading,
            "decided": True,
            "delivered": int(truth["delivered"].sum()),
            "opened": int(truth["opened"].sum()),
            "rate": pytest.approx(truth["delivered"].sum() / attempted),
        }
    ]


@pytest.mark.parametrize("reading", ["cumulative", "exclusive"])
def test_late_and_lost_events_do_not_prevent_a_decision(tmp_path: Path, reading: Counting):
    """Of each fiftieth operation the delivery's event is lost, another fiftieth is counted in part."""
    world = World(3, 800, at("2026-11-18 00:00"), counting=reading)
    records, _ = account_records(world, single=False)
    for n, one in enumerate(records):
        if n % 50 == 0:
            one["stats"]["delivered"] = 0
        elif n % 50 == 1:
            one["stats"]["sent"] = max(one["stats"]["sent"] - 1, 0)
    lake = published(tmp_path, records)
    assert rates(lake)[2:] == (reading, True)
    assert 0 < counting(lake)["unexplained_operations"] < 0.1 * len(records)
