"""The progress of a sync: a line on a terminal that says what is being done, a log otherwise."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from threading import Lock

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from pipeline.cli import logs, rendering
from pipeline.extract.scan import FailedScan
from pipeline.lake.merge import MergeReport
from pipeline.model.records import LookupBatch, ScanFacts
from pipeline.model.windows import Window
from pipeline.observer import Observer
from pipeline.terminal import message
from pipeline.twilio.client import Page

log = logging.getLogger(__name__)


@contextmanager
def observing() -> Iterator[Callable[[str], Observer]]:
    """Observers for syncs: the current step on a terminal, log lines otherwise, on stderr.

    If the log is JSON, nothing is shown: the log has the same events.

    Yields:
        A function that returns an account's observer, by the name to show: empty for a single account.
    """
    if logs.is_json():
        yield lambda _: Observer()
        return
    console = rendering.console(stderr=True)
    if not console.is_terminal:
        log.setLevel(logging.INFO)
        yield _Lines
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=8),
        _Amount(),
        TimeElapsedColumn(),
        _Remaining(),
    )
    # What is printed meanwhile appears above the bars, unless it goes to another program.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=shared) as progress:
        yield lambda name: _Steps(progress, name)


class _Lines(Observer):
    """Logs each scan, each day that changed, and each batch of lookups."""

    def __init__(self, account: str) -> None:
        self._start = account and f"{account}: "
        self._lookups, self._looked_up = 0, 0

    def landed(self, facts: ScanFacts) -> None:
        self._log(
            f"scanned {facts.window}: {facts.operations} operations, {facts.pages} pages, "
            f"{facts.retries} retries"
        )

    def failed(self, failure: FailedScan) -> None:
        self._log(f"failed {failure.window}")

    def looking_up(self, lookups: int) -> None:
        self._lookups = lookups

    def looked_up(self, batch: LookupBatch) -> None:
        self._looked_up += batch.lookups.num_rows
        self._log(
            f"looked up {self._looked_up:,} of {self._lookups:,} operations by id: the last "
            f"{batch.lookups.num_rows} of {batch.partition}, {batch.errors.num_rows} errors"
        )

    def merged(self, report: MergeReport) -> None:
        if report.new or report.changed or report.new_rejects:
            self._log(
                f"merged {report.partition}: {report.new} new, {report.changed} changed, "
                f"{report.unchanged} unchanged, {report.new_rejects} rejects"
            )

    def _log(self, line: str) -> None:
        log.info("%s%s", self._start, line)


class _Steps(Observer):
    """Shows the step that an account is at: listing, merging, looking up or publishing."""

    def __init__(self, progress: Progress, account: str) -> None:
        self._progress = progress
        self._start = account and f"{account}: "
        self._lock = Lock()
        self._step = "connecting"
        self._shown = progress.add_task(f"{self._start}{self._step}", total=None, unit="", seen=0)
        self._planned, self._done, self._seen, self._lookups = 0, 0, 0, 0
        self._days: set[date] = set()
        self._merged: set[date] = set()

    def planned(self, windows: Sequence[Window]) -> None:
        with self._lock:
            self._planned += len(windows)
            self._days |= {window.day for window in windows}
            if windows and self._step != "listing":
                self._begin("listing", self._planned, "windows", self._done)
            self._progress.update(self._shown, total=self._planned or None)

    def received(self, page: Page) -> None:
        with self._lock:
            self._seen += page.records
            self._progress.update(self._shown, seen=self._seen)

    def landed(self, facts: ScanFacts) -> None:  # noqa: ARG002 - Observer gives it; a count is enough here
        self._scanned()

    def failed(self, failure: FailedScan) -> None:
        self._progress.console.print(message(f"{self._start}failed {failure.window}"))
        self._scanned()

    def merged(self, report: MergeReport) -> None:
        with self._lock:
            self._merged.add(report.partition.day)
            if self._step == "merging":
                self._progress.update(self._shown, completed=len(self._merged & self._days))

    def looking_up(self, lookups: int) -> None:
        with self._lock:
            self._lookups = lookups
            if lookups:
                self._begin("looking up by id", lookups, "operations")

    def looked_up(self, batch: LookupBatch) -> None:
        with self._lock:
            self._lookups -= batch.lookups.num_rows
            self._progress.advance(self._shown, batch.lookups.num_rows)
            if self._lookups <= 0:
                self._begin("merging lookups")

    def publishing(self) -> None:
        with self._lock:
            self._begin("deriving and publishing")

    def ended(self) -> None:
        self._progress.update(self._shown, visible=False)

    def _scanned(self) -> None:
        with self._lock:
            self._done += 1
            self._progress.update(self._shown, completed=self._done)
            if self._done >= self._planned:
                self._begin("merging", len(self._days), "days", len(self._merged & self._days))

    def _begin(self, step: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        """Show another step, with a clock of its own."""
        self._progress.remove_task(self._shown)
        self._step, self._seen = step, 0
        self._shown = self._progress.add_task(
            f"{self._start}{step}", total=total, completed=done, unit=unit, seen=0
        )


class _Amount(ProgressColumn):
    """How much of a step is done, and how fast records come."""

    def render(self, task: Task) -> Text:
        unit, seen = task.fields["unit"], task.fields["seen"]
        parts = []
        if task.total is not None:
            parts.append(f"{task.completed:,.0f}/{task.total:,.0f} {unit}")
        if seen and task.elapsed:
            parts.append(f"{seen:,} seen, {seen / task.elapsed:,.0f}/s")
        return Text(", ".join(parts))


class _Remaining(ProgressColumn):
    """About how long a step still takes; empty until that can be estimated."""

    def render(self, task: Task) -> Text:
        if not (task.total and task.completed and task.elapsed):
            return Text("")
        seconds = task.elapsed / task.completed * (task.total - task.completed)
        minutes, rest = divmod(round(seconds), 60)
        return Text(f"about {minutes}:{rest:02} left")
