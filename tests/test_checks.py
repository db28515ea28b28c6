"""The data checks: each returns the failing rows, and none when all is well."""

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.checks import CHECKS, failing_rows, silent_accounts
from pipeline.emulator.world import World
from pipeline.windows import Window, days_between
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    at,
    new_lake,
    operation_id,
    record,
    scan,
    summarized,
)

BY_NAME = {check.name: check for check in CHECKS}


def problems(folder: Path, name: str, *records: dict) -> list[str]:
    lake = summarized(new_lake(folder), scan(records))
    return failing_rows(lake, BY_NAME[name], [DAY])["problem"].to_pylist()


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
    assert failing_rows(new_lake(tmp_path), BY_NAME[name], [DAY]).num_rows == 0


def test_same_id_twice_in_an_account_is_named(tmp_path: Path):
    """R2: an operation that the API moved to another day would be there twice."""
    later = record(1, created_at=at("2026-11-21 01:00"))
    lake = summarized(
        new_lake(tmp_path), scan([record(1)]), scan([record(1)], account_id=OTHER_ACCOUNT)
    )
    days = days_between(DAY, at("2026-11-21 00:00").date())
    assert failing_rows(lake, BY_NAME["operation_ids"], days).num_rows == 0
    summarized(lake, scan([later], window=Window.of_day(days[1])))
    rows = failing_rows(lake, BY_NAME["operation_ids"], days).to_pylist()
    assert [(row["operation_id"], row["operations"]) for row in rows] == [(operation_id(1), 2)]


def test_parts_beyond_the_total_are_named_under_every_reading(tmp_path: Path):
    fine = [
        record(1, stats={"total": 5, "sent": 5, "delivered": 5, "opened": 3}),
        record(2, stats={"total": 5, "sent": 0, "delivered": 2, "opened": 3}),
    ]
    wrong = record(3, stats={"total": 5, "sent": 5, "delivered": 5, "failed": 1})
    lake = summarized(new_lake(tmp_path), scan([*fine, wrong]))
    rows = failing_rows(lake, BY_NAME["parts_within_total"], [DAY]).to_pylist()
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


def test_id_that_names_another_time_is_named(tmp_path: Path):
    """Fact: "the embedded time is a free cross-check of `createdAt`"."""
    moved = genuine(createdAt="2026-11-20T18:00:00Z")
    (problem,) = problems(tmp_path, "embedded_time", moved)
    assert problem.startswith("the id says that it was created at 2026-11-20 12:")


@pytest.mark.parametrize("silent_days", [2, 10, 27, 30, 40, 400])
def test_account_that_is_silent_for_longer_than_ever_is_named_for_as_long_as_it_is(
    silent_days: int, tmp_path: Path
):
    every_hour = [record(n, created_at=NOON - timedelta(hours=n)) for n in range(12)]
    later = Window.of_day((NOON + timedelta(days=silent_days)).date())
    moment = NOON + timedelta(days=silent_days)
    lake = summarized(
        new_lake(tmp_path), scan(every_hour), scan([], window=later, observed_at=moment)
    )
    (silent,) = silent_accounts(lake).to_pylist()
    assert silent["account_id"] == ACCOUNT
    assert "no operation since the hour of 2026-11-20 12:00" in silent["problem"]


def test_account_that_pauses_as_usual_is_not_named(tmp_path: Path):
    lake = summarized(new_lake(tmp_path), scan([record(1)], observed_at=NOON + timedelta(hours=6)))
    assert silent_accounts(lake).num_rows == 0


def test_rejects_are_named_with_their_reason(tmp_path: Path):
    found = problems(tmp_path, "rejects", genuine(), genuine(stats=None))
    assert found == ["expected an object in stats; got null"]


def test_only_the_days_asked_for_are_looked_at(tmp_path: Path):
    lake = summarized(new_lake(tmp_path), scan([genuine(stats=None)]))
    assert failing_rows(lake, BY_NAME["rejects"], [at("2026-11-19 00:00").date()]).num_rows == 0
