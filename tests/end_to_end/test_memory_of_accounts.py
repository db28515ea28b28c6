"""The memory of a sync of many accounts in one process."""

import sys
from pathlib import Path

import pytest

from pipeline.accounts import Account
from pipeline.emulator import Clock, Options, World, running
from pipeline.settings import Settings
from tests.benchmarks.speed.process import run
from tests.support.factories import at
from tests.support.several import configured

NOW = at("2026-11-20")


def memory(folder: Path, number: int) -> int:
    """Bytes at the peak of the first sync of so many accounts with 200 operations on each of 8 days."""
    folder.mkdir()
    served = [
        (World(n, 200.0, at("2026-11-12")), Options(account_sid=f"AC{n:032x}", auth_token=f"t{n}"))
        for n in range(number)
    ]
    (world, options), *others = served
    with running(world, clock=Clock(NOW), options=options, others=others) as emulator:
        accounts = [
            Account(
                one.account_sid,
                f"a{n}",
                is_active=True,
                settings=Settings(
                    account_sid=one.account_sid, auth_token=one.auth_token, api_url=emulator.url
                ),
            )
            for n, (_, one) in enumerate(served)
        ]
        variables = configured(folder, accounts) | {"EMAIL_ARCHIVE_TRUST_CLOCK": "true"}
        variables["EMAIL_ARCHIVE_CONFIG"] = str(folder / "email-archive.toml")
        return run([sys.executable, "-m", "pipeline.cli", "sync"], variables).memory


@pytest.mark.slow
def test_20_accounts_take_at_most_1_5_times_the_memory_of_one(tmp_path: Path):
    many, one = memory(tmp_path / "many", 20), memory(tmp_path / "one", 1)
    assert many <= 1.5 * one, (many, one)
