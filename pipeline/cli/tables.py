"""Query results as tables: for a terminal, and in Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

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

_LAST_PART: Final = 1 / 3
"""The last column is kept if it takes at most this part of the screen."""

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
    with the same value in each are named below the table, the widest first, and so are those that don't fit.

    Args:
        result: the result.
        max_rows: the most rows to show.
        stream: where to; stdout by default.
        is_wide: show all columns, however wide.
    """
    screen = rendering.console(file=stream)
    columns = _columns(result, max_rows)
    width = None if is_wide else screen.width
    kept = _fitting(columns, width)
    if len(kept) < len(columns) and len(columns[0].texts) == 1:
        _write_record(columns, stream, is_wide=is_wide)
        return
    left_out: list[_Column] = []
    for column in sorted(columns, key=lambda one: -one.width):
        if len(kept) < len(columns) and column.is_constant and len(columns) > 1:
            left_out.append(column)
            columns = [one for one in columns if one is not column]
            kept = _fitting(columns, width)
    _print(_table(columns, kept), stream, is_wide=is_wide)
    if left_out:
        same = ", ".join(f"{one.name} {_short(one.texts[0])}" for one in left_out)
        screen.print(f"the same in every row: {same}", style="dim")
    if hidden := [one.name for place, one in enumerate(columns) if place not in kept]:
        screen.print(f"{len(hidden)} columns do not fit: {', '.join(hidden)}", style="dim")
    count, _ = result.shape
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


def fitting(widths: Sequence[int], screen: int) -> list[int]:
    """The places of the columns that a screen has room for: the first ones, and the last.

    Args:
        widths: of the columns' texts.
        screen: the width of the screen. Each column takes 3 more, the table 1.
    """
    if sum(widths) + 3 * len(widths) + 1 <= screen:
        return list(range(len(widths)))
    last = len(widths) - 1
    left = screen - 1 - _DOTS
    kept = []
    if widths[last] <= screen * _LAST_PART and widths[0] + widths[last] + 6 <= left:
        kept, left = [last], left - widths[last] - 3
    for place, width in enumerate(widths[: last - len(kept) + 1]):
        left -= width + 3
        if left < 0 and place > 0:
            break
        kept.append(place)
    return sorted(kept)


def _fitting(columns: Sequence[_Column], screen: int | None) -> list[int]:
    if screen is None:
        return list(range(len(columns)))
    return fitting([one.width for one in columns], screen)


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


def _table(columns: Sequence[_Column], kept: Sequence[int]) -> Table:
    table = Table()
    shown: list[_Column | None] = []
    for place, before in zip(kept, [-1, *kept], strict=False):
        shown += [None, columns[place]] if place - before > 1 else [columns[place]]
    if kept[-1] < len(columns) - 1:
        shown.append(None)
    for column in shown:
        if column is None:
            table.add_column("…", justify="center")
        else:
            table.add_column(
                column.name, justify="right" if column.is_number else "left", overflow="fold"
            )
    for row in range(len(columns[0].texts)):
        table.add_row(*("…" if one is None else _cell(one.texts[row]) for one in shown))
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
