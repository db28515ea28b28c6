"""A wrong account SID is noticed before anything lands: with an API key it is never sent."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.emulator import Clock, Emulator, Options, World, running
from pipeline.lake.layout import Lake
from pipeline.lake.shared_ids import SharedIdsError
from pipeline.model.schema import COVERAGE, OPERATIONS
from pipeline.settings import Settings
from pipeline.sync import sync
from tests.support.archives import rows, sync_all
from tests.support.factories import ACCOUNT, OTHER_ACCOUNT, at

NOW = at("2026-11-14 15:05")
WORLD = World(5, 100.0, at("2026-11-12"))
KEY = {"api_key_sid": "SK" + "1" * 32, "api_key_secret": "hush"}


def labelled(emulator: Emulator, data: Path, account: str, **fields: object) -> Settings:
    """Settings that store what the API key reads under an account, be it the key's or not."""
    return Settings(
        account_sid=account, api_url=emulator.url, data=data, trust_clock=True, **KEY, **fields
    )


@pytest.fixture
def emulator():
    with running(WORLD, clock=Clock(NOW), options=Options(**KEY)) as running_emulator:
        yield running_emulator


def test_operations_of_another_account_stop_the_sync_before_they_land(
    emulator: Emulator, tmp_path: Path
):
    assert sync_all(labelled(emulator, tmp_path, ACCOUNT)).ok
    before, served = rows(tmp_path, OPERATIONS), len(emulator.requests)
    with pytest.raises(SharedIdsError, match=f"has under {ACCOUNT}.*--allow-shared-ids"):
        sync_all(labelled(emulator, tmp_path, OTHER_ACCOUNT))
    # Before any scan: a day without operations would land.
    assert not any("startDate" in one.query for one in emulator.requests[served:])
    lake = Lake(tmp_path)
    assert lake.pending() == set()
    assert set(lake.accounts(COVERAGE.name)) == {ACCOUNT}
    assert rows(tmp_path, OPERATIONS).equals(before)


def test_shared_operations_can_be_allowed(emulator: Emulator, tmp_path: Path):
    assert sync_all(labelled(emulator, tmp_path, ACCOUNT)).ok
    allowed = labelled(emulator, tmp_path, OTHER_ACCOUNT, allow_shared_ids=True)
    assert sync_all(allowed).ok
    assert set(Lake(tmp_path).accounts(OPERATIONS.name)) == {ACCOUNT, OTHER_ACCOUNT}


def test_wrongly_labelled_copy_never_stops_the_account_itself(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """R12: neither on days that both have, nor on one that the copy stored first."""
    mine, copy = (labelled(emulator, tmp_path, one) for one in (ACCOUNT, OTHER_ACCOUNT))
    allowed = copy.model_copy(update={"allow_shared_ids": True})
    assert sync_all(mine).ok
    assert sync_all(allowed).ok
    assert sync_all(mine).ok
    assert f"and under {OTHER_ACCOUNT}" in caplog.text
    emulator.clock.set(NOW + timedelta(days=1))
    assert sync_all(allowed).ok
    assert sync_all(mine).ok


def test_swapped_credentials_are_noticed(emulator: Emulator, tmp_path: Path):
    """Also where the account has operations of its own on the same days."""
    other = replace(WORLD, seed=6)
    with running(other, clock=Clock(NOW), options=Options(**KEY)) as second:
        for served, sid in ((emulator, ACCOUNT), (second, OTHER_ACCOUNT)):
            assert sync_all(labelled(served, tmp_path, sid)).ok
        later = NOW + timedelta(minutes=10)
        for served, sid in ((emulator, ACCOUNT), (second, OTHER_ACCOUNT)):
            served.clock.set(later)
            assert sync(labelled(served, tmp_path, sid), publishing=False).ok
        with pytest.raises(SharedIdsError):
            sync_all(labelled(emulator, tmp_path, OTHER_ACCOUNT))


def test_damaged_day_of_another_account_stops_no_sync(emulator: Emulator, tmp_path: Path):
    """R12"""
    assert sync_all(labelled(emulator, tmp_path, ACCOUNT)).ok
    lake = Lake(tmp_path)
    for partition in lake.partitions(OPERATIONS.name):
        lake.part(OPERATIONS, partition).write_bytes(b"damaged")
    with running(replace(WORLD, seed=6), clock=Clock(NOW), options=Options(**KEY)) as second:
        report = sync_all(labelled(second, tmp_path, OTHER_ACCOUNT))
    assert not report.extraction.failures
    assert report.merges
