"""The report's HTML: text, tables and charts in one file that needs no network.

It includes Vega once, and each chart as JSON. A content security policy forbids every request, so that
opening the page reveals nothing to a server.
"""

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.report import charts, sentences
from pipeline.report.data import Account, Row
from pipeline.report.figures import Figure
from pipeline.report.palette import CONFIG, DARK, LIGHT, Palette
from pipeline.report.png import vegalite_version

_SNIPPET: Final = "window.drawChart = vegaEmbed;"
_CARDS: Final = (
    ("emails", "Emails", False),
    ("operations", "Operations", False),
    *((name, title, True) for name, title in sentences.RATE_NAMES.items()),
)


def render(
    accounts: Sequence[tuple[Account, Sequence[Figure]]], left_out: Sequence[str], vega: str
) -> str:
    """The page as HTML.

    Args:
        accounts: the accounts, each with its figures: one section each.
        left_out: accounts without a section; the page names them.
        vega: the script that `vega` returns.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [_section(account, drawn) for account, drawn in accounts]
    return environment.get_template("page.html").render(
        sections=sections,
        left_out=left_out,
        style=Markup(_file("page.css")),  # noqa: S704 - our own file
        script=Markup(_file("page.js")),  # noqa: S704 - our own file
        vega=Markup(vega),  # noqa: S704 - built by vl-convert
        has_charts=any(section["figures"] for section in sections),
        themes=_json({"light": LIGHT, "dark": DARK}),
        colours=Markup(_colours()),  # noqa: S704 - our own palette
        meanings=_MEANINGS,
    )


@cache
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as a script of some 900 kB that sets ``drawChart``; takes seconds."""
    bundle = vl_convert.javascript_bundle(_SNIPPET, vegalite_version())
    # Within HTML, "</script" would end the script.
    bundle = bundle.replace("</script", "<\\/script")
    return f"(() => {{{bundle}}})();"


_MEANINGS: Final = (
    ("Emails", "the sum of the operations' total, whether sent or not"),
    ("Delivery rate", "delivered emails / attempted emails"),
    ("Open rate", "opened emails / delivered emails; opens come over days"),
    ("Undelivered rate", "undelivered emails / attempted emails"),
    ("Failure rate", "failed emails / attempted emails"),
    ("Attempted", "all emails but the canceled, scheduled and queued ones"),
    ("Final", "every hour had its last scan shortly before its deadline"),
    ("Still changing", "hours are still scanned: numbers can rise, opens most of all"),
    ("Closed", "past its deadline without a final scan: late changes may be missing"),
    (
        "Partly known",
        "some hours were past their deadline at the first scan: only what the API still had is counted",
    ),
    ("Gap", "an hour was not scanned before its deadline and is lost; its day has no rates"),
    (
        "Unusual",
        "a rate outside the range expected from the median of the 28 days before",
    ),
)


def _section(account: Account, drawn: Sequence[Figure]) -> dict[str, Any]:
    has_any = bool(account.series)
    recent, settled = account.headline.get("recent"), account.headline.get("settled")
    return {
        "account": account,
        "summary": sentences.summary(account) if has_any else [],
        "cards": [_card(account, recent, *card) for card in _CARDS] if recent else [],
        "undecided": sentences.undecided(account) if has_any else "",
        "both_readings": sentences.BOTH_READINGS,
        "recent": sentences.period(recent) if recent else "",
        "settled": sentences.span(settled["first_day"], settled["last_day"]) if settled else "",
        "is_recent_changing": recent is not None and recent["is_changing"],
        "figures": {
            figure.key: {
                "title": figure.title,
                "text": figure.text,
                "note": figure.note,
                "spec": _spec(figure.chart, figure.text),
            }
            for figure in drawn
        },
        "rates": sentences.RATE_NAMES,
        "series": [
            row
            | {
                "name": sentences.named(row["period"], is_weekly=account.is_weekly),
                "known": sentences.how_known(row),
            }
            for row in account.series
        ],
        "anomalies": [
            {
                "day": sentences.named(one["created_date"]),
                "rate": sentences.RATE_NAMES[one["rate"]],
                "value": sentences.percent(one["value"]),
                "expected": f"{one['low']:.2%} to {one['high']:.2%}",
                "emails": f"{one['emails']:,}",
            }
            for one in account.anomalies
        ],
        "percent": sentences.percent,
        "duration": sentences.duration,
    }


def _card(account: Account, recent: Row, name: str, title: str, is_rate: bool) -> dict[str, str]:  # noqa: FBT001 - from _CARDS
    settled, before = account.headline.get("settled"), account.headline.get("settled_before")

    def shown(period: Row) -> str:
        return sentences.percent(period[name]) if is_rate else f"{period[name]:,}"

    return {
        "name": name,
        "title": title,
        "value": shown(recent),
        "otherwise": sentences.percent(recent[f"{name}_exclusive"])
        if name in {"delivery_rate", "open_rate"} and sentences.assumption(account)
        else "",
        "settled": shown(settled) if settled else "",
        "settled_change": change(settled, before, name) if settled and before else "",
    }


def change(period: Row, before: Row, name: str) -> str:
    """The change from the period before; empty if one of the two has no value."""
    new, old = period[name], before[name]
    if new is None or old is None:
        return ""
    if name.endswith("_rate"):
        points = 100 * (new - old)
        return f"{_sign(round(points, 2))}{abs(points):.2f} points"
    if not old:
        return ""
    ratio = new / old - 1
    return f"{_sign(round(100 * ratio, 1))}{abs(ratio):.1%}"


def _sign(value: float) -> str:
    return "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else "±"


def _spec(chart: charts.Chart, text: str) -> Markup:
    return _json(chart.to_dict() | {"description": text, "config": CONFIG})


def _json(value: Any) -> Markup:
    """JSON that can be embedded in a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped on this line


def _colours() -> str:
    """The palette as CSS variables, by scheme."""

    def variables(keys: Palette) -> str:
        return ";".join(f"--{key[1:]}:{colour}" for key, colour in keys.items())

    dark = variables(DARK)
    return f":root{{{variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _file(name: str) -> str:
    return (files("pipeline.report") / "templates" / name).read_text(encoding="utf-8")
