"""The report's charts of the demo as pictures for docs/: ``python -m tests.support.pictures FOLDER``."""

import sys
from pathlib import Path

from pipeline.lake.layout import Lake
from pipeline.report.data import read_accounts
from pipeline.report.figures import figures
from pipeline.report.png import png

_IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main(folder: Path) -> None:
    """Draw each chart of the archive in ``folder/data/demo``."""
    (account,), _ = read_accounts(Lake(folder / "data" / "demo"))
    for figure in figures(account):
        path = _IMAGES / f"report-{figure.key.replace('_', '-')}.png"
        path.write_bytes(png(figure, width=640, scale=1.5))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
