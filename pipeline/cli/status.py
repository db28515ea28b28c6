"""The status of an archive, for people."""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli import rendering
from pipeline.model.windows import SLOT
from pipeline.quality.status import SUMMED, AccountStatus, ArchiveStatus, SlotStatus
from pipeline.terminal import printable

_CELLS: Final = {
    "open": ("o", "green"),
    "at_risk": ("!", "bold white on red"),
    "final": ("#", "blue"),
    "closed": ("+", "yellow"),
    "gap": ("X", "bold red"),
    "before_archive": ("-", "dim"),
}
_LEGEND: Final = {
    "open": "to be scanned again",
    "final": "has its final scan",
    "closed": "past its deadline, without a final scan",
    "at_risk": "is lost soon",
    "gap": "lost",
    "before_archive": "before the archive",
}
_SHOWN_RANGES: Final = 10
_SHOWN_ANOMALIES: Final = 5


def write_status(found: ArchiveStatus) -> None:
    """What is wrong with the whole archive, totals, and a section for each account."""
    console = rendering.console(soft_wrap=True)
    for warning in found.warnings:
        _paragraph(console, warning, "bold red")
        console.print()
    console.print(printable(f"{found.root.absolute()}"))
    if len(found.accounts) > 1:
        console.print()
        console.print(f"{len(found.accounts):,} accounts", style="bold")
        console.print(_grid(_counts(found.total(), "of all accounts")))
    for account in found.accounts:
        console.print()
        _write_account(console, account)
    if found.warehouse_bytes is None:
        console.print("no warehouse yet: make it with `email-archive publish`")
    for fault in found.unreadable:
        console.print(Text("unreadable", "bold red"), Text(printable(f" {fault}")), sep="")
    for path in found.foreign:
        line = f"not a file of the archive, but queries would read it: {path}"
        console.print(printable(line))


def _write_account(console: Console, account: AccountStatus) -> None:
    """The figures of an account, a grid of the hours of the last 8 days, and what is unusual."""
    console.print(_title(account), style="bold")
    if account.unsynced:
        console.print("  not synced for a day", style="bold red")
    console.print(_grid(_figures(account)))
    console.print()
    console.print(_slot_grid(account.slots))
    for state, slots in (("at risk", account.at_risk), ("lost", account.lost)):
        ranges = list(_ranges(slots))
        for hours in ranges[:_SHOWN_RANGES]:
            _print_marked(console, state, "bold red", _range(hours))
        if len(ranges) > _SHOWN_RANGES:
            more = sum(map(len, ranges[_SHOWN_RANGES:]))
            console.print(f"  ... and {more:,} more hours {state}")
    if account.future_scans:
        mark = f"{account.future_scans:,} scans of the future"
        about = (
            "a wrong clock dated them, so the coverage shown here is wrong. See "
            "`email-archive repair`"
        )
        _print_marked(console, f"{mark}:", "bold red", about)
    for unusual in account.anomalies[:_SHOWN_ANOMALIES]:
        _print_marked(console, "unusual", "bold yellow", str(unusual))
    if len(account.anomalies) > _SHOWN_ANOMALIES:
        more = len(account.anomalies) - _SHOWN_ANOMALIES
        console.print(f"  ... and {more} more in delivery_anomalies")
    if account.reading and account.reading.warning:
        _print_marked(console, "undecided", "bold yellow", account.reading.warning)


def _paragraph(console: Console, text: str, style: str) -> None:
    """A sentence, with line breaks between words on a terminal and in one line otherwise."""
    console.print(printable(text), style=style, soft_wrap=not console.is_terminal)


def _print_marked(console: Console, mark: str, style: str, about: str) -> None:
    console.print(Text.assemble((f"  {mark}", style), f" {printable(about)}"))


def _title(account: AccountStatus) -> str:
    name, sid = account.name, account.account_id
    title = sid if name == sid else f"{name} ({sid})"
    return f"{title}, retired at {account.retired_at:%Y-%m-%d}" if account.retired_at else title


def _figures(account: AccountStatus) -> dict[str, str]:
    last_scan = f"{account.last_scan_at:%Y-%m-%d %H:%M:%S} UTC" if account.last_scan_at else "never"
    between = f", from {account.first_day} to {account.last_day}" if account.first_day else ""
    counts = _counts({name: getattr(account, name) for name in SUMMED})
    scans = f"{counts['scans']}, the last at {last_scan}"
    return {"days": f"{account.days:,}{between}"} | counts | {"scans": scans}


def _counts(counts: dict[str, Any], of: str = "in all") -> dict[str, str]:
    """Figures by the names that people see."""
    return {
        "operations": f"{counts['operations']:,}, with {counts['states']:,} states in their history",
        "rejects": f"{counts['rejects']:,}",
        "scans": f"{counts['scans']:,}",
        "size": f"{counts['bytes'] / 1e6:,.1f} MB",
        "waiting": f"{counts['waiting']:,} days to merge or to derive",
        "lost": f"{counts['gaps']:,} hours {of}",
    }


def _grid(figures: dict[str, str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, value in figures.items():
        grid.add_row(f"  {name}", value)
    return grid


def _ranges(slots: Sequence[SlotStatus]) -> Iterator[list[SlotStatus]]:
    """Slots, those that follow each other without a break together."""
    ordered = sorted(slots, key=lambda one: one.slot)
    hours = ordered[:1]
    for before, slot in pairwise(ordered):
        if slot.slot - before.slot > SLOT:
            yield hours
            hours = []
        hours.append(slot)
    if hours:
        yield hours


def _range(hours: Sequence[SlotStatus]) -> str:
    first, last = hours[0], hours[-1]
    left = f"{first.hours_left:.1f} h left" if first.state == "at_risk" else ""
    if len(hours) == 1:
        return f"{first.slot:%Y-%m-%d %H:00} UTC" + (f": {left}" if left else "")
    between = f"{first.slot:%Y-%m-%d %H:00} to {last.slot + SLOT:%Y-%m-%d %H:00} UTC"
    return f"{between}: {len(hours):,} hours" + (f", the first with {left}" if left else "")


def _slot_grid(slots: Sequence[SlotStatus]) -> Table:
    """A grid of slots: one row per day, one cell per hour."""
    grid = Table.grid(padding=(0, 2))
    ticks = "".join(f"{hour:<6}" for hour in range(0, 24, 6))
    grid.add_row("  UTC hour", Text(ticks), "")
    by_day: dict[date, dict[int, str]] = {}
    for slot in slots:
        by_day.setdefault(slot.slot.date(), {})[slot.slot.hour] = slot.state
    legend = iter(_LEGEND.items())
    for day, states in sorted(by_day.items(), reverse=True):
        cells = Text()
        for hour in range(24):
            sign, style = _CELLS[states[hour]] if hour in states else (" ", "")
            cells.append(sign, style)
        meaning = Text()
        if (entry := next(legend, None)) is not None:
            meaning.append(_CELLS[entry[0]][0], _CELLS[entry[0]][1]).append(f" {entry[1]}")
        grid.add_row(f"  {day:%a %m-%d}", cells, meaning)
    return grid
