"""An instance, an emulated account, and runs of all days."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline.emulator import Emulator
from tests.dagster.runs import NOW, WORLD, Done, definitions, publish, sync_days
from tests.support.archives import account


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[tuple[Emulator, dg.Definitions]]:
    with account(WORLD, NOW, tmp_path) as (emulator, settings):
        yield emulator, definitions(tmp_path, emulator.url, settings.account_sid)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    data = tmp_path_factory.mktemp("done")
    with account(WORLD, NOW, data) as (emulator, settings), dg.DagsterInstance.ephemeral() as one:
        defs = definitions(data, emulator.url, settings.account_sid)
        yield Done(emulator, data, defs, one, [*sync_days(one, defs), publish(one, defs)])
