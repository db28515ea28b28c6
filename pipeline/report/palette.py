"""The report's colours, in a light and a dark scheme.

They are Okabe and Ito's palette for every kind of colour vision, with a contrast to the background of at
least 3:1, and 4.5:1 for text (WCAG 2.2, 1.4.3 and 1.4.11). Charts use the keys. The page's script
replaces them with the colours of the reader's scheme. Nothing depends on colour alone.
"""

from typing import Any, Final, TypeAlias

Palette: TypeAlias = dict[str, str]

LIGHT: Final[Palette] = {
    "@paper": "#ffffff",
    "@ink": "#1b2430",
    "@quiet": "#55606e",
    "@grid": "#e3e8ee",
    "@blue": "#0072b2",
    "@green": "#007d5a",
    "@alarm": "#c24e00",
    "@on_blue": "#ffffff",
    "@low": "#eaf2f8",
    "@high": "#08406e",
}

DARK: Final[Palette] = {
    "@paper": "#161b22",
    "@ink": "#e8edf3",
    "@quiet": "#a3afbd",
    "@grid": "#2c3542",
    "@blue": "#56b4e9",
    "@green": "#2fc79b",
    "@alarm": "#ff9055",
    "@on_blue": "#0b1016",
    "@low": "#202b38",
    "@high": "#a6dcff",
}

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

CONFIG: Final[dict[str, Any]] = {
    "background": "@paper",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "@quiet",
        "titleColor": "@quiet",
        "gridColor": "@grid",
        "domainColor": "@grid",
        "tickColor": "@grid",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "legend": {
        "labelColor": "@ink",
        "titleColor": "@quiet",
        "titleFontWeight": "normal",
        "titleFontSize": 11,
        "labelFontSize": 11,
    },
    "text": {"color": "@ink", "fontSize": 11},
}
"""Vega-Lite's configuration, with keys for colours."""
