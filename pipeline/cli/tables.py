"""Query results as tables: for a terminal, and in Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Final, Literal

import duckdb
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from pipeline.cli import rendering
from pipeline.cli.rendering import text_of
from pipeline.terminal import printable

_FRACTIONS: Final = ("float", "double", "decimal")
_INTEGERS: Final = ("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum")
_NUMBERS: Final = {*_INTEGERS, *(f"u{name}" for name in _INTEGERS), *_FRACTIONS}
_RATE: Final = re.compile(r"(?:^|_)rate(?:_|$)", re.IGNORECASE)
_HIGHEST_RATE: Final = 2
"""A column of this name with a higher value is no ratio: 97.15 may be in per cent already. Under the wrong
reading, rates are a little above 1."""

_SMALL, _LARGE = 0.001, 1e15
"""Floats between these are shown with four decimals."""

_SID: Final = re.compile(r"(?<![0-9A-Za-z])(AC[0-9a-f]{4})[0-9a-f]{24}([0-9a-f]{4})(?![0-9A-Za-z])")
"""An account's SID: what is shown of it where the table does not fit."""

_DOTS: Final = 4
_WIDEST: Final = 1_000_000
_NULL: Final = "NULL"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column's texts; None is NULL."""

    name: str
    is_number: bool
    texts: Sequence[str | None]

    @property
    def width(self) -> int:
        lines = (line for text in self.texts for line in (text or _NULL).split("\n"))
        return max(cell_len(self.name), *map(cell_len, lines), 1)

    @property
    def is_constant(self) -> bool:
        return len(self.texts) > 1 and len(set(self.texts)) == 1


def write_table(
    result: duckdb.DuckDBPyRelation,
    max_rows: int,
    stream: IO[str] | None = None,
    *,
    is_wide: bool = False,
) -> None:
    """Write a result as a table, with at most `max_rows` rows.

    If it is wider than the screen, a single row is shown with one column per line. Of several rows, columns
    with the same value in each are named below the table, the widest first. If that is not enough, account
    SIDs are shortened in the middle, and the last columns are named below the table.

    Args:
        result: the result.
        max_rows: the most rows to show.
        stream: where to; stdout by default.
        is_wide: show all columns, however wide.
    """
    screen = rendering.console(file=stream)
    columns = _columns(result, max_rows)
    width = None if is_wide else screen.width
    fit = _fitting(columns, width)
    if fit < len(columns) and len(columns[0].texts) == 1:
        _write_record(columns, stream, is_wide=is_wide)
        return
    left_out: list[_Column] = []
    for column in sorted(columns, key=lambda one: -one.width):
        if fit < len(columns) and column.is_constant and len(columns) > 1:
            left_out.append(column)
            columns = [one for one in columns if one is not column]
            fit = _fitting(columns, width)
    if fit < len(columns):
        columns = [_with_short_sids(one) for one in columns]
        fit = _fitting(columns, width)
    _print(_table(columns, fit), stream, is_wide=is_wide)
    count, _ = result.shape
    if left_out:
        same = ", ".join(f"{one.name} {_short(one.texts[0])}" for one in left_out)
        rows = "row" if count <= max_rows else "row shown"
        screen.print(f"the same in every {rows}: {same}", style="dim")
    if hidden := [one.name for one in columns[fit:]]:
        what = "1 column does" if len(hidden) == 1 else f"{len(hidden)} columns do"
        screen.print(f"{what} not fit: {', '.join(hidden)}", style="dim")
    if count > max_rows:
        screen.print(f"{count - max_rows:,} more rows: see --max-rows, or --format csv")


def write_markdown(result: duckdb.DuckDBPyRelation, stream: IO[str]) -> None:
    """Write a result as a table in Markdown, with all rows and columns."""
    columns = _columns(result)
    rules = ("---:" if one.is_number else "---" for one in columns)
    heads = ([one.name for one in columns], rules)
    for row in (*heads, *zip(*(one.texts for one in columns), strict=True)):
        cells = (_NULL if text is None else _in_markdown(text) for text in row)
        stream.write(f"| {' | '.join(cells)} |\n")


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def fitting(widths: Sequence[int], screen: int) -> int:
    """How many columns a screen has room for, from the first on; at least 1.

    Args:
        widths: of the columns' texts.
        screen: the width of the screen. Each column takes 3 more, the table 1.
    """
    left = screen - 1
    if sum(widths) + 3 * len(widths) <= left:
        return len(widths)
    left -= _DOTS
    for place, width in enumerate(widths):
        left -= width + 3
        if left < 0:
            return max(place, 1)
    return len(widths)


def _fitting(columns: Sequence[_Column], screen: int | None) -> int:
    return len(columns) if screen is None else fitting([one.width for one in columns], screen)


def _with_short_sids(column: _Column) -> _Column:
    return replace(column, texts=[text and _SID.sub(r"\1…\2", text) for text in column.texts])


def _columns(result: duckdb.DuckDBPyRelation, max_rows: int | None = None) -> list[_Column]:
    rows = (result if max_rows is None else result.limit(max_rows)).fetchall()
    found = []
    for place, (name, type_) in enumerate(zip(result.columns, result.types, strict=True)):
        values = [row[place] for row in rows]
        is_rate = type_.id in _FRACTIONS and _is_rate(name, values)
        texts = [None if value is None else _shown(value, is_rate=is_rate) for value in values]
        found.append(_Column(printable(name), type_.id in _NUMBERS, texts))
    return found


def _is_rate(name: str, values: Sequence[Any]) -> bool:
    """Whether a column of fractions is a ratio, by its name and its values."""
    if not _RATE.search(name):
        return False
    return all(value is None or 0 <= value <= _HIGHEST_RATE for value in values)


def _shown(value: Any, *, is_rate: bool) -> str:
    """A value: rates in per cent, other floats with four decimals, or three significant digits."""
    if is_rate:
        return f"{value:.2%}"
    if isinstance(value, float):
        is_plain = value == 0 or _SMALL <= abs(value) < _LARGE
        return f"{value:.4f}" if is_plain else f"{value:.3g}"
    return printable(text_of(value), keep="\n")


def _table(columns: Sequence[_Column], fit: int) -> Table:
    """A table of the first columns, as many as fit."""
    table = Table()
    shown = columns[:fit]
    for column in shown:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(column.name, justify=justify, overflow="fold")
    more = ["…"] if fit < len(columns) else []
    for dots in more:
        table.add_column(dots, justify="center")
    for row in range(len(columns[0].texts)):
        table.add_row(*(_cell(one.texts[row]) for one in shown), *more)
    return table


def _write_record(columns: Sequence[_Column], stream: IO[str] | None, *, is_wide: bool) -> None:
    """A row with a column a line."""
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for column in columns:
        table.add_row(column.name, _cell(column.texts[0]))
    _print(table, stream, is_wide=is_wide)


def _print(table: Table, stream: IO[str] | None, *, is_wide: bool) -> None:
    width = rendering.console(width=_WIDEST).measure(table).maximum if is_wide else None
    rendering.console(file=stream, width=width).print(table)


def _cell(text: str | None) -> Text:
    return Text(_NULL, style="dim italic") if text is None else Text(text)


def _short(text: str | None) -> str:
    return _NULL if text is None else (text or "''")
