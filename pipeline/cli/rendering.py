"""Query results and figures as tables, CSV and JSON."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import duckdb
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from pipeline.model.times import iso
from pipeline.terminal import printable

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_INTEGERS: Final = ("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum")
_NUMBERS: Final = {*_INTEGERS, *(f"u{name}" for name in _INTEGERS), "float", "double", "decimal"}
_SMALL, _LARGE = 0.001, 1e15
"""Floats between these are shown with four decimals."""


def console(*, stderr: bool = False, width: int | None = None, soft_wrap: bool = False) -> Console:
    """A Rich console that prints text unchanged: no markup, no emoji names, no highlighting."""
    return Console(
        stderr=stderr,
        width=width,
        soft_wrap=soft_wrap,
        markup=False,
        emoji=False,
        highlight=False,
    )


def write_table(result: duckdb.DuckDBPyRelation, max_rows: int) -> None:
    """Write a result as a table on stdout, with at most `max_rows` rows.

    If a terminal is too narrow, a single row is shown with one column per line; of several rows, the columns
    in the middle are left out and named below.
    """
    names = [printable(name) for name in result.columns]
    rows = [
        [printable(_shown(value), keep="\n") for value in row]
        for row in result.limit(max_rows).fetchall()
    ]
    screen = console()
    widths = [cell_len(name) for name in names]
    for row in rows:
        widths = [
            max(width, *map(cell_len, text.split("\n")))
            for width, text in zip(widths, row, strict=True)
        ]
    kept = fitting(widths, screen.width) if screen.is_terminal else list(range(len(names)))
    if len(rows) == 1 and len(kept) < len(names):
        _write_lines(screen, names, rows[0])
        return
    numbers = [type_.id in _NUMBERS for type_ in result.types]
    table = Table()
    for place, before in zip(kept, [-1, *kept], strict=False):
        if place - before > 1:
            table.add_column("…", justify="center")
        table.add_column(
            names[place], justify="right" if numbers[place] else "left", overflow="fold"
        )
    for row in rows:
        cells = [
            ("…", row[place]) if place - before > 1 else (row[place],)
            for place, before in zip(kept, [-1, *kept], strict=False)
        ]
        table.add_row(*(text for cell in cells for text in cell))
    wide_enough(table).print(table)
    count, _ = result.shape
    if count > max_rows:
        screen.print(
            f"{count - max_rows} more rows: see --max-rows, or --format csv", soft_wrap=True
        )
    if hidden := [name for place, name in enumerate(names) if place not in kept]:
        screen.print(f"{len(hidden)} columns do not fit: {', '.join(hidden)}", style="dim")


def fitting(widths: Sequence[int], screen: int) -> list[int]:
    """The places of the columns that a screen has room for: from both ends in turn, at least the first.

    Args:
        widths: of the columns' texts.
        screen: the width of the screen. Each column takes 3 more, the table 1.
    """
    if sum(widths) + 3 * len(widths) + 1 <= screen:
        return list(range(len(widths)))
    left = screen - 1 - 4  # the column of dots
    kept: list[int] = []
    for place in _from_both_ends(len(widths)):
        left -= widths[place] + 3
        if kept and left < 0:
            break
        kept.append(place)
    return sorted(kept)


def _from_both_ends(count: int) -> Iterator[int]:
    for step in range((count + 1) // 2):
        yield step
        if step != count - 1 - step:
            yield count - 1 - step


def _write_lines(screen: Console, names: Sequence[str], row: Sequence[str]) -> None:
    """A row with a column a line."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in zip(names, row, strict=True):
        table.add_row(name, text)
    screen.print(table)


def write_csv(result: duckdb.DuckDBPyRelation) -> None:
    """Write a result as CSV on stdout. NULL is empty, times are ISO 8601 in UTC, nested values are JSON.

    On a terminal, control characters are shown as escapes.
    """
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(shown(name) for name in result.columns)
    writer.writerows([shown(_text(value)) for value in row] for row in result.iter_rows())


def write_json(result: duckdb.DuckDBPyRelation) -> None:
    """Write a result as a JSON list of objects on stdout, one per line.

    Numbers are numbers, integers with all their digits; NaN and infinity are null; times are ISO 8601, in
    UTC if they have a zone; JSON, lists, structs and maps are nested.
    """
    read = [_READ.get(str(type_)) for type_ in result.types]
    sys.stdout.write("[")
    separator = "\n"
    for row in result.iter_rows():
        values = (
            reader(value) if reader and value is not None else value
            for reader, value in zip(read, row, strict=True)
        )
        fields = dict(zip(result.columns, values, strict=True))
        sys.stdout.write(f"{separator}{json_text(fields)}")
        separator = ",\n"
    sys.stdout.write("\n]\n")


def json_text(value: Any) -> str:
    """A value as JSON on one line; characters that are not printable are escaped."""
    text = _ENCODER.encode(_with_text_keys(value)).decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def json_figures(figures: Mapping[str, object]) -> str:
    """Figures as indented JSON; NaN and infinity are null."""
    finite = json.loads(json.dumps(figures), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2)


def wide_enough(table: Table) -> Console:
    """A console for the table: of the terminal's width, or, without a terminal, as wide as the table."""
    screen = console()
    if screen.is_terminal:
        return screen
    return console(width=console(width=10_000).measure(table).maximum)


def _with_text_keys(value: Any) -> Any:
    """A value with decimal keys of maps as text: msgspec would write them as numbers, which is not JSON."""
    if isinstance(value, dict):
        return {
            str(key) if isinstance(key, Decimal) else key: _with_text_keys(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_text_keys(inner) for inner in value]
    return value


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_constant=lambda _: None)


_READ: Final[dict[str, Callable[[str], Any]]] = {"JSON": _parsed, "BIGNUM": int}
"""Types whose values DuckDB returns as text, with their parsers."""


def _shown(value: Any) -> str:
    """A value for a table: floats have four decimals, or three significant digits if small or large."""
    if isinstance(value, float):
        is_plain = value == 0 or _SMALL <= abs(value) < _LARGE
        return f"{value:.4f}" if is_plain else f"{value:.3g}"
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict | list | tuple):
        return json_text(value)
    return str(value)
