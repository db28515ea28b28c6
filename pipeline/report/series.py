"""Charts over time: volume and rates by day or week.

Final periods are filled and solid, changing ones hollow and dashed, partly known or closed ones pale. A
cross marks lost hours.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final

import altair as alt

from pipeline.report.charts import COUNTS, CROSS, Chart, sized, tooltip, y_of
from pipeline.report.data import Row, Rows
from pipeline.report.sentences import RATE_NAMES, how_known, named, short

_MOST_POINTS: Final = 70
_HEIGHT, _HEIGHT_OF_RATE = 220, 170


def volume(series: Rows, *, is_weekly: bool) -> Chart:
    """Emails by day or week, as bars."""
    length = timedelta(days=7 if is_weekly else 1)
    rows = [
        _period(row, is_weekly=is_weekly)
        | {
            "from": _moment(row["period"], length * 0.12),
            "to": _moment(row["period"], length * 0.88),
            "emails": row["emails"],
            "operations": row["operations"],
        }
        for row in series
    ]
    is_changing = alt.datum.completeness == "changing"
    bars = (
        alt.Chart()
        .mark_bar(clip=True, stroke="@blue")
        .encode(
            x=_time("from"),
            x2="to:T",
            y=alt.Y("emails:Q", title="emails", axis=alt.Axis(format=",d", tickCount=5)),
            y2=alt.datum(0),
            fill=_fill(),
            strokeDash=alt.when(is_changing).then(alt.value([3, 2])).otherwise(alt.value([1, 0])),
            tooltip=tooltip("period", COUNTS, "known"),
        )
        .add_params(_zoom())
    )
    return sized(alt.layer(bars, *_crosses(series), data=alt.InlineData(values=rows)), _HEIGHT)


def rate(series: Rows, anomalies: Rows, name: str, *, is_weekly: bool) -> Chart:
    """One rate by day or week, as a line, with the anomalies of this rate."""
    rows = [
        _period(row, is_weekly=is_weekly)
        | {
            "rate": row[name],
            "settled": row[name] if row["completeness"] == "final" else None,
            "unsettled": row[name] if _is_unsettled_from(series, n) else None,
        }
        for n, row in enumerate(series)
    ]
    base = alt.Chart().encode(x=_time("middle"))
    y = alt.Y(
        title=None,
        scale=alt.Scale(zero=name in {"undelivered_rate", "failure_rate"}, nice=True, padding=14),
        axis=alt.Axis(format=".1~%", tickCount=4),
    )
    line = base.mark_line(
        color="@blue", strokeWidth=2, clip=True, invalid="break-paths-show-path-domains"
    )
    # Many points would hide the dashes. They stay for the tooltip, invisible.
    points = base.mark_point(filled=True, size=34, strokeWidth=1.5, stroke="@blue", clip=True)
    points = points.encode(
        y=y_of(y, "rate"),
        fill=_fill(),
        opacity=alt.value(0 if len(rows) > _MOST_POINTS else 1),
        tooltip=tooltip(
            "period", alt.Tooltip("rate:Q", title=RATE_NAMES[name].lower(), format=".2%"), "known"
        ),
    ).add_params(_zoom())
    layers = [
        line.encode(y=y_of(y, "settled")),
        line.encode(y=y_of(y, "unsettled"), strokeDash=alt.value([4, 3])),
        points,
        *_crosses(series),
        *_unusual([one for one in anomalies if one["rate"] == name], y),
    ]
    return sized(alt.layer(*layers, data=alt.InlineData(values=rows)), _HEIGHT_OF_RATE)


def _unusual(anomalies: Rows, y: alt.Y) -> Sequence[Chart]:
    """Diamonds, each with its expected range."""
    if not anomalies:
        return ()
    rows = [
        {
            "middle": _moment(one["created_date"], timedelta(hours=12)),
            "day": named(one["created_date"]),
            "short": short(one["created_date"]),
            "value": one["value"],
            "low": one["low"],
            "high": one["high"],
            "expected": f"{one['low']:.2%} to {one['high']:.2%}",
        }
        for one in anomalies
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=_time("middle"))
    unusual = alt.Tooltip("value:Q", title="unusual", format=".2%")
    tips = tooltip("day", unusual, "expected")
    look: dict[str, Any] = {"color": "@alarm", "clip": True}
    return (
        base.mark_rule(strokeWidth=7, opacity=0.45, **look).encode(
            y=y_of(y, "low"), y2="high:Q", tooltip=tips
        ),
        base.mark_point(shape="diamond", filled=True, size=130, opacity=1, **look).encode(
            y=y_of(y, "value"), tooltip=tips
        ),
        base.mark_text(align="left", dx=10, fontWeight="bold", **look).encode(
            y=y_of(y, "value"), text="short:N"
        ),
    )


def _crosses(series: Rows) -> Sequence[Chart]:
    """A cross at the foot of each period that has lost hours."""
    if not any(row["completeness"] == "gaps" for row in series):
        return ()
    crosses = (
        alt.Chart()
        .transform_filter(alt.datum.completeness == "gaps")
        .mark_text(text=CROSS, color="@alarm", fontSize=13, dy=-7, clip=True)
        .encode(x=_time("middle"), y=alt.value("height"), tooltip=["period:N", "known:N"])
    )
    return (crosses,)


def _period(row: Row, *, is_weekly: bool) -> Row:
    """The fields that every chart over time has."""
    return {
        "middle": _moment(row["period"], timedelta(days=3.5 if is_weekly else 0.5)),
        "period": named(row["period"], is_weekly=is_weekly),
        "completeness": row["completeness"],
        "known": how_known(row),
    }


def _is_unsettled_from(series: Rows, n: int) -> bool:
    """Whether the dashed line has this point: one that is not final, or next to one."""
    return any(row["completeness"] != "final" for row in series[max(n - 1, 0) : n + 2])


def _fill() -> Any:
    return (
        alt.when(alt.datum.completeness == "final")
        .then(alt.value("@blue"))
        .when(alt.datum.completeness == "changing")
        .then(alt.value("@paper"))
        .otherwise(alt.value("@low"))
    )


def _moment(day: date, offset: timedelta) -> str:
    return f"{datetime.combine(day, time()) + offset:%Y-%m-%dT%H:%M:%SZ}"


def _time(field: str) -> alt.X:
    return alt.X(
        f"{field}:T",
        title=None,
        scale=alt.Scale(type="utc", nice=False, padding=8),
        axis=alt.Axis(
            format="%-d %b",
            labelOverlap="parity",
            labelSeparation=8,
            labelFlush=True,
            grid=False,
            tickCount=alt.ExprRef("max(2, floor(width / 90))"),
        ),
    )


def _zoom() -> alt.Parameter:
    # Without Shift, the wheel scrolls the page.
    wheel = "wheel![event.shiftKey]"
    return alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom=wheel)
