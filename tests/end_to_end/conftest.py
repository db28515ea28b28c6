"""The demo's archive: played once, for all who look at it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.lake.layout import Lake
from tests.support import pages
from tests.support.reports import of_largest


@dataclass(frozen=True)
class Demo:
    """A folder with the demo's archive in ``data/demo`` and its output in ``demo.txt``."""

    folder: Path
    said: str

    @property
    def data(self) -> Path:
        return self.folder / "data" / "demo"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Demo:
    """Played by one worker of pytest-xdist; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "the-demo"
    said = folder / "demo.txt"
    with FileLock(folder.with_suffix(".lock")):
        if not said.exists():
            folder.mkdir()
            text = pages.run("email-archive demo --no-dagster", folder)
            said.write_text(text)
    return Demo(folder, said.read_text())


@pytest.fixture(scope="session")
def page_of_largest(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the demo's largest account."""
    return of_largest(Lake(demo.data), tmp_path_factory.mktemp("largest"))
