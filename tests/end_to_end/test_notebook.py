"""The notebook runs as it is, and shows what is stored in it."""

import pytest

from tests.end_to_end.conftest import Demo
from tests.support import notebook


@pytest.fixture(scope="module")
def stored() -> object:
    return notebook.load()


def test_notebook_runs_and_shows_what_is_stored(demo: Demo, stored: object):
    """Texts are compared, of pictures that they are there; `make notebook` stores them anew."""
    assert notebook.shown(notebook.executed(demo.folder)) == notebook.shown(stored)


def test_notebook_is_small_and_has_its_pictures_in_it(stored: object):
    assert notebook.NOTEBOOK.stat().st_size < 600_000
    kinds = [kind for cell in notebook.shown(stored) for output in cell for kind in output]
    assert kinds.count("image/png") == 3
    assert "stream" not in kinds  # no warning, no print
    text = notebook.NOTEBOOK.read_text()
    assert "https://" not in text
    assert "<script" not in text


def test_every_figure_in_the_text_is_computed(stored: object):
    """A cell of text has no figures of the archive: what has is made by code."""
    known = {"7", "28"}  # the API's retention; the days that tell what to expect
    for cell in stored.cells:
        if cell.cell_type == "markdown":
            words = cell.source.replace(".", " ").replace(":", " ").split()
            assert {word for word in words if any(map(str.isdigit, word))} <= known, cell.source
