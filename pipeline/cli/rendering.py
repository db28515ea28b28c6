"""Query results and figures as CSV, JSON and Parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import IO, Any, Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.errors import UsageError
from pipeline.model.times import iso
from pipeline.terminal import printable

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def console(
    *,
    stderr: bool = False,
    width: int | None = None,
    soft_wrap: bool = False,
    file: IO[str] | None = None,
) -> Console:
    """A Rich console that prints text unchanged: no markup, no emoji names, no highlighting."""
    return Console(
        file=file,
        stderr=stderr,
        width=width,
        soft_wrap=soft_wrap,
        markup=False,
        emoji=False,
        highlight=False,
    )


def write_csv(
    result: duckdb.DuckDBPyRelation, stream: IO[str], *, on_terminal: bool = False
) -> None:
    """Write a result as CSV. NULL is empty, times are ISO 8601 in UTC, nested values are JSON.

    On a terminal, control characters are shown as escapes.
    """
    shown: Callable[[str], str] = printable if on_terminal else str
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(shown(name) for name in result.columns)
    for row in result.iter_rows():
        writer.writerow("" if value is None else shown(text_of(value)) for value in row)


def write_json(result: duckdb.DuckDBPyRelation, stream: IO[str]) -> None:
    """Write a result as a JSON list of objects, one per line.

    Numbers are numbers, integers with all their digits; NaN and infinity are null; times are ISO 8601, in
    UTC if they have a zone; JSON, lists, structs and maps are nested.
    """
    stream.write("[")
    separator = "\n"
    for text in _objects(result):
        stream.write(f"{separator}{text}")
        separator = ",\n"
    stream.write("\n]\n")


def write_json_lines(result: duckdb.DuckDBPyRelation, stream: IO[str]) -> None:
    """Write a result as JSON, one object per line; values as of `write_json`."""
    stream.writelines(f"{text}\n" for text in _objects(result))


def _objects(result: duckdb.DuckDBPyRelation) -> Iterator[str]:
    read = [_READ.get(str(type_)) for type_ in result.types]
    for row in result.iter_rows():
        values = (
            reader(value) if reader and value is not None else value
            for reader, value in zip(read, row, strict=True)
        )
        yield json_text(dict(zip(result.columns, values, strict=True)))


def write_parquet(result: duckdb.DuckDBPyRelation, stream: IO[bytes]) -> None:
    """Write a result as one Parquet file.

    Raises:
        UsageError: Parquet has no type for one of its columns.
    """
    reader = result.to_arrow_reader()
    try:
        with pq.ParquetWriter(stream, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
    except pa.ArrowNotImplementedError as error:
        msg = (
            f"Parquet can't hold a column of this result: cast it, or use --format jsonl ({error})"
        )
        raise UsageError(msg) from error


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


def text_of(value: Any) -> str:
    """A value that is not NULL as text: times in ISO 8601, nested values as JSON."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict | list | tuple):
        return json_text(value)
    return str(value)
