"""Charts of ages, hours of the week, sizes and coverage: rows of the warehouse in, an Altair chart out.

Colours are keys of `palette`. Charts are as wide as their container; heights are in pixels. Unknown values
are left blank. Times are UTC. Their data have names: a function with the rows stands beside each chart.
`series` has the charts over time.
"""

from collections.abc import Container
from datetime import date, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

import altair as alt

from pipeline.report.data import CALENDAR_WEEKS
from pipeline.report.formats import WEEKDAYS, named
from pipeline.report.rows import Row, Rows

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart

FEWEST_DELIVERED: Final = 30
"""An hour of the week with fewer delivered emails shows no open rate."""

CROSS: Final = "✕"
COUNTS: Final = {"emails": ",d", "operations": ",d"}
_RATES: Final = {"delivery_rate": ".2%", "open_rate": ".2%"}


def curve(ages: Rows) -> Chart:
    """Shares delivered and opened by age, as boxes between a lower and an upper bound.

    An age without a later scan has no upper bound: there is only the line of the lower one.
    """
    x, y = _age_axis(ages), _share_axis()
    scale = alt.Scale(domain=["delivered", "opened"], range=["@blue", "@green"])
    color = alt.Color("what:N", legend=None, scale=scale)
    tips = tooltip(
        "what",
        alt.Tooltip("ages:N", title="from age"),
        alt.Tooltip("low:Q", title="at least", format=".2%"),
        alt.Tooltip("at_most:N", title="at most"),
    )
    base = alt.Chart(alt.NamedData("boxes")).encode(color=color, tooltip=tips)
    bounded = base.transform_filter("isValid(datum.high)")
    layers = alt.layer(
        bounded.mark_rect(opacity=0.25).encode(x=x, x2="to:Q", y=y_of(y, "low"), y2="high:Q"),
        base.mark_rule(strokeWidth=2.5).encode(x=x, x2="to:Q", y=y_of(y, "low")),
        bounded.mark_rule(strokeWidth=1, strokeDash=[2, 2]).encode(
            x=x, x2="to:Q", y=y_of(y, "high")
        ),
        *(
            _label_at_end(ages[-1], what, dy).encode(y=y_of(y, "low"), color=color)
            # Below the upper line and above the lower one, where there is room.
            for what, dy in (("delivered", 13), ("opened", -12))
        ),
    )
    return sized(layers, 260)


def boxes(ages: Rows) -> Rows:
    """The bounds between each age and the next."""
    return [
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


def _bound(high: float | None) -> str:
    return "unknown: not scanned after" if high is None else f"{high:.2%}"


def _age_axis(ages: Rows) -> alt.X:
    names = {row["age_minutes"]: row["age"] for row in ages}
    labels = "".join(f"datum.value == {at} ? '{age}' : " for at, age in names.items())
    return alt.X(
        "from:Q",
        title="age: time since creation",
        scale=alt.Scale(type="log", domain=[1, ages[-1]["age_minutes"]], nice=False),
        axis=alt.Axis(
            values=list(names),
            labelExpr=f"datum.value == 1 ? '1 min' : {labels}''",
            labelOverlap="greedy",
            labelSeparation=6,
            grid=False,
        ),
    )


def _share_axis() -> alt.Y:
    return alt.Y(
        title="share of attempted emails",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1]),
    )


def _label_at_end(last: Row, what: str, dy: int) -> alt.Chart:
    point = {"what": what, "at": last["age_minutes"], "low": last[f"{what}_at_least"]}
    label: alt.Chart = (
        alt.Chart(alt.InlineData(values=[point]))
        .mark_text(align="right", dx=-4, dy=dy, fontWeight="bold", fontSize=12)
        .encode(x=alt.X("at:Q"), text="what:N")
    )
    return label


def weekday_hour(name: str) -> Chart:
    """A heat map of weekday by hour: ``operations_per_hour``, or ``open_rate`` where `has_rate`."""
    hours = "datum.value % 6 == 0 ? datum.value + ':00' : ''"
    base = alt.Chart(alt.NamedData("hours")).encode(
        x=alt.X(
            "hour:O",
            title="hour of creation, UTC",
            scale=alt.Scale(domain=list(range(24))),
            axis=alt.Axis(labelExpr=hours, labelAngle=0, labelOverlap=False, ticks=False),
        ),
        y=alt.Y(
            "weekday:O",
            title=None,
            scale=alt.Scale(domain=list(WEEKDAYS)),
            axis=alt.Axis(ticks=False),
        ),
        tooltip=tooltip(
            alt.Tooltip("at:N", title="created"),
            alt.Tooltip("known_hours:Q", title="hours known"),
            {"operations": ",d", "emails": ",d"},
            dict.fromkeys(_RATES, ".1%"),
        ),
    )
    shown = base.transform_filter(f"isValid(datum.{name})").mark_rect(
        stroke="@paper", strokeWidth=1
    )
    too_few = base.transform_filter(f"datum.known_hours > 0 && !isValid(datum.{name})").mark_text(
        text="·", color="@quiet"
    )
    return sized(alt.layer(shown.encode(color=_gradient(name)), too_few), 7 * 22)


def hours_of_week(rows: Rows) -> Rows:
    """The hours of the week, in the order of the rows; without a rate where few emails were delivered."""
    return [
        {
            "weekday": WEEKDAYS[row["weekday"] - 1],
            "at": f"{WEEKDAYS[row['weekday'] - 1]} {row['hour']:02}:00 UTC",
            **_chosen(row, "hour", "operations", "emails", "known_hours", "operations_per_hour"),
            **{rate: row[rate] if has_rate(row) else None for rate in _RATES},
        }
        for row in rows
    ]


