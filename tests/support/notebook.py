"""The notebook: executed on the demo's archive, and stored with its outputs.

``python -m tests.support.notebook FOLDER`` does both, with the demo in ``FOLDER/data/demo``. A test
compares the stored outputs.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "delivery_analysis.ipynb"
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def load() -> Any:
    """The notebook as it is stored."""
    return nbformat.read(NOTEBOOK, as_version=4)


def executed(folder: Path) -> Any:
    """The notebook after its cells ran, beside the archive in ``<folder>/data/demo``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = load()
    place = folder / "notebooks"
    place.mkdir(exist_ok=True)
    environment = dict(os.environ) | {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / ".ipython"),
    }
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(place)}},
        record_timing=False,
    )
    client.execute(env=environment)
    return notebook


def shown(notebook: Any) -> list[list[dict[str, str]]]:
    """What each cell shows: its texts, and of a picture that there is one."""
    return [[_texts(output) for output in cell.get("outputs", [])] for cell in notebook.cells]


def _texts(output: Any) -> dict[str, str]:
    data = output.get("data", {"stream": output.get("text", "")})
    return {
        kind: "a picture" if kind.startswith("image/") else _ADDRESS.sub("0x", text)
        for kind, text in data.items()
    }


def store(folder: Path) -> None:
    """Execute the notebook and store it with its outputs."""
    nbformat.write(executed(folder), NOTEBOOK)


if __name__ == "__main__":
    store(Path(sys.argv[1]).resolve())
