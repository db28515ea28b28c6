"""Many at once on one lake: four syncs, a Dagster run, eight readers, and an API whose clock runs.

``python -m tests.end_to_end.busy --seconds 300`` goes on for so long and prints the figures.
"""

import argparse
import itertools
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pandas as pd
from rich.console import Console

from pipeline.emulator import Clock, Faults, Options, World, running
from pipeline.lake.engine import retry_torn_reads
from pipeline.lake.layout import Lake
from pipeline.model.schema import HISTORY, OPERATIONS
from pipeline.model.windows import retained_days
from pipeline.settings import Settings
from pipeline.sync import DUE, EVERYTHING, sync
from tests.support.archives import rows, settings_for, states, sync_all, unlike_truth
from tests.support.dagster_home import dagster_home
from tests.support.factories import at

START: Final = at("2026-11-10")
BEGUN: Final = at("2026-11-12")
_RATE: Final = 1200.0
_MOST: Final = 400_000.0
"""Seconds of the API's clock per second, and all that may pass: it forgets nothing until then, so that
each operation has one truth at the end."""

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["pipeline.sync", "pipeline.outputs.warehouse", "duckdb", "pandas.io.parquet"]
)


class Counted(NamedTuple):
    """What a reader found: rows, distinct operations, rows that can't be; how often it asked again."""

    rows: int
    distinct: int
    torn: int
    again: int = 0


def by_pandas(data: Path) -> Counted:
    """The hive's own day has to be that of every row in it."""
    columns = ["operation_id", "created_at", "total", "created_date"]
    found = pd.read_parquet(data / "operations", columns=columns)
    days = found["created_at"].dt.strftime("%Y-%m-%d")
    torn = (days != found["created_date"].astype(str)) | found["total"].isna()
    return Counted(len(found), found["operation_id"].nunique(), int(torn.sum()))


def by_duckdb_on_parquet(data: Path) -> Counted:
    query = """
        SELECT count(*), count(DISTINCT operation_id),
            count(*) FILTER (created_at::DATE <> created_date OR total IS NULL)
        FROM read_parquet(?, hive_partitioning = true)
    """
    tries = 0

    def asked() -> tuple[int, ...]:
        nonlocal tries
        tries += 1
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(query, [f"{data}/operations/**/*.parquet"]).fetchone() or ()

    return Counted(*retry_torn_reads(asked), again=tries - 1)


def by_warehouse(data: Path) -> Counted:
    """The build's own tables have to agree with each other; its views read the Parquet files."""
    query = """
        SELECT (SELECT sum(operations) FROM delivery_daily)::BIGINT,
            (SELECT sum(operations) FROM delivery_hourly)::BIGINT,
            (SELECT sum(operations) FROM delivery_monthly)::BIGINT
    """
    tries = 0

    def asked() -> tuple[int, int, int]:
        nonlocal tries
        tries += 1
        with duckdb.connect(data / "warehouse.duckdb", read_only=True) as connection:
            daily, hourly, monthly = connection.execute(query).fetchone() or (0, 0, 0)
            in_view = "SELECT count(*), count(DISTINCT operation_id) FROM operations"
            rows, distinct = connection.execute(in_view).fetchone() or (0, 0)
        return rows, distinct, int(not daily == hourly == monthly)

    return Counted(*retry_torn_reads(asked), again=tries - 1)


READERS: Final = (*[by_pandas] * 2, *[by_duckdb_on_parquet] * 3, *[by_warehouse] * 3)


@dataclass(frozen=True, slots=True)
class Report:
    """What happened.

    Attributes:
        syncs: that ended well, of all processes.
        dagster_runs: likewise.
        queries: what each reader asked, in the order of `READERS`.
        operations: in the archive at the end.
        states: in its history.
        hours: that the API's clock went on meanwhile.
        doubled: rows that readers found twice.
        torn: rows, or whole answers of the warehouse, that readers found inconsistent.
        shrunk: times that a reader found fewer rows than before.
        asked_again: times that DuckDB found a file replaced within a query, and was asked again.
        errors: what any process ended with.
        problems: what the archive has otherwise than the truth.
    """

    syncs: int
    dagster_runs: int
    queries: tuple[int, ...]
    operations: int
    states: int
    hours: float
    doubled: int
    torn: int
    shrunk: int
    asked_again: int
    errors: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def all_well(self) -> bool:
        """Whether nothing was lost, doubled, torn or refused."""
        return not (self.doubled or self.torn or self.shrunk or self.errors or self.problems)


