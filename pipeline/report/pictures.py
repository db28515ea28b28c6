"""The report's charts as PNG: for Dagster, and wherever a page can't go."""

from typing import Any, Final

import vl_convert

from pipeline.report.facts import Account
from pipeline.report.figures import Figure, figures
from pipeline.report.palette import CONFIG, LIGHT, themed

_FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"  # vl-convert brings no font of its own
_LEGIBLE: Final = 105
"""Characters of a subtitle's line."""


def png(figure: Figure, *, width: int = 640, scale: float = 1.0) -> bytes:
    """A figure on white, with its title and how it is read; `width` is the plot's, in pixels."""
    spec = figure.chart.to_dict()
    subtitle = _lines(figure.note, width * _LEGIBLE // 640) if figure.note else []
    drawn: dict[str, Any] = themed(
        spec
        | {
            "width": width,
            "padding": 12,
            "title": {"text": figure.title, "subtitle": subtitle},
            "config": CONFIG | {"font": _FONT},
        },
        LIGHT,
    )
    picture: bytes = vl_convert.vegalite_to_png(
        drawn, vl_version=vegalite_version(), scale=scale, allowed_base_urls=[]
    )
    return picture


def pictures(account: Account, *, width: int = 400) -> dict[str, bytes]:
    """The figures of an account as small PNG, by the figures' keys; none if it has no operations."""
    if not account.series:
        return {}
    return {figure.key: png(figure, width=width) for figure in figures(account)}


def vegalite_version() -> str:
    """The newest Vega-Lite that vl-convert has: the charts are of Altair's, which is no newer."""
    versions = vl_convert.get_vegalite_versions()
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])


def _lines(text: str, length: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
