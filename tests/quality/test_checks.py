"""The data checks: each returns the failing rows, and none when all is well."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator.world import World
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.windows import Window, days_between
from pipeline.quality import checks
from pipeline.quality.checks import CHECKS, failing_rows, silent_accounts
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    at,
    derived,
    new_lake,
    operation_id,
    record,
    scan,
)

BASE_32 = "0123456789abcdefghjkmnpqrstvwxyz"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BY_NAME = {check.name: check for check in CHECKS}


def problems(folder: Path, name: str, *records: dict) -> list[str]:
    lake = derived(new_lake(folder), scan(records))
    return failing(lake, name)["problem"].to_pylist()


def failing(lake: Lake, name: str, days: Iterable[date] = (DAY,)) -> pa.Table:
    return failing_rows(lake, [BY_NAME[name]], of_days(lake, days))[name]


def of_days(lake: Lake, days: Iterable[date]) -> list[Partition]:
    return [one for one in lake.partitions("operations") if one.day in set(days)]


def genuine(**changes: object) -> dict:
    """A record whose id names its creation, as the API makes them."""
    world = World(1, 400, NOON)
    (one,) = world.records([0], at("2026-11-21 00:00"))
    return one | changes


@pytest.mark.parametrize("name", list(BY_NAME))
def test_sound_data_have_no_failing_row(tmp_path: Path, name: str):
    assert problems(tmp_path, name, genuine()) == []


@pytest.mark.parametrize("name", list(BY_NAME))
def test_empty_archive_has_no_failing_row(tmp_path: Path, name: str):
    assert failing(new_lake(tmp_path), name).num_rows == 0


def test_same_id_twice_in_an_account_is_named(tmp_path: Path):
    """R2: an operation that the API moved to another day would be there twice."""
    later = record(1, created_at=at("2026-11-21 01:00"))
    lake = derived(
        new_lake(tmp_path), scan([record(1)]), scan([record(1)], account_id=OTHER_ACCOUNT)
    )
    days = days_between(DAY, at("2026-11-21 00:00").date())
    assert failing(lake, "operation_ids", days).num_rows == 0
    derived(lake, scan([later], window=Window.of_day(days[1])))
    rows = failing(lake, "operation_ids", days).to_pylist()
    assert [(row["operation_id"], row["operations"]) for row in rows] == [(operation_id(1), 2)]


def test_parts_beyond_the_total_are_named_under_every_reading(tmp_path: Path):
    fine = [
        record(1, stats={"total": 5, "sent": 5, "delivered": 5, "opened": 3}),
        record(2, stats={"total": 5, "sent": 0, "delivered": 2, "opened": 3}),
    ]
    wrong = record(3, stats={"total": 5, "sent": 5, "delivered": 5, "failed": 1})
    lake = derived(new_lake(tmp_path), scan([*fine, wrong]))
    rows = failing(lake, "parts_within_total").to_pylist()
    assert [(r["operation_id"], r["total"], r["parts"]) for r in rows] == [(operation_id(3), 5, 6)]


def test_what_the_reference_does_not_know_is_named(tmp_path: Path):
    """Fact: "an unknown status or an unknown field is data: keep it, and say so"."""
    found = problems(
        tmp_path,
        "known_to_reference",
        genuine(id=operation_id(1), status="ARCHIVED"),
        genuine(id=operation_id(2), region="eu"),
        genuine(id=operation_id(3), stats=genuine()["stats"] | {"read": 1}),
        genuine(id=operation_id(4), stats=genuine()["stats"] | {"sent": None}),
        genuine(id="odd"),
    )
    assert found == [
        "unknown status ARCHIVED",
        "unknown field region",
        "unknown field read",
        "id that does not match the documented pattern",
    ]


def test_id_with_another_embedded_time_fails(tmp_path: Path):
    """Fact: "the embedded time is a free cross-check of `createdAt`"."""
    moved = genuine(createdAt="2026-11-20T18:00:00Z")
    (problem,) = problems(tmp_path, "embedded_time", moved)
    assert problem.startswith("the id says that it was created at 2026-11-20 12:")


def id_made_at(moment: datetime, number: int) -> str:
    """An id as the API makes them: the milliseconds of the moment and more, in base 32."""
    left, digits = (moment - EPOCH) // timedelta(milliseconds=1), ""
    while len(digits) < 10:
        left, digit = divmod(left, 32)
        digits = f"{BASE_32[digit]}{digits}"
    return f"comms_operation_{digits}{number:016d}"


# Seven digits change every 32,768 ms: what is near such a change is told least surely.
CHANGE = -((NOON - EPOCH) // timedelta(milliseconds=1)) % 32_768
MADE = st.one_of(st.integers(0, 200_000), st.integers(CHANGE - 300, CHANGE + 300))
SECONDS = st.one_of(st.integers(-70, 70), st.sampled_from([-62, -61, -60, 60, 61, 62]))


@settings(max_examples=15)  # each is an archive; so each has many operations
@given(st.lists(st.tuples(MADE, SECONDS), min_size=1, max_size=50))
def test_a_minute_between_an_id_and_its_creation_is_tolerated(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int]]
):
    """Whatever other operations have the same time to half a minute: ids are told together by that."""
    records, late = [], set[str]()
    for number, (milliseconds, seconds) in enumerate(made):
        moment = NOON + timedelta(milliseconds=milliseconds)
        created = moment.replace(microsecond=0) + timedelta(seconds=seconds)
        one = id_made_at(moment, number)
        records.append(record(1, created_at=created) | {"id": one})
        if abs(seconds) > 60:
            late.add(one)
    day = Window.of_day(DAY)
    lake = derived(new_lake(tmp_path_factory.mktemp("lake")), scan(records, window=day))
    assert set(failing(lake, "embedded_time")["operation_id"].to_pylist()) == late


def test_checks_read_in_parts_miss_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """R2, with as few rows at once as there are: also what two parts have in common."""
    monkeypatch.setattr(checks, "_AT_ONCE", 1)
    later = at("2026-11-21 01:00")
    lake = new_lake(tmp_path)
    wrong = {"total": 1, "failed": 5}
    derived(lake, scan([record(1), record(2, stats=wrong)]))
    derived(lake, scan([record(2)], account_id=OTHER_ACCOUNT))
    tomorrow = Window.of_day(later.date())
    moved = [record(1, created_at=later), record(3, created_at=later, stats=wrong)]
    derived(lake, scan(moved, window=tomorrow))
    found = failing_rows(lake, CHECKS, of_days(lake, [DAY, later.date()]))
    assert found["operation_ids"]["operation_id"].to_pylist() == [operation_id(1)]
    assert found["parts_within_total"]["operation_id"].to_pylist() == [
        operation_id(n) for n in (2, 3)
    ]
    assert found.keys() == BY_NAME.keys()


@pytest.mark.parametrize("silent_days", [2, 10, 27, 30, 40, 400])
def test_account_silent_for_longer_than_ever_is_named(silent_days: int, tmp_path: Path):
    every_hour = [record(n, created_at=NOON - timedelta(hours=n)) for n in range(12)]
    later = Window.of_day((NOON + timedelta(days=silent_days)).date())
    moment = NOON + timedelta(days=silent_days)
    lake = derived(new_lake(tmp_path), scan(every_hour), scan([], window=later, observed_at=moment))
    (silent,) = silent_accounts(lake).to_pylist()
    assert silent["account_id"] == ACCOUNT
    assert "no operation since the hour of 2026-11-20 12:00" in silent["problem"]


def test_account_pausing_as_usual_is_not_named(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)], observed_at=NOON + timedelta(hours=6)))
    assert silent_accounts(lake).num_rows == 0


def test_rejects_are_named_with_their_reason(tmp_path: Path):
    found = problems(tmp_path, "rejects", genuine(), genuine(stats=None))
    assert found == ["expected an object in stats; got null"]


def test_only_requested_days_are_checked(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([genuine(stats=None)]))
    assert failing(lake, "rejects", [at("2026-11-19 00:00").date()]).num_rows == 0
