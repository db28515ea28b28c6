"""The report's charts as PNG, for Dagster."""

import io
import textwrap
from typing import Any, Final

import vl_convert
from PIL import Image

from pipeline.report.figures import Figure
from pipeline.report.palette import CONFIG, LIGHT, themed

_FONT: Final = "DejaVu Sans, Helvetica, Arial, sans-serif"  # vl-convert includes no font
_LINE: Final = 105  # characters in a subtitle's line, at a width of 640


def png(
    figure: Figure, *, width: int = 640, scale: float = 1.0, is_explained: bool = True
) -> bytes:
    """A figure on white, with its title; reproducible on one machine.

    Args:
        figure: the figure.
        width: of the plot, in units of the drawing.
        scale: pixels per unit.
        is_explained: whether to show the figure's note below the title.
    """
    spec = figure.chart.to_dict()
    subtitle = textwrap.wrap(figure.note, width * _LINE // 640) if is_explained else []
    drawn: dict[str, Any] = themed(
        spec
        | {
            "width": width,
            "padding": 12,
            "title": {"text": figure.title, "subtitle": subtitle},
            "datasets": dict(figure.data),
            "config": CONFIG | {"font": _FONT},
        },
        LIGHT,
    )
    picture: bytes = vl_convert.vegalite_to_png(
        drawn, vl_version=vegalite_version(), scale=scale, allowed_base_urls=[]
    )
    return _packed(picture)


def _packed(picture: bytes) -> bytes:
    """The picture with a palette of 256 colours: a third of the bytes."""
    packed = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        few = image.convert("RGB").quantize(
            256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    few.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def vegalite_version() -> str:
    """The newest Vega-Lite that vl-convert has, which is at least as new as Altair's."""
    versions = vl_convert.get_vegalite_versions()
    return max(versions, key=lambda version: [int(part) for part in version.split(".")])
