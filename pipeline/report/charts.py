"""One chart, one function: from rows of the warehouse to an Altair chart.

Colours are keys of `palette`. Widths are the container's, heights are pixels. Only what is final is filled
and solid: what can still change is hollow and dashed, what is known in part or without a final scan is
pale, what is lost is a cross, and what is unknown is left blank. Times are UTC.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Final, TypeAlias

import altair as alt

from pipeline.report.facts import CALENDAR_WEEKS, Row, Rows

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart

RATE_NAMES: Final = {
    "delivery_rate": "Delivery rate",
    "open_rate": "Open rate",
    "undelivered_rate": "Undelivered rate",
    "failure_rate": "Failure rate",
}
FEWEST_DELIVERED: Final = 30
"""An hour of the week with fewer delivered emails has no open rate to show."""

_MOST_POINTS: Final = 70
_TALL, _LOW = 220, 170
_CROSS: Final = "✕"
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_ZOOM: Final = "wheel![event.shiftKey]"  # without Shift, the wheel belongs to the page


def volume(series: Rows, *, is_weekly: bool) -> Chart:
    """Emails by day or week: bars, hollow while they can change."""
    length = timedelta(days=7 if is_weekly else 1)
    rows = [
        {
            "from": _moment(row["period"], length * 0.12),
            "to": _moment(row["period"], length * 0.88),
            "middle": _moment(row["period"], length / 2),
            "period": named(row["period"], is_weekly=is_weekly),
            "emails": row["emails"],
            "operations": row["operations"],
            "completeness": row["completeness"],
            "known": how_known(row),
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
            tooltip=[
                alt.Tooltip("period:N"),
                alt.Tooltip("emails:Q", format=",d"),
                alt.Tooltip("operations:Q", format=",d"),
                alt.Tooltip("known:N"),
            ],
        )
        .add_params(_zoom())
    )
    return _sized(alt.layer(bars, *_crosses(series), data=alt.InlineData(values=rows)), _TALL)


def rate(series: Rows, anomalies: Rows, name: str, *, is_weekly: bool) -> Chart:
    """One rate by day or week: a line, dashed where it is not final, and the days that left their band."""
    length = timedelta(days=7 if is_weekly else 1)
    rows = [
        {
            "middle": _moment(row["period"], length / 2),
            "period": named(row["period"], is_weekly=is_weekly),
            "rate": row[name],
            "settled": row[name] if row["completeness"] == "final" else None,
            "unsettled": row[name] if _is_unsettled_from(series, n) else None,
            "completeness": row["completeness"],
            "known": how_known(row),
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
    points = (
        base.mark_point(filled=True, size=34, strokeWidth=1.5, stroke="@blue", clip=True)
        .encode(
            y=_y(y, "rate"),
            fill=_fill(),
            opacity=alt.value(1),
            tooltip=[
                alt.Tooltip("period:N"),
                alt.Tooltip("rate:Q", title=RATE_NAMES[name].lower(), format=".2%"),
                alt.Tooltip("known:N"),
            ],
        )
        .add_params(_zoom())
    )
    if len(rows) > _MOST_POINTS:
        # Too many to tell apart: the dashes alone show what can change; points answer the pointer.
        points = points.encode(opacity=alt.value(0))
    layers: list[Any] = [
        line.encode(y=_y(y, "settled")),
        line.encode(y=_y(y, "unsettled"), strokeDash=alt.value([4, 3])),
        points,
        *_crosses(series),
        *_unusual([one for one in anomalies if one["rate"] == name], y),
    ]
    return _sized(alt.layer(*layers, data=alt.InlineData(values=rows)), _LOW)


def _unusual(anomalies: Rows, y: alt.Y) -> Sequence[Chart]:
    """Diamonds, each with the range that was expected of it."""
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
    tooltip = [
        alt.Tooltip("day:N"),
        alt.Tooltip("value:Q", title="unusual", format=".2%"),
        alt.Tooltip("expected:N"),
    ]
    return (
        base.mark_rule(strokeWidth=7, opacity=0.45, color="@alarm", clip=True).encode(
            y=_y(y, "low"), y2="high:Q", tooltip=tooltip
        ),
        base.mark_point(
            shape="diamond", filled=True, size=130, color="@alarm", opacity=1, clip=True
        ).encode(y=_y(y, "value"), tooltip=tooltip),
        base.mark_text(align="left", dx=10, color="@alarm", fontWeight="bold", clip=True).encode(
            y=_y(y, "value"), text="short:N"
        ),
    )


def curve(ages: Rows) -> Chart:
    """What was delivered and opened by each age: boxes that the truth lies in, as far as scans tell.

    Up to an age without a later scan there is a line below, and no box: nothing bounds the truth above.
    """
    boxes = [
        {
            "what": what,
            "from": here["age_minutes"],
            "to": there["age_minutes"],
            "ages": f"{here['age']} to {there['age']}",
            "low": here[f"{what}_at_least"],
            "high": there[f"{what}_at_most"],
            "at_most": _bound(there[f"{what}_at_most"]),
        }
        for here, there in pairwise(ages)
        for what in ("delivered", "opened")
    ]
    ends = [
        {"what": what, "at": ages[-1]["age_minutes"], "low": ages[-1][f"{what}_at_least"]}
        for what in ("delivered", "opened")
    ]
    names = {row["age_minutes"]: row["age"] for row in ages}
    shown = "datum.value == 1 ? '1 min' : " + " : ".join(
        f"datum.value == {minutes} ? '{age}'" for minutes, age in names.items()
    )
    x = alt.X(
        "from:Q",
        title="age: time since creation",
        scale=alt.Scale(type="log", domain=[1, ages[-1]["age_minutes"]], nice=False),
        axis=alt.Axis(
            values=list(names),
            labelExpr=f"{shown} : ''",
            labelOverlap="greedy",
            labelSeparation=6,
            grid=False,
        ),
    )
    y = alt.Y(
        title="share of attempted emails",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
    )
    color = alt.Color(
        "what:N",
        legend=None,
        scale=alt.Scale(domain=["delivered", "opened"], range=["@blue", "@green"]),
    )
    tooltip = [
        alt.Tooltip("what:N"),
        alt.Tooltip("ages:N", title="from age"),
        alt.Tooltip("low:Q", title="at least", format=".2%"),
        alt.Tooltip("at_most:N", title="at most"),
    ]
    base = alt.Chart(alt.InlineData(values=boxes)).encode(color=color, tooltip=tooltip)
    # Where each has room: below the line near the top, above the other.
    at_end = [
        alt.Chart(alt.InlineData(values=[end]))
        .mark_text(align="right", dx=-4, dy=dy, fontWeight="bold", fontSize=12)
        .encode(x=alt.X("at:Q"), y=_y(y, "low"), color=color, text="what:N")
        for end, dy in zip(ends, (13, -12), strict=True)
    ]
    bounded = base.transform_filter("isValid(datum.high)")
    layers = alt.layer(
        bounded.mark_rect(opacity=0.25).encode(x=x, x2="to:Q", y=_y(y, "low"), y2="high:Q"),
        base.mark_rule(strokeWidth=2.5).encode(x=x, x2="to:Q", y=_y(y, "low")),
        bounded.mark_rule(strokeWidth=1, strokeDash=[2, 2]).encode(x=x, x2="to:Q", y=_y(y, "high")),
        *at_end,
    )
    return _sized(layers, _TALL + 40)


def _bound(high: float | None) -> str:
    return "unknown: not scanned after" if high is None else f"{high:.2%}"


def weekday_hour(rows: Rows, name: str) -> Chart:
    """Weekday by hour: ``operations_per_hour``, or ``open_rate`` where enough was delivered to have one.

    What is not known yet is left blank.
    """
    is_rate = name == "open_rate"
    cells = [
        {
            "weekday": _WEEKDAYS[row["weekday"] - 1],
            "hour": row["hour"],
            "at": f"{_WEEKDAYS[row['weekday'] - 1]} {row['hour']:02}:00 UTC",
            "operations": row["operations"],
            "emails": row["emails"],
            "known_hours": row["known_hours"],
            "operations_per_hour": row["operations_per_hour"],
            "open_rate": row["open_rate"] if has_rate(row) else None,
            "delivery_rate": row["delivery_rate"] if has_rate(row) else None,
        }
        for row in rows
    ]
    color = alt.Color(
        f"{name}:Q",
        title="open rate" if is_rate else "operations per hour",
        scale=alt.Scale(range=["@low", "@high"], zero=not is_rate),
        legend=alt.Legend(
            orient="top",
            direction="horizontal",
            gradientLength=130,
            gradientThickness=10,
            titleOrient="left",
            tickCount=3,
            format=".0%" if is_rate else ",.1~f",
        ),
    )
    hours = "datum.value % 6 == 0 ? datum.value + ':00' : ''"
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X(
            "hour:O",
            title="hour of creation, UTC",
            scale=alt.Scale(domain=list(range(24))),
            axis=alt.Axis(labelExpr=hours, labelAngle=0, labelOverlap=False, ticks=False),
        ),
        y=alt.Y(
            "weekday:O",
            title=None,
            scale=alt.Scale(domain=list(_WEEKDAYS)),
            axis=alt.Axis(ticks=False),
        ),
        tooltip=[
            alt.Tooltip("at:N", title="created"),
            alt.Tooltip("known_hours:Q", title="hours known"),
            alt.Tooltip("operations:Q", format=",d"),
            alt.Tooltip("emails:Q", format=",d"),
            alt.Tooltip("delivery_rate:Q", title="delivery rate", format=".1%"),
            alt.Tooltip("open_rate:Q", title="open rate", format=".1%"),
        ],
    )
    shown = base.transform_filter(f"isValid(datum.{name})").mark_rect(
        stroke="@paper", strokeWidth=1
    )
    too_few = base.transform_filter(f"datum.known_hours > 0 && !isValid(datum.{name})").mark_text(
        text="·", color="@quiet"
    )
    return _sized(alt.layer(shown.encode(color=color), too_few), 7 * 22)


def has_rate(row: Row) -> bool:
    """Whether an hour of the week has enough delivered emails for a rate."""
    return (row["delivered"] or 0) >= FEWEST_DELIVERED


def sizes(rows: Rows) -> Chart:
    """Emails by the size of their operations."""
    emails = sum(row["emails"] for row in rows)
    shown = [
        {
            "size": row["size_class"],
            "emails": row["emails"],
            "operations": row["operations"],
            "share": row["emails"] / emails if emails else 0,
            "delivery_rate": row["delivery_rate"],
            "open_rate": row["open_rate"],
        }
        for row in rows
    ]
    most = max((row["emails"] for row in rows), default=1)
    base = alt.Chart(alt.InlineData(values=shown)).encode(
        x=alt.X(
            "emails:Q",
            title="emails",
            scale=alt.Scale(domain=[0, max(1.18 * most, 1)], nice=False),
            axis=alt.Axis(format="~s", tickCount=4),
        ),
        y=alt.Y(
            "size:N",
            title="emails per operation",
            sort=[row["size_class"] for row in rows],
            axis=alt.Axis(ticks=False),
        ),
        tooltip=[
            alt.Tooltip("size:N", title="emails per operation"),
            alt.Tooltip("emails:Q", format=",d"),
            alt.Tooltip("operations:Q", format=",d"),
            alt.Tooltip("delivery_rate:Q", title="delivery rate", format=".2%"),
            alt.Tooltip("open_rate:Q", title="open rate", format=".2%"),
        ],
    )
    layers = alt.layer(
        base.mark_bar(color="@blue", height={"band": 0.7}),
        base.mark_text(align="left", dx=5).encode(text=alt.Text("share:Q", format=".0%")),
    )
    return _sized(layers, 30 * len(rows))


COVERAGE_NAMES: Final = {
    "final": "final",
    "changing": "still changing",
    "closed": "closed: no final scan",
    "partial": "partly known",
    "gap": f"{_CROSS} gap: hours lost",
    "before": "before the archive",
}
"""What a day of the calendar can be, as it is shown."""


def coverage(days: Rows) -> Chart:
    """A calendar of the last half year: which days are final, can change, or have lost hours."""
    newest = max(row["created_date"] for row in days)
    monday = newest - timedelta(days=newest.weekday())
    first = monday - timedelta(weeks=CALENDAR_WEEKS - 1)
    cells = [
        {
            "weekday": _WEEKDAYS[row["created_date"].weekday()],
            "week": f"{row['created_date'] - timedelta(days=row['created_date'].weekday())}",
            "day": named(row["created_date"]),
            "text": f"{_CROSS if row['state'] == 'gap' else ''}{row['created_date'].day}",
            "state": COVERAGE_NAMES[row["state"]],
            "lost": row["gap_slots"],
            "before": row["never_asked_slots"],
        }
        for row in days
        if row["created_date"] >= first
    ]
    there = [name for state, name in COVERAGE_NAMES.items() if _has(days, first, state)]
    style = {
        "final": ("@blue", "@blue", "@on_blue"),
        "changing": ("@paper", "@blue", "@ink"),
        "closed": ("@low", "@low", "@ink"),
        "partial": ("@low", "@blue", "@ink"),
        "gap": ("@alarm", "@alarm", "@paper"),
        "before": ("@paper", "@grid", "@quiet"),
    }
    scales = {
        part: alt.Scale(
            domain=list(COVERAGE_NAMES.values()),
            range=[style[state][n] for state in COVERAGE_NAMES],
        )
        for n, part in enumerate(("fill", "stroke", "text"))
    }
    week_names = "utcFormat(toDate(datum.value), '%-d %b')"
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X(
            "weekday:O",
            title=None,
            sort=list(_WEEKDAYS),
            scale=alt.Scale(domain=list(_WEEKDAYS), paddingInner=0.08),
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "week:O",
            title=None,
            scale=alt.Scale(paddingInner=0.12),
            axis=alt.Axis(labelExpr=week_names, ticks=False, domain=False),
        ),
        tooltip=[
            alt.Tooltip("day:N"),
            alt.Tooltip("state:N"),
            alt.Tooltip("lost:Q", title="lost hours"),
            alt.Tooltip("before:Q", title="hours before the archive"),
        ],
    )
    legend = alt.Legend(
        orient="bottom",
        title=None,
        values=there,
        columns={"expr": "width < 320 ? 2 : 4"},
        symbolType="square",
        symbolSize=150,
    )
    boxes = base.mark_rect(strokeWidth=1.5).encode(
        fill=alt.Fill("state:N", scale=scales["fill"], legend=legend),
        stroke=alt.Stroke("state:N", scale=scales["stroke"], legend=legend),
    )
    texts = base.mark_text().encode(
        text="text:N", color=alt.Color("state:N", scale=scales["text"], legend=None)
    )
    return _sized(
        alt.layer(boxes, texts).resolve_scale(color="independent"),
        27 * len({cell["week"] for cell in cells}),
    )


_KNOWN: Final = {
    "final": "final",
    "changing": "still changing",
    "closed": "closed: no final scan",
    "partial": "partly known",
    "before": "before the archive",
    "gaps": "lost hours",
}


def how_known(row: Row) -> str:
    """How far a day or week of the series is known."""
    text, asked, hours = _KNOWN[row["completeness"]], row["asked_hours"], row["hours"]
    if row["completeness"] == "gaps":
        return f"{text}: {row['lost_hours']} of {hours}"
    if row["completeness"] in {"changing", "partial"} and asked < hours:
        return f"{text}: {asked} of {hours} hours"
    return text


def named(day: date, *, is_weekly: bool = False) -> str:
    """A day or a week as it is read, in English whatever the machine's language is."""
    text = f"{_WEEKDAYS[day.weekday()]} {short(day)} {day.year}"
    return f"week from {text}" if is_weekly else text


