"""Output for people: the progress of a sync, the status of an archive, and a verification."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import date, timedelta
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipeline.cli import logs, rendering
from pipeline.cli.rendering import wide_enough
from pipeline.extract.scan import FailedScan
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.times import iso_seconds
from pipeline.model.windows import Window
from pipeline.observer import Observer
from pipeline.quality.status import AccountStatus, ArchiveStatus, SlotStatus
from pipeline.quality.verify import Comparison, Verification
from pipeline.terminal import message, printable
from pipeline.twilio.client import Page


@contextmanager
def observing() -> Iterator[Callable[[str], Observer]]:
    """Observers for syncs: progress bars on a terminal, plain lines otherwise, on stderr.

    If the log is JSON, nothing is shown: the log has the same events.

    Yields:
        A function that returns an account's observer, by the name to show: empty for a single account.
    """
    if logs.is_json():
        yield lambda _: Observer()
        return
    console = rendering.console(stderr=True)
    if not console.is_terminal:
        yield lambda name: _Lines(console, name)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield lambda name: _Bars(progress, name)


class _Lines(Observer):
    def __init__(self, console: Console, account: str) -> None:
        self._console = console
        self._start = account and f"{account}: "
        self._lookups, self._looked_up = 0, 0

    def landed(self, facts: ScanFacts) -> None:
        self._say(
            f"scanned {facts.window}: {facts.operations} operations, {facts.pages} pages, "
            f"{facts.retries} retries"
        )

    def failed(self, failure: FailedScan) -> None:
        self._say(f"failed {failure.window}")

    def looking_up(self, lookups: int) -> None:
        self._lookups = lookups

    def looked_up(self, batch: LookupBatch) -> None:
        self._looked_up += batch.lookups.num_rows
        self._say(
            f"looked up {self._looked_up:,} of {self._lookups:,} operations by id: the last "
            f"{batch.lookups.num_rows} of {batch.partition}, {batch.errors.num_rows} errors"
        )

    def merged(self, report: MergeReport) -> None:
        self._say(
            f"merged {report.partition}: {report.new} new, {report.changed} changed, "
            f"{report.unchanged} unchanged, {report.new_rejects} rejects"
        )

    def _say(self, line: str) -> None:
        self._console.print(message(f"{self._start}{line}"), soft_wrap=True)


class _Bars(Observer):
    def __init__(self, progress: Progress, account: str) -> None:
        self._progress = progress
        self._start = start = account and f"{account}: "
        self._scanning = progress.add_task(f"{start}scanning", total=None, detail="")
        self._merging = progress.add_task(f"{start}merging", total=None, detail="", visible=False)
        self._looking_up = progress.add_task(f"{start}looking up by id", detail="", visible=False)
        self._records = 0
        self._planned = 0

    def planned(self, windows: Sequence[Window]) -> None:
        self._planned += len(windows)
        self._progress.update(self._scanning, total=self._planned)

    def received(self, page: Page) -> None:
        self._records += page.records
        self._progress.update(self._scanning, detail=f"{self._records} records")

    def landed(self, facts: ScanFacts) -> None:  # noqa: ARG002 - Observer gives it; a count is enough here
        self._progress.advance(self._scanning)

    def failed(self, failure: FailedScan) -> None:
        self._progress.advance(self._scanning)
        self._progress.console.print(f"{self._start}failed {failure.window}")

    def looking_up(self, lookups: int) -> None:
        self._progress.update(self._looking_up, total=lookups, visible=lookups > 0)

    def looked_up(self, batch: LookupBatch) -> None:
        self._progress.advance(self._looking_up, batch.lookups.num_rows)

    def merged(self, report: MergeReport) -> None:
        self._progress.update(
            self._merging, advance=1, visible=True, detail=f"{report.partition.day}"
        )


_CELLS: Final = {
    "open": ("o", "green"),
    "at_risk": ("!", "bold white on red"),
    "final": ("#", "blue"),
    "closed": ("+", "yellow"),
    "gap": ("X", "bold red"),
    "before_archive": ("-", "dim"),
}
_LEGEND: Final = {
    "open": "still scanned",
    "final": "has its final scan",
    "closed": "past its deadline, without a final scan",
    "at_risk": "is lost soon",
    "gap": "lost",
    "before_archive": "before the archive",
}
_SHOWN_SLOTS: Final = 10
_SHOWN_ANOMALIES: Final = 5


def write_status(found: ArchiveStatus) -> None:
    """The status: for each account, its figures and a grid of the hours of the last 8 days."""
    console = rendering.console(soft_wrap=True)
    console.print(printable(f"{found.root.absolute()}"))
    for account in found.accounts:
        console.print()
        console.print(_title(account), style="bold")
        if account.unsynced:
            about = "sync it, or retire it with `email-archive accounts retire`"
            _print_marked(console, "not synced for a day:", "bold red", about)
        console.print(_account_grid(account))
        console.print()
        console.print(_slot_grid(account.slots))
        for state, slots in (("at risk", account.at_risk), ("lost", account.lost)):
            for slot in slots[:_SHOWN_SLOTS]:
                left = f": {slot.hours_left:.1f} h left" if slot.state == "at_risk" else ""
                _print_marked(console, state, "bold red", f"{slot.slot:%Y-%m-%d %H:00} UTC{left}")
            if len(slots) > _SHOWN_SLOTS:
                console.print(f"  ... and {len(slots) - _SHOWN_SLOTS} more {state}")
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
    if found.warehouse_bytes is None:
        console.print("no warehouse yet: make it with `email-archive publish`")
    for fault in found.unreadable:
        console.print(Text("unreadable", "bold red"), Text(printable(f" {fault}")), sep="")
    for path in found.foreign:
        line = f"not a file of the archive, but queries would read it: {path}"
        console.print(printable(line))


def _print_marked(console: Console, mark: str, style: str, about: str) -> None:
    console.print(Text(f"  {mark}", style), Text(printable(about)))


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


def _slot_grid(slots: Sequence[SlotStatus]) -> Table:
    """A grid of slots: one row per day, one cell per hour."""
    grid = Table.grid(padding=(0, 2))
    hours = "".join(f"{hour:<6}" for hour in range(0, 24, 6))
    grid.add_row("  UTC hour", Text(hours), "")
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


def _title(account: AccountStatus) -> str:
    name, sid = account.name, account.account_id
    title = sid if name == sid else f"{name} ({sid})"
    return f"{title}, retired at {account.retired_at:%Y-%m-%d}" if account.retired_at else title


def _account_grid(account: AccountStatus) -> Table:
    last_scan = f"{account.last_scan_at:%Y-%m-%d %H:%M:%S} UTC" if account.last_scan_at else "never"
    between = f", from {account.first_day} to {account.last_day}" if account.first_day else ""
    grid = Table.grid(padding=(0, 2))
    for name, value in (
        ("days", f"{account.days:,}{between}"),
        ("operations", f"{account.operations:,}, with {account.states:,} states in their history"),
        ("rejects", f"{account.rejects:,}"),
        ("scans", f"{account.scans:,}, the last at {last_scan}"),
        ("size", f"{account.bytes / 1e6:,.1f} MB"),
        ("waiting", f"{account.waiting} days to merge or to derive"),
        ("lost", f"{account.gaps:,} slots, ever"),
    ):
        grid.add_row(f"  {name}", value)
    return grid
