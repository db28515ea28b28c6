"""DAGSTER_HOME with the configuration that the documentation has users copy."""

from pathlib import Path
from typing import Final

STORED: Final = Path(__file__).parents[2] / "deploy" / "dagster.yaml"


def dagster_home(folder: Path) -> dict[str, str]:
    """Make the folder, and return the variable that names it."""
    folder.mkdir(exist_ok=True)
    (folder / STORED.name).write_text(STORED.read_text(encoding="utf-8"), encoding="utf-8")
    return {"DAGSTER_HOME": str(folder)}
