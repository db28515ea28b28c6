"""`email-archive demo`: archives a simulated month, and compares it with the truth.

The emulator runs in another process, on a free port, and is read over HTTP only. The dates are fixed, so that
every demo has the same results.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table

from pipeline.access.query import ask
from pipeline.cli import rendering
from pipeline.emulator.api import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN
from pipeline.emulator.truth import differences
from pipeline.emulator.world import World
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import parquet
from pipeline.lake.layout import MARKER, Lake
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS
from pipeline.model.windows import Window, days_between, retained_days
from pipeline.report.write import report
from pipeline.settings import ArchiveSettings, Settings
from pipeline.sync import EVERYTHING, sync
from pipeline.sync_report import SyncReport
from pipeline.terminal import printable
from pipeline.twilio.client import OperationsClient

SEED: Final = 1
FIRST_DAY: Final = datetime(2026, 9, 1, tzinfo=UTC)
DAYS: Final = 30
EVERY: Final = timedelta(hours=8)
OUTAGE: Final = date(2026, 9, 16)
"""A day in the third week with an outage of the provider, which the report shows as unusual."""

_NOTE: Final = ".demo"


def play(data: Path, *, per_day: float, with_dagster: bool) -> bool:
    """Archive 30 simulated days, show their rates, and compare the archive with the truth.

    Args:
        data: the demo's archive; emptied first, if an earlier demo made it.
        per_day: operations per day, on average.
        with_dagster: run the last sync as the Dagster job, in the settings' ``DAGSTER_HOME``.

    Returns:
        Whether the archive equals the truth.

    Raises:
        UsageError: `data` has files, and no demo made it.
        ArchiveError: a sync failed.
    """
    data = ArchiveSettings.load(data=data).data
    _empty(data)
    moments = list(_moments(FIRST_DAY + timedelta(days=DAYS)))
    with _emulator(per_day) as url:
        settings = Settings.load(
            account_sid=DEMO_ACCOUNT_SID,
            auth_token=DEMO_AUTH_TOKEN,
            api_url=url,
            data=data,
            trust_clock=True,  # a month passes in a minute
        )
        _sync_at(moments, url, settings, with_dagster=with_dagster)
        known = _known_to_api(settings)
    lake = Lake.of(settings)
    _show_rates(lake)
    if not _equals_truth(lake, World(SEED, per_day, FIRST_DAY, outage=OUTAGE), moments, known):
        return False
    console = rendering.console(soft_wrap=True)
    written = report(lake)
    console.print(printable(f"Open its report: {data / written.path.name}"))
    console.print(printable(f'Ask it: email-archive sql "FROM delivery_daily" --data {data}'))
    return True


def _sync_at(
    moments: Sequence[datetime], url: str, settings: Settings, *, with_dagster: bool
) -> None:
    """Sync at each moment; the last sync may be the Dagster job."""
    with Progress(console=rendering.console(), transient=True) as progress:
        playing = progress.add_task("playing 30 days", total=len(moments))
        for moment in moments[:-1]:
            _set_clock(url, moment)
            # Derived tables and the warehouse are made once, by the last sync.
            _check(sync(settings, scope=EVERYTHING, publishing=False))
            progress.advance(playing)
        _set_clock(url, moments[-1])
        progress.update(playing, description="the last sync, as a Dagster job")
        if with_dagster:
            _run_dagster(settings, moments[-1])
        else:
            _check(sync(settings, scope=EVERYTHING))
        progress.advance(playing)


def _equals_truth(lake: Lake, world: World, moments: Sequence[datetime], known: int) -> bool:
    """Compare the archive with the truth, and print the result."""
    console = rendering.console(soft_wrap=True)
    operations = _operations(lake)
    problems = differences(world, operations, FIRST_DAY, moments)
    console.print(
        f"The API still knows {known:,} operations of these 30 days; "
        f"the archive has {operations.num_rows:,}."
    )
    if problems:
        console.print(
            f"They differ from the truth in {len(problems)} places:",
            *map(printable, problems[:5]),
            sep="\n",
        )
        return False
    console.print(
        f"Each equals the truth at its last scan within the API's 7 days, in all its counts: "
        f"{operations.num_rows:,} of {operations.num_rows:,}, none missing."
    )
    return True


def _moments(end: datetime) -> Iterator[datetime]:
    """When the syncs run: every few hours, the last a second before midnight."""
    moment = FIRST_DAY + EVERY
    while moment < end:
        yield moment
        moment += EVERY
    yield end - timedelta(seconds=1)


def _empty(data: Path) -> None:
    """Empty the folder, if an earlier demo made it."""
    if data.exists():
        if any(data.iterdir()) and not (data / _NOTE).exists():
            what = "an archive" if (data / MARKER).exists() else "files"
            msg = f"{data} has {what} that no demo made: choose another folder with --data"
            raise UsageError(msg)
        shutil.rmtree(data)
    data.mkdir(parents=True, mode=0o700)
    (data / _NOTE).touch()


@contextmanager
def _emulator(per_day: float) -> Iterator[str]:
    """Run an emulator in another process; yields the API's base URL."""
    command = [sys.executable, "-m", "pipeline.cli", "emulate", "--port", "0", "--rate", "0"]
    command += ["--seed", str(SEED), "--per-day", str(per_day)]
    command += ["--start", f"{FIRST_DAY:%Y-%m-%d}", "--now", f"{FIRST_DAY:%Y-%m-%d}"]
    command += ["--outage", f"{OUTAGE}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - no shell, and words of our own alone
        try:
            lines = iter(process.stdout or [])
            url = next(
                (line for line in lines if line.startswith("export EMAIL_ARCHIVE_API_URL=")), ""
            )
            if not url:
                msg = "the emulator did not start: see the lines above"
                raise ArchiveError(msg)
            yield url.strip().partition("=")[2]
        finally:
            process.kill()  # not SIGTERM: it would print that it was stopped


def _set_clock(url: str, moment: datetime) -> None:
    control = url.removesuffix("/v1") + "/emulator/clock"
    body = json.dumps({"now": moment.isoformat()}).encode()
    with urlopen(Request(control, data=body), timeout=10):  # noqa: S310 - http to the emulator that was started above
        pass


def _check(report: SyncReport) -> None:
    if not report.ok:
        msg = "a sync of the demo failed: see the lines above"
        raise ArchiveError(msg)


def _run_dagster(settings: Settings, now: datetime) -> None:
    """Run Dagster's jobs for the days of the retention, in another process: this package never imports it."""
    days = retained_days(now)
    home = ArchiveSettings.load().dagster_home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = settings.environment() | {"DAGSTER_HOME": str(home)}
    command = [sys.executable, "-m", "assets.run", str(days[0]), str(days[-1]), "--report"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, and words of our own alone
    if done.returncode:
        msg = f"the Dagster job failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        raise ArchiveError(msg)


def _known_to_api(settings: Settings) -> int:
    """How many of the month's operations the API still lists."""
    days = days_between(FIRST_DAY.date(), (FIRST_DAY + timedelta(days=DAYS - 1)).date())
    with OperationsClient(settings) as client:
        pages = (page for day in days for page in client.pages(Window.of_day(day)))
        ids = {one for page in pages for one in page.operations["operation_id"].to_pylist()}
    return len(ids)


def _operations(lake: Lake) -> pa.Table:
    days = days_between(FIRST_DAY.date(), (FIRST_DAY + timedelta(days=DAYS)).date())
    parts = (lake.part(OPERATIONS, Partition(DEMO_ACCOUNT_SID, day)) for day in days)
    return pa.concat_tables([parquet.read(part, OPERATIONS.arrow) for part in parts])


def _show_rates(lake: Lake) -> None:
    rows = ask(lake, "FROM delivery_daily ORDER BY created_date").to_pylist()
    table = Table(
        title="Delivery by UTC day of creation",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),  # eight columns in 80 characters
    )
    table.add_column("day", no_wrap=True)
    for name in ("operations", "emails", "delivered", "delivery", "open", "undel.", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            f"{row['created_date']:%a %m-%d}",
            *(f"{row[name]:,}" for name in ("operations", "total", "delivered")),
            *(f"{row[name]:.2%}" for name in ("delivery_rate", "open_rate")),
            *(f"{row[name]:.2%}" for name in ("undelivered_rate", "failure_rate")),
        )
    rendering.console().print(table)
