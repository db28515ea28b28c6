"""The benchmark's picture: what each policy costs against what it misses."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import altair as alt
import pandas as pd

from tests.benchmarks.output import HOURLY, OURS, PART, QUARTERLY, YESTERDAY, Result

# Where each label has room: beside its point, and what it says.
_LABELS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    OURS: ("this policy", {"align": "right", "dx": -12, "dy": 9, "fontWeight": "bold"}),
    QUARTERLY: ("rescan 7 days every 15 minutes", {"align": "left", "dx": 12, "dy": -14}),
    HOURLY: ("rescan 7 days every hour", {"align": "left", "dx": 12, "dy": -7}),
    YESTERDAY: ("scan yesterday once", {"align": "right", "dx": -12, "dy": -7}),
}
_INK, _QUIET, _OURS, _OTHERS = "#1f2933", "#66727f", "#c2255c", "#3b6ea5"
_DECADES: Final = 4
_MISSING: Final = (3, 3_000)


def draw(results: Sequence[Result], days: int, path: Path) -> None:
    """Save the picture: one panel per size of account, requests up, what is missing to the right."""
    sizes = list(dict.fromkeys(one.per_day for one in results))
    panels = [_panel(results, per_day, is_first=per_day == sizes[0]) for per_day in sizes]
    chart = (
        alt.hconcat(*panels, spacing=28)
        .properties(
            title=alt.TitleParams(
                "What it costs to keep the archive fresh, and what it still misses",
                subtitle=[
                    f"Each point is a way to keep an archive up to date, over {days} simulated days.",
                    "The nearer to the lower left corner, the better. Both axes are logarithmic.",
                ],
                anchor="start",
                offset=16,
            ),
            padding=16,
        )
        .configure(background="white", font="DejaVu Sans, Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_title(
            fontSize=18, color=_INK, subtitleFontSize=13, subtitleColor=_QUIET, subtitlePadding=8
        )
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12.5,
            titleFontWeight="normal",
            labelColor=_QUIET,
            titleColor=_INK,
            gridColor="#e9edf1",
            domainColor="#b8c2cc",
            tickColor="#b8c2cc",
        )
    )
    chart.save(path, scale_factor=2)


def _panel(
    results: Sequence[Result], per_day: int, *, is_first: bool
) -> alt.LayerChart | alt.FacetChart:
    mine = [one for one in results if one.per_day == per_day]
    lowest = math.floor(math.log10(min(one.requests_per_day for one in mine)))
    decades = [10**n for n in range(lowest, lowest + _DECADES + 1)]
    x = alt.X(
        "missing:Q",
        title="deliveries + opens missing per 1,000 operations under 24 h old",
        scale=alt.Scale(type="log", domain=_MISSING, nice=False),
        axis=alt.Axis(values=[3, 10, 30, 100, 300, 1_000, 3_000], format=",d"),
    )
    y = alt.Y(
        "requests:Q",
        title="requests per day" if is_first else None,
        scale=alt.Scale(type="log", domain=(decades[0], decades[-1]), nice=False),
        axis=alt.Axis(values=decades, format=",d"),
    )
    target = next(one.requests_per_day for one in mine if one.policy == QUARTERLY) / PART
    goal = alt.Chart(
        pd.DataFrame([{"requests": target, "missing": _MISSING[1], "text": _goal(target)}])
    )
    layers: list[Any] = [
        goal.mark_rule(strokeDash=[5, 4], color=_QUIET).encode(y=y),
        goal.mark_text(align="right", dx=-4, dy=11, fontSize=11.5, color=_QUIET).encode(
            x=x, y=y, text="text:N"
        ),
    ]
    for one in mine:
        name, place = _LABELS[one.policy]
        color = _OURS if one.policy == OURS else _OTHERS
        point = alt.Chart(
            pd.DataFrame(
                [
                    {
                        "label": f"{name}\n{one.requests_per_day:,.0f} requests",
                        "requests": one.requests_per_day,
                        "missing": 1_000 * sum(one.errors.young),
                    }
                ]
            )
        ).encode(x=x, y=y)
        layers += [
            point.mark_circle(size=150, opacity=1, color=color),
            point.mark_text(
                baseline="middle",
                fontSize=13,
                lineBreak="\n",
                lineHeight=16,
                color=color,
                **place,
            ).encode(text="label:N"),
        ]
    return alt.layer(*layers).properties(
        width=400,
        height=340,
        title=alt.TitleParams(
            f"{per_day:,} operations a day", fontSize=14, anchor="start", offset=8
        ),
    )


def _goal(target: float) -> str:
    return f"1/{PART} of the 15-minute rescan: {target:,.0f}"
