"""The progress of a sync: bars on a terminal, lines otherwise."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.cli import logs, rendering
from pipeline.extract.scan import FailedScan
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.windows import Window
from pipeline.observer import Observer
from pipeline.terminal import message
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
    # What is printed meanwhile appears above the bars, unless it goes to another program.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as progress:
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
