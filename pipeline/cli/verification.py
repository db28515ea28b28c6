"""Output for people: a verification."""

from dataclasses import fields
from datetime import timedelta
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.cli import rendering
from pipeline.cli.rendering import wide_enough
from pipeline.model.times import iso_seconds
from pipeline.quality.verify import Comparison, Verification
from pipeline.terminal import printable

_SHOWN_MISSING: Final = 100


def write_verification(found: Verification) -> None:
    """The comparison of each day, the missing operations, and what to do about them."""
    console = rendering.console(soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 1))
    table.add_column("day")
    names = [field.name for field in fields(Comparison)]
    for name in names:
        table.add_column(name, justify="right")
    for day, compared in [*found.days.items(), ("all", found.total)]:
        counts = [f"{getattr(compared, name):,}" for name in names]
        table.add_row(str(day), *counts, end_section=day == max(found.days, default=None))
    wide_enough(table).print(table)
    for one in found.missing[:_SHOWN_MISSING]:
        id_ = printable(one.operation_id)
        console.print(f"missing {iso_seconds(one.created_at)} {id_}")
    if len(found.missing) > _SHOWN_MISSING:
        console.print(f"... and {len(found.missing) - _SHOWN_MISSING:,} more: see --json")
    console.print(_verdict(found))


def _verdict(found: Verification) -> str:
    total = found.total
    text = (
        f"{total.listed:,} operations at the API, {total.current:,} of them current in the archive"
    )
    if found.missing:
        first, last = found.missing[0].created_at, found.missing[-1].created_at
        until = last + timedelta(seconds=1)
        times = f"--since {iso_seconds(first)} --until {iso_seconds(until)}"
        return f"{text}; {total.missing:,} missing: email-archive sync {times} fetches them"
    if found.failures:
        return f"{text}; {len(found.failures)} windows could not be listed"
    return f"{text}, none missing"
