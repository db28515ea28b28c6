"""Query results and figures as tables, CSV and JSON."""

import csv
import json
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import duckdb
import msgspec
from rich.console import Console
from rich.table import Table

from pipeline.model.times import iso
from pipeline.terminal import printable

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
_INTEGERS: Final = ("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum")
_NUMBERS: Final = {*_INTEGERS, *(f"u{name}" for name in _INTEGERS), "float", "double", "decimal"}
_SMALL, _LARGE = 0.001, 1e15
"""Between these, four decimals show a float well."""


def console(*, stderr: bool = False, width: int | None = None, soft_wrap: bool = False) -> Console:
    """A Rich console that takes text as it is: no markup, no emoji names, no highlighting."""
    return Console(
        stderr=stderr,
        width=width,
        soft_wrap=soft_wrap,
        markup=False,
        emoji=False,
        highlight=False,
    )


def write_table(result: duckdb.DuckDBPyRelation, max_rows: int) -> None:
    """A result as a table on stdout, `max_rows` of it at most."""
    table = Table()
    for name, type_ in zip(result.columns, result.types, strict=True):
        is_number = type_.id in _NUMBERS
        table.add_column(printable(name), justify="right" if is_number else "left", overflow="fold")
    for row in result.limit(max_rows).fetchall():
        table.add_row(*(printable(_shown(value), keep="\n") for value in row))
    screen = wide_enough(table)
    screen.print(table)
    rows, _ = result.shape
    if rows > max_rows:
        screen.print(
            f"{rows - max_rows} more rows: see --max-rows, or --format csv", soft_wrap=True
        )


def write_csv(result: duckdb.DuckDBPyRelation) -> None:
    """A result as CSV on stdout; NULL is empty, times are ISO 8601 in UTC, nested values are JSON.

    On a terminal, control characters are shown as escapes.
    """
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(shown(name) for name in result.columns)
    writer.writerows([shown(_text(value)) for value in row] for row in result.iter_rows())


def write_json(result: duckdb.DuckDBPyRelation) -> None:
    """A result as a JSON list of objects on stdout, one a line.

    Numbers are numbers, integers with all their digits; NaN and infinity are null; times are ISO 8601, in
    UTC where they have a zone; JSON, lists, structs and maps are nested.
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
    """A value as valid JSON on one line; what is not printable is escaped."""
    text = _ENCODER.encode(_with_text_keys(value)).decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def json_figures(figures: Mapping[str, object]) -> str:
    """Figures as indented JSON; NaN and infinity are null."""
    finite = json.loads(json.dumps(figures), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2)


def wide_enough(table: Table) -> Console:
    """A terminal has its width; what is no terminal gets the table whole."""
    screen = console()
    if screen.is_terminal:
        return screen
    return console(width=console(width=10_000).measure(table).maximum)


def _with_text_keys(value: Any) -> Any:
    """A value whose maps can be JSON objects: msgspec writes a decimal key as a number."""
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
"""Types whose values DuckDB gives as text."""


def _shown(value: Any) -> str:
    """A value in a table: a float to four decimals, a small one to three significant digits."""
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
