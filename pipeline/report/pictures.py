"""The report's charts as PNG: for Dagster, and wherever a page can't go."""

import io
from typing import Any, Final

import vl_convert
from PIL import Image

from pipeline.report.figures import Figure
from pipeline.report.palette import CONFIG, LIGHT, themed

_FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"  # vl-convert brings no font of its own
_LEGIBLE: Final = 105
"""Characters of a subtitle's line."""


def png(
    figure: Figure, *, width: int = 640, scale: float = 1.0, is_explained: bool = True
) -> bytes:
    """A figure on white, with its title; the same figure gives the same bytes on one machine.

    Args:
        figure: what to draw.
        width: of the plot, in pixels.
        scale: pixels of the picture for each of these.
        is_explained: with how it is read, below the title.
    """
    spec = figure.chart.to_dict()
    subtitle = _lines(figure.note, width * _LEGIBLE // 640) if is_explained else []
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
    return _packed(picture)


def _packed(picture: bytes) -> bytes:
    """The picture in a third of the bytes: a chart has few colours, and the ground's is kept as it is."""
    packed = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(
            256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    few.save(packed, "PNG", optimize=True)
    return packed.getvalue()


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