def _gradient(name: str) -> alt.Color:
    is_rate = name == "open_rate"
    return alt.Color(
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


def has_rate(row: Row) -> bool:
    """Whether an hour of the week has enough delivered emails for a rate."""
    return (row["delivered"] or 0) >= FEWEST_DELIVERED


def sizes(rows: Rows) -> Chart:
    """Emails by the size of their operations, as horizontal bars."""
    most = max((row["emails"] for row in rows), default=1)
    base = alt.Chart(alt.NamedData("sizes")).encode(
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
        tooltip=tooltip(alt.Tooltip("size:N", title="emails per operation"), COUNTS, _RATES),
    )
    layers = alt.layer(
        base.mark_bar(color="@blue", height={"band": 0.7}),
        base.mark_text(align="left", dx=5).encode(text=alt.Text("share:Q", format=".0%")),
    )
    return sized(layers, 30 * len(rows))


def size_rows(rows: Rows) -> Rows:
    """The size classes, each with its share of the emails."""
    emails = sum(row["emails"] for row in rows)
    return [
        {
            "size": row["size_class"],
            "share": row["emails"] / emails if emails else 0,
            **_chosen(row, *COUNTS, *_RATES),
        }
        for row in rows
    ]


_CALENDAR: Final = {
    "final": ("final", "@blue", "@blue", "@on_blue"),
    "changing": ("still changing", "@paper", "@blue", "@ink"),
    "closed": ("closed: no final scan", "@low", "@low", "@ink"),
    "partial": ("partly known", "@low", "@blue", "@ink"),
    "gap": (f"{CROSS} gap: hours lost", "@alarm", "@alarm", "@paper"),
    "before": ("before the archive", "@paper", "@grid", "@quiet"),
}
"""States of a day: the name shown, and the colours of its fill, stroke and text."""


def coverage(days: Rows) -> Chart:
    """A calendar of the last half year, with the state of each day."""
    recent = _last_weeks(days)
    base = alt.Chart(alt.NamedData("calendar")).encode(
        x=alt.X(
            "weekday:O",
            title=None,
            sort=list(WEEKDAYS),
            scale=alt.Scale(domain=list(WEEKDAYS), paddingInner=0.08),
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False),
        ),
        y=alt.Y(
            "week:O",
            title=None,
            scale=alt.Scale(paddingInner=0.12),
            axis=alt.Axis(
                labelExpr="utcFormat(toDate(datum.value), '%-d %b')", ticks=False, domain=False
            ),
        ),
        tooltip=tooltip(
            "day",
            "state",
            alt.Tooltip("lost:Q", title="lost hours"),
            alt.Tooltip("before:Q", title="hours before the archive"),
        ),
    )
    names, fills, strokes, inks = (list(part) for part in zip(*_CALENDAR.values(), strict=True))
    legend = _states_legend({row["state"] for row in recent})
    boxes = base.mark_rect(strokeWidth=1.5).encode(
        fill=alt.Fill("state:N", scale=alt.Scale(domain=names, range=fills), legend=legend),
        stroke=alt.Stroke("state:N", scale=alt.Scale(domain=names, range=strokes), legend=legend),
    )
    ink = alt.Color("state:N", scale=alt.Scale(domain=names, range=inks), legend=None)
    layers = alt.layer(boxes, base.mark_text().encode(text="text:N", color=ink))
    weeks = len({_monday(row["created_date"]) for row in recent})
    return sized(layers.resolve_scale(color="independent"), 27 * weeks)


def calendar(days: Rows) -> Rows:
    """The days of the calendar."""
    return [_day_cell(row) for row in _last_weeks(days)]


def _last_weeks(days: Rows) -> Rows:
    newest = max(row["created_date"] for row in days)
    first = _monday(newest) - timedelta(weeks=CALENDAR_WEEKS - 1)
    return [row for row in days if row["created_date"] >= first]


def _day_cell(row: Row) -> Row:
    day = row["created_date"]
    return {
        "weekday": WEEKDAYS[day.weekday()],
        "week": f"{_monday(day)}",
        "day": named(day),
        "text": f"{CROSS if row['state'] == 'gap' else ''}{day.day}",
        "state": _CALENDAR[row["state"]][0],
        "lost": row["gap_slots"],
        "before": row["before_archive_slots"],
    }


def _states_legend(present: Container[str]) -> alt.Legend:
    return alt.Legend(
        orient="bottom",
        title=None,
        values=[name for state, (name, *_) in _CALENDAR.items() if state in present],
        columns=2,  # the same at every width: the height is not computed again
        symbolType="square",
        symbolSize=150,
    )


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _chosen(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def tooltip(*fields: str | alt.Tooltip | dict[str, str]) -> list[alt.Tooltip]:
    """A tooltip: names of texts, numbers with their formats, and fields with titles of their own."""
    tooltips: list[alt.Tooltip] = []
    for field in fields:
        if isinstance(field, dict):
            tooltips += [
                alt.Tooltip(f"{name}:Q", format=shape)
                if "_" not in name
                else alt.Tooltip(f"{name}:Q", title=name.replace("_", " "), format=shape)
                for name, shape in field.items()
            ]
        else:
            tooltips.append(alt.Tooltip(f"{field}:N") if isinstance(field, str) else field)
    return tooltips


def y_of(y: alt.Y, field: str) -> alt.Y:
    """A copy of an axis for another field."""
    copied: alt.Y = y.copy()
    copied.shorthand = f"{field}:Q"
    return copied


def sized(chart: alt.LayerChart | alt.FacetChart, height: int) -> Chart:
    """The chart at this height, as wide as its container."""
    return chart.properties(width="container", height=height)
