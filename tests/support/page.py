"""What a report says: its charts' data, cards and tables, read back from the file."""

import html
import json
import re
from pathlib import Path
from typing import Any

_FIGURE = re.compile(
    r'<figure class="(\w+)".*?aria-label="([^"]*)".*?'
    r'<script type="application/json">(.*?)</script>\s*<figcaption>(.*?)</figcaption>',
    re.DOTALL,
)
_CARD = re.compile(r'<li data-card="(\w+)">(.*?)</li>', re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def specs(page: str) -> dict[str, dict[str, Any]]:
    """The charts by their keys; of the page's first account, if there are several."""
    found: dict[str, dict[str, Any]] = {}
    for match in _FIGURE.finditer(page):
        found.setdefault(match[1], json.loads(match[3]))
    return found


def alternatives(page: str) -> dict[str, tuple[str, str]]:
    """The label and the caption of each chart."""
    return {m[1]: (html.unescape(m[2]), html.unescape(m[4])) for m in _FIGURE.finditer(page)}


def rows(spec: dict[str, Any], *fields: str) -> list[tuple[Any, ...]]:
    """The rows of a chart that have these fields, in order."""
    found = [
        tuple(row[field] for field in fields)
        for values in spec["datasets"].values()
        for row in values
        if set(fields) <= set(row)
    ]
    return list(dict.fromkeys(found))


def cards(page: str) -> dict[str, list[str]]:
    """The lines of each card."""
    return {
        match[1]: [
            text(line) for line in re.findall(r"<span[^>]*>(.*?)</span>", match[2], re.DOTALL)
        ]
        for match in _CARD.finditer(page)
    }


def table(page: str, name: str) -> list[list[str]]:
    """The body of a table, by its class."""
    body = re.search(rf'<table class="{name}[^"]*">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert body, name
    return [
        [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)]
        for line in re.findall(r"<tr>(.*?)</tr>", body[1], re.DOTALL)
    ]


def text(markup: str) -> str:
    """What a reader sees of some HTML."""
    return html.unescape(_TAG.sub("", markup)).strip()


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def vega(page: str) -> str:
    """Vega's script."""
    begin = page.index("<script>(() => {")
    return page[begin : page.index("</script>", begin)]
