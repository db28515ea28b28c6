"""What a report says: its charts' data, cards and tables, read back from the file."""

import base64
import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

_FIGURE = re.compile(
    r'<figure class="(\w+)">\s*<h4[^>]*>(.*?)</h4>.*?'
    r"<figcaption[^>]*>(.*?)</figcaption>",
    re.DOTALL,
)
_CARD = re.compile(r'<li data-card="(\w+)">(.*?)</li>', re.DOTALL)
_DATA = re.compile(r'<script type="text/plain" class="data">(.*?)</script>')
_TAG = re.compile(r"<[^>]+>")
_RATES = {
    "delivery_rate": ("delivered", "attempted"),
    "open_rate": ("opened", "delivered"),
    "undelivered_rate": ("undelivered", "attempted"),
    "failure_rate": ("failed", "attempted"),
}


def chosen(page: str, period: str = "28") -> str:
    """The page without what it shows of other periods."""
    other = rf'data-period="(?!{period}")\w+"'
    without = re.sub(rf"<article {other}>.*?</article>", "", page, flags=re.DOTALL)
    return re.sub(rf"<span {other}>.*?</span>", "", without, flags=re.DOTALL)


def data(page: str) -> dict[str, Any]:
    """What the page's script has of the first account; nothing if there is none."""
    match = _DATA.search(page)
    return json.loads(gzip.decompress(base64.b64decode(match[1]))) if match else {}


def tables(page: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of the page's first account, by the names that charts have for them."""
    found = {
        name: [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
        for name, table in data(page)["tables"].items()
    }
    for row in (*found["days"], *found["weeks"]):
        for rate, (part, whole) in _RATES.items():
            is_known = row["completeness"] != "gaps" and row[part] is not None and row[whole]
            row[rate] = row[part] / row[whole] if is_known else None
    return found | {"series": found["weeks"] or found["days"]}


def specs(page: str) -> dict[str, dict[str, Any]]:
    """The charts by their keys, with their rows of all days; of the page's first account."""
    found: dict[str, dict[str, Any]] = {}
    for key, spec in data(page).get("charts", {}).items():
        names = set(re.findall(r'"data": \{"name": "(\w+)"\}', json.dumps(spec)))
        rows = {name: rows for name, rows in tables(page).items() if name in names}
        found[key] = spec | {"datasets": spec.get("datasets", {}) | rows}
    return found


def alternatives(page: str) -> dict[str, tuple[str, str]]:
    """The title and the caption of each chart."""
    return {m[1]: (text(m[2]), text(m[3])) for m in _FIGURE.finditer(chosen(page))}


def rows(spec: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    """The rows of a chart that have these fields, in order."""
    found = [
        tuple(row[field] for field in fields)
        for values in spec["datasets"].values()
        for row in values
        if set(fields) <= set(row)
    ]
    return list(dict.fromkeys(found))


def cards(page: str, period: str = "28") -> dict[str, list[str]]:
    """The lines of each card of a period; of the page's first account."""
    found: dict[str, list[str]] = {}
    for match in _CARD.finditer(chosen(page, period)):
        lines = re.findall(r"<span[^>]*>(.*?)</span>", match[2], re.DOTALL)
        found.setdefault(match[1], [text(line) for line in lines])
    return found


def table(page: str, name: str, period: str = "28") -> list[list[str]]:
    """The body of a table, by its class; of the page's first account."""
    body = re.search(
        rf'<table class="{name}[^"]*">.*?<tbody>(.*?)</tbody>', chosen(page, period), re.DOTALL
    )
    assert body, name
    return [
        [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)]
        for line in re.findall(r"<tr[^>]*>(.*?)</tr>", body[1], re.DOTALL)
    ]


def text(markup: str) -> str:
    """What a reader sees of some HTML."""
    return html.unescape(_TAG.sub("", markup)).strip()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def vega(page: str) -> str:
    """Vega's script, packed."""
    match = re.search(r'<script type="text/plain" id="vega">(.*?)</script>', page)
    assert match
    return match[1]
