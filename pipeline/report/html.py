"""The report's HTML: text, tables and charts in one file that needs no network.

It includes Vega once, and for each account the charts and their rows as JSON, both compressed. A content
security policy forbids every request, so that opening the page reveals nothing to a server.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline.report import blocks, formats, sentences
from pipeline.report.data import Account
from pipeline.report.figures import Figure
from pipeline.report.palette import CONFIG, DARK, LIGHT, Palette
from pipeline.report.rows import CHOSEN, PERIODS, Row, Rows

_SNIPPET: Final = "window.drawChart = vegaEmbed;"

_EMBEDDED: Final = (
    *("period", "completeness", "known", "operations", "emails", "attempted"),
    *("delivered", "opened", "undelivered", "failed", "canceled"),
)
"""Columns of the days and weeks that the page's script has; it divides the rates itself."""


def render(
    accounts: Sequence[tuple[Account, Sequence[Figure]]], left_out: Sequence[str], vega: str
) -> str:
    """The page as HTML.

    Args:
        accounts: the accounts, each with its figures: one section each.
        left_out: names of accounts without a section.
        vega: the script that `vega` returns.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "percent": formats.percent,
        "number": formats.number,
        "duration": formats.duration,
        "rates": formats.RATE_NAMES,
    }
    shown = [account for account, _ in accounts]
    return environment.get_template("page.html").render(
        sections=[_section(account, drawn, shown) for account, drawn in accounts],
        left_out=left_out,
        periods={period: sentences.period_name(period) for period in PERIODS},
        chosen=CHOSEN,
        style=Markup(_file("page.css")),  # noqa: S704 - our own file
        script=Markup(_file("page.js")),  # noqa: S704 - our own file
        vega=vega,
        has_charts=any(drawn for _, drawn in accounts),
        themes=_json({"light": LIGHT, "dark": DARK, "config": CONFIG}),
        colours=Markup(_colours()),  # noqa: S704 - our own palette
        meanings=_MEANINGS,
    )


@cache
def vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as a packed script that sets ``drawChart``; takes seconds."""
    bundle = vl_convert.javascript_bundle(
        _SNIPPET, max(vl_convert.get_vegalite_versions(), key=_parts)
    )
    return _packed(f"(() => {{{bundle}}})();")


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _packed(text: str) -> str:
    """The text as gzip in base 64: a third of its bytes. The page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


_MEANINGS: Final = (
    ("Emails", "the sum of the operations' total, whether sent or not"),
    ("Attempted", "all emails but the canceled, scheduled and queued ones"),
    ("Delivery rate", "delivered emails / attempted emails"),
    ("Open rate", "opened emails / delivered emails; opens come over days"),
    ("Undelivered rate", "undelivered emails / attempted emails"),
    ("Failure rate", "failed emails / attempted emails"),
    ("On the way", "attempted emails that are not delivered, undelivered or failed yet"),
    ("Final", "every hour had its last scan shortly before its deadline"),
    ("Still changing", "hours are still scanned: numbers can rise, opens most of all"),
    ("Closed", "past its deadline without a final scan: late changes may be missing"),
    (
        "Partly known",
        "some hours were past their deadline at the first scan: only what the API still had is counted",
    ),
    ("Lost hours", "hours that were not scanned before their deadline; their day has no rates"),
    (
        "Unusual",
        "a rate outside the range expected from the median of the 28 days before",
    ),
)


def _section(account: Account, drawn: Sequence[Figure], shown: Sequence[Account]) -> dict[str, Any]:
    week, before = account.periods.get("settled"), account.periods.get("settled_before")
    known = sentences.known(account) if account.days else ""
    return {
        "account": account,
        "scanned": sentences.scanned_until(account),
        "known": known[:1].upper() + known[1:],
        "undecided": sentences.undecided(account) if account.days else "",
        "reading": sentences.reading(account) if account.days else "",
        "both_readings": sentences.BOTH_READINGS,
        "blocks": [_block(account, period, shown) for period in PERIODS],
        "comparison": blocks.comparison(account),
        "settled": formats.span(week["first_day"], week["last_day"]) if week else "",
        "before": formats.span(before["first_day"], before["last_day"]) if before else "",
        "figures": {figure.key: figure for figure in drawn},
        "data": _packed(json.dumps(_data(account, drawn), separators=(",", ":"))),
        "days": [_day(row) for row in reversed(account.series(CHOSEN))],
        "anomalies": [_anomaly(one) for one in account.anomalies[:20]],
    }


def _block(account: Account, period: str, shown: Sequence[Account]) -> dict[str, Any]:
    """What a section shows of a period."""
    sums, chosen = account.periods.get(period), account.chosen.get(period)
    return {
        "period": period,
        "title": sentences.period(sums) if sums else sentences.period_name(period),
        "summary": sentences.summary(account, period) if account.days else [],
        "sums": sums,
        "cards": blocks.cards(account, sums) if sums else [],
        "funnel": blocks.funnel(sums) if sums else [],
        "unrated": sums["operations"] - sums["rated_operations"] if sums else 0,
        "reasons": sentences.reasons(chosen) if chosen else "",
        "reason_rows": blocks.reason_rows(chosen.reasons) if chosen else [],
        "worst": blocks.operation_rows(chosen.worst) if chosen else [],
        "largest": blocks.operation_rows(chosen.largest) if chosen else [],
        "listed": sentences.listed(account, period),
        "accounts": []
        if account.account_id
        else [(one, one.periods.get(period)) for one in shown if one.account_id],
    }


def _data(account: Account, drawn: Sequence[Figure]) -> dict[str, Any]:
    """What the page's script draws: charts, the rows of each by their names, and those of days and weeks."""
    charts = {name: rows for figure in drawn for name, rows in figure.data.items()}
    periods = {
        name: [
            row | {"period": f"{row['period']}", "known": formats.how_known(row)} for row in rows
        ]
        for name, rows in (("days", account.days), ("weeks", account.weeks))
    }
    firsts = {period: f"{account.first_of(period)}" for period in PERIODS}
    return {
        "name": account.name,
        "charts": {figure.key: figure.chart.to_dict() for figure in drawn},
        "firsts": firsts,
        "tables": {name: _columns(rows, list(rows[0])) for name, rows in charts.items() if rows}
        | {name: _columns(rows, _EMBEDDED) for name, rows in periods.items()},
    }


def _columns(rows: Rows, names: Sequence[str]) -> dict[str, Any]:
    return {"columns": names, "rows": [[row[name] for name in names] for row in rows]}


def _day(row: Row) -> dict[str, Any]:
    return row | {"name": formats.named(row["period"]), "known": formats.how_known(row)}


def _anomaly(one: Row) -> dict[str, str]:
    return {
        "day": formats.named(one["created_date"]),
        "rate": formats.RATE_NAMES[one["rate"]],
        "value": formats.percent(one["value"]),
        "expected": f"{one['low']:.2%} to {one['high']:.2%}",
        "emails": f"{one['emails']:,}",
    }


def _json(value: Any) -> Markup:
    """JSON that can be embedded in a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped on this line


def _colours() -> str:
    """The palette as CSS variables, by scheme. Paper is always light."""

    def variables(keys: Palette) -> str:
        return ";".join(f"--{key[1:]}:{colour}" for key, colour in keys.items())

    light, dark = variables(LIGHT), variables(DARK)
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _file(name: str) -> str:
    return (files("pipeline.report") / "templates" / name).read_text(encoding="utf-8")