def run(folder: Path, seconds: float | None = None, *, syncs: int = 4) -> Report:
    """Let all of them work at once on a lake in `folder`, while the API's clock runs.

    Args:
        folder: an empty folder.
        seconds: for how long; None for as long as one Dagster run takes.
        syncs: processes that sync.
    """
    clock = Clock(BEGUN)
    faults = Faults(7, {"429-zero": 0.03, "reset": 0.02, "duplicates": 0.05, "reordered": 0.05})
    options = Options(order="scrambled", page_limit=200, faults=faults)
    data = folder / "lake"
    began = time.monotonic()
    with running(World(31, 300.0, START), clock=clock, options=options) as api:
        settings = settings_for(api, data, concurrency=2)
        sync_all(settings, publishing=True)
        stop, turns, answers = context.Event(), context.Semaphore(0), context.Queue()
        everybody = [(_sync_again, settings)] * syncs
        everybody += [(_read_again, (number, data)) for number in range(len(READERS))]
        processes = [
            context.Process(target=_go_on, args=(work, stop, turns, answers, what))
            for work, what in everybody
        ]
        clock.run(min(_RATE, _MOST / seconds) if seconds else _RATE)
        for process in processes:
            process.start()
        dagster: list[str | None] = []
        while not dagster or (seconds and time.monotonic() < began + seconds):
            dagster.append(run_dagster(folder / "dagster", settings, clock.now()))
        for _ in processes:
            turns.acquire()  # everybody has had one
        stop.set()
        answered = [answers.get() for _ in processes]
        for process in processes:
            process.join()
        clock.run(0)
        now = clock.now()
        clock.set(now.replace(microsecond=0))
        assert sync_all(settings, publishing=True).ok
        problems = unlike_truth(api, data, START, [clock.now()])
    history = rows(data, HISTORY)
    if len(states(history)) != history.num_rows:
        problems.append("states are in history twice")
    if Lake(data).pending():
        problems.append("days are not merged")
    reads = sorted(answer for answer in answered if isinstance(answer, tuple))
    every = [one for _, found in reads for one in found]
    return Report(
        syncs=sum(answer for answer in answered if isinstance(answer, int)),
        dagster_runs=dagster.count(None),
        queries=tuple(len(found) for _, found in reads),
        operations=rows(data, OPERATIONS).num_rows,
        states=history.num_rows,
        hours=(now - BEGUN) / timedelta(hours=1),
        doubled=sum(one.rows - one.distinct for one in every),
        torn=sum(one.torn for one in every),
        shrunk=sum(
            later.rows < before.rows
            for _, found in reads
            for before, later in itertools.pairwise(found)
        ),
        asked_again=sum(one.again for one in every),
        errors=tuple(one for one in (*dagster, *answered) if isinstance(one, str)),
        problems=tuple(problems),
    )


def _go_on(
    work: "Callable[[Any], Iterator[object]]",
    stop: Event,
    turns: Semaphore,
    answers: "Queue[object]",
    what: object,
) -> None:
    """Take one turn after the other until told to stop; answer with the last one's result, or the error."""
    answer: object = None
    try:
        logging.disable(logging.CRITICAL)  # that they wait for each other is meant
        for result in work(what):
            answer = result
            turns.release()
            if stop.is_set():
                break
    except BaseException as error:
        answer = f"{work.__name__}: {error!r}"
        raise
    finally:
        turns.release()
        answers.put(answer)


def _sync_again(settings: Settings) -> Iterator[int]:
    """Syncs, every third of everything; how many there were."""
    for times in itertools.count():
        report = sync(settings, scope=DUE if times % 3 else EVERYTHING)
        if not report.ok:
            raise AssertionError(report.summary())
        yield times + 1


def _read_again(what: tuple[int, Path]) -> Iterator[tuple[int, list[Counted]]]:
    """Reads; which reader it is, and what each read found."""
    number, data = what
    found: list[Counted] = []
    while True:
        found.append(READERS[number](data))
        yield number, found


def run_dagster(home: Path, settings: Settings, now: datetime) -> str | None:
    """The job over the retention's days, in a process of its own; what it said if it failed."""
    with dagster_job(home, settings, now) as process:
        said = process.communicate()[0]
    return f"dagster: {said[-2000:]}" if process.returncode else None


def dagster_job(home: Path, settings: Settings, now: datetime) -> "subprocess.Popen[str]":
    """Start ``python -m assets.run`` over the days that the API may still know."""
    days = [str(day) for day in retained_days(now)]
    command = [sys.executable, "-m", "assets.run", days[0], days[-1]]
    return subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ) | settings.environment() | dagster_home(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> None:
    """Run, show the figures, and end with 1 if anything was lost, doubled, torn or refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.busy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    wanted = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), wanted.seconds)
    by_kind = Counter[str]()
    for read, queries in zip(READERS, report.queries, strict=False):
        by_kind[read.__name__.removeprefix("by_").replace("_", " ")] += queries
    listed = ", ".join(f"{kind} {queries:,}" for kind, queries in by_kind.items())
    console.print(
        f"syncs: {report.syncs:,} (4 at once)\n"
        f"Dagster runs beside them: {report.dagster_runs:,}\n"
        f"hours on the API's clock: {report.hours:,.0f}\n"
        f"operations: {report.operations:,}, in {report.states:,} states\n"
        f"queries of {len(READERS)} readers: {sum(report.queries):,} ({listed})\n"
        f"asked again, since DuckDB opens a file twice and it was replaced between: {report.asked_again:,}\n"
        f"errors: {len(report.errors):,}\n"
        f"operations that readers found twice: {report.doubled:,}; torn reads: {report.torn:,}; "
        f"reads of less than before: {report.shrunk:,}\n"
        f"operations lost, doubled or unlike the truth: {len(report.problems):,}"
    )
    for problem in (*report.errors, *report.problems)[:10]:
        console.print(problem, markup=False)
    sys.exit(not report.all_well)


if __name__ == "__main__":
    main()
