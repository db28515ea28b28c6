"""Charts over time: volume and rates by day or week.

Final periods are filled and solid, changing ones hollow and dashed, partly known or closed ones pale. A
cross marks lost hours. The data are named `series` and `unusual`: the page has the rows of the period that
the reader has chosen.
"""

from collections.abc import Sequence
from typing import Any, Final

import altair as alt

from pipeline.report.charts import COUNTS, CROSS, Chart, sized, tooltip, y_of
from pipeline.report.formats import RATE_NAMES
from pipeline.report.rows import Rows

SERIES: Final = "series"
UNUSUAL: Final = "unusual"

_MOST_POINTS: Final = 70
_HEIGHT, _HEIGHT_OF_RATE = 220, 170
_DAY: Final = 24 * 3600 * 1000
# The label of a day is below its bar: a bar lies around its midnight, a week's around its Thursday noon.
_AT: Final = f"time(toDate(datum.period)) + (datum.days > 1 ? 3 : 0) * {_DAY}"
_NAME: Final = (
    "(datum.days > 1 ? 'week from ' : '') + utcFormat(toDate(datum.period), '%a %-d %b %Y')"
)
# Over more than a year, a label has the year and no day.
_LABEL: Final = (
    f"utcFormat(datum.value, domain('x')[1] - domain('x')[0] > {300 * _DAY} ? '%b %Y' : '%-d %b')"
)


def unusual_rows(anomalies: Rows) -> Rows:
    """The rows of `UNUSUAL`."""
    return [
        {name: one[name] for name in ("rate", "value", "low", "high")}
        | {"period": f"{one['created_date']}"}
        for one in anomalies
    ]


def volume() -> Chart:
    """Emails by day or week, as bars."""
    is_changing = alt.datum.completeness == "changing"
    bars = (
        _base()
        .transform_calculate(
            start=f"datum.at - {0.38 * _DAY} * datum.days",
            end=f"datum.at + {0.38 * _DAY} * datum.days",
        )
        .mark_bar(clip=True, stroke="@blue")
        .encode(
            x=_time("start"),
            x2="end:T",
            y=alt.Y(
                "emails:Q", title="emails", axis=alt.Axis(format=",d", tickCount=5, tickMinStep=1)
            ),
            y2=alt.datum(0),
            fill=_fill(),
            strokeDash=alt.when(is_changing).then(alt.value([3, 2])).otherwise(alt.value([1, 0])),
            tooltip=tooltip("name", COUNTS, "known"),
        )
        .add_params(_zoom())
    )
    return sized(alt.layer(bars, _crosses()), _HEIGHT)


def rate(name: str, *, has_unusual: bool) -> Chart:
    """One rate by day or week, as a line; with the unusual days of this rate, if it has any."""
    base = _base().transform_window(
        before="lag(completeness)", after="lead(completeness)", sort=[alt.SortField("period")]
    )
    y = alt.Y(
        title=None,
        scale=alt.Scale(zero=name in {"undelivered_rate", "failure_rate"}, nice=True, padding=14),
        axis=alt.Axis(format=".1~%", tickCount=4),
    )
    line = base.encode(x=_time("at")).mark_line(
        color="@blue", strokeWidth=2, clip=True, invalid="break-paths-show-path-domains"
    )
    return sized(
        alt.layer(
            line.transform_calculate(
                shown=f"datum.completeness == 'final' ? datum.{name} : null"
            ).encode(y=y_of(y, "shown")),
            # Its ends are final periods, so that it meets the solid line.
            line.transform_calculate(
                shown="(datum.completeness != 'final' || (datum.before || 'final') != 'final'"
                f" || (datum.after || 'final') != 'final') ? datum.{name} : null"
            ).encode(y=y_of(y, "shown"), strokeDash=alt.value([4, 3])),
            _points(name, y),
            _crosses(),
            *(_unusual(name, y) if has_unusual else ()),
        ),
        _HEIGHT_OF_RATE,
    )


def _points(name: str, y: alt.Y) -> Chart:
    """Points of the periods. If there are many, they would hide the dashes: they stay for the tooltip."""
    points = _base().transform_joinaggregate(points="count()")
    marks = points.mark_point(filled=True, size=34, strokeWidth=1.5, stroke="@blue", clip=True)
    title = RATE_NAMES[name].lower()
    chart: Chart = marks.encode(
        x=_time("at"),
        y=y_of(y, name),
        fill=_fill(),
        opacity=alt.when(alt.datum.points > _MOST_POINTS)
        .then(alt.value(0))
        .otherwise(alt.value(1)),
        tooltip=tooltip("name", alt.Tooltip(f"{name}:Q", title=title, format=".2%"), "known"),
    ).add_params(_zoom())
    return chart


def _unusual(name: str, y: alt.Y) -> Sequence[Chart]:
    """Diamonds, each with its expected range."""
    base = (
        alt.Chart(alt.NamedData(UNUSUAL))
        .transform_filter(alt.datum.rate == name)
        .transform_calculate(
            at="time(toDate(datum.period))",
            day="utcFormat(datum.at, '%a %-d %b %Y')",
            short="utcFormat(datum.at, '%-d %b')",
            expected="format(datum.low, '.2%') + ' to ' + format(datum.high, '.2%')",
        )
        .encode(x=_time("at"))
    )
    tips = tooltip("day", alt.Tooltip("value:Q", title="unusual", format=".2%"), "expected")
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


def _crosses() -> Chart:
    """A cross at the foot of each period that has lost hours."""
    crosses: Chart = (
        _base()
        .transform_filter(alt.datum.completeness == "gaps")
        .mark_text(text=CROSS, color="@alarm", fontSize=13, dy=-7, clip=True)
        .encode(x=_time("at"), y=alt.value("height"), tooltip=["name:N", "known:N"])
    )
    return crosses


def _base() -> alt.Chart:
    base: alt.Chart = alt.Chart(alt.NamedData(SERIES)).transform_calculate(at=_AT, name=_NAME)
    return base


def _fill() -> Any:
    return (
        alt.when(alt.datum.completeness == "final")
        .then(alt.value("@blue"))
        .when(alt.datum.completeness == "changing")
        .then(alt.value("@paper"))
        .otherwise(alt.value("@low"))
    )


def _time(field: str) -> alt.X:
    return alt.X(
        f"{field}:T",
        title=None,
        scale=alt.Scale(type="utc", nice=False, padding=8),
        axis=alt.Axis(
            labelExpr=_LABEL,
            labelOverlap="parity",
            labelSeparation=8,
            labelFlush=True,
            grid=False,
            tickCount=alt.ExprRef("max(2, floor(width / 90))"),
            tickMinStep=_DAY,
        ),
    )


def _zoom() -> alt.Parameter:
    # Without Shift, the wheel scrolls the page.
    wheel = "wheel![event.shiftKey]"
    return alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom=wheel)
