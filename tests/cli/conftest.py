"""An archive that one sync has made."""

from collections.abc import Iterator

import pytest

from pipeline.emulator import Emulator, World
from pipeline.settings import Settings
from tests.support.archives import account, sync_all
from tests.support.factories import at

NOW = at("2026-11-14 15:00")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, Settings]]:
    """An archive of one sync, and the API that it came from."""
    folder = tmp_path_factory.mktemp("archive")
    with account(World(5, 300.0, at("2026-11-10")), NOW, folder) as (emulator, settings):
        sync_all(settings, publishing=True)
        yield emulator, settings