_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def short(day: date) -> str:
    """A day without its year."""
    return f"{day.day} {_MONTHS[day.month - 1]}"


def _has(days: Rows, first: date, state: str) -> bool:
    return any(row["state"] == state and row["created_date"] >= first for row in days)


def _is_unsettled_from(series: Rows, n: int) -> bool:
    """Whether the dashed line has this point: one that is not final, or next to one."""
    return any(row["completeness"] != "final" for row in series[max(n - 1, 0) : n + 2])


def _fill() -> Any:
    """Filled is final, hollow can still change, pale is known in part or without a final scan."""
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


def _y(y: alt.Y, field: str) -> alt.Y:
    copied: alt.Y = y.copy()
    copied.shorthand = f"{field}:Q"
    return copied


def _zoom() -> alt.Parameter:
    return alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom=_ZOOM)


def _crosses(series: Rows) -> Sequence[Chart]:
    """A cross at the foot of each period that has lost hours."""
    if not any(row["completeness"] == "gaps" for row in series):
        return ()
    crosses = (
        alt.Chart()
        .transform_filter(alt.datum.completeness == "gaps")
        .mark_text(text=_CROSS, color="@alarm", fontSize=13, dy=-7, clip=True)
        .encode(x=_time("middle"), y=alt.value("height"), tooltip=["period:N", "known:N"])
    )
    return (crosses,)


def _sized(chart: alt.LayerChart | alt.FacetChart, height: int) -> Chart:
    return chart.properties(width="container", height=height)
