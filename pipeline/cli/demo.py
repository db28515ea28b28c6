"""`email-archive demo`: archives a simulated month of two accounts, and compares it with the truth.

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
from tempfile import TemporaryDirectory
from typing import Final
from urllib.request import Request, urlopen

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table

from pipeline.access.query import ask
from pipeline.accounts import Account
from pipeline.cli import rendering
from pipeline.emulator.accounts import EmulatedAccount, configuration, worlds
from pipeline.emulator.truth import differences
from pipeline.emulator.world import World
from pipeline.errors import ArchiveError, UsageError
from pipeline.lake import parquet
from pipeline.lake.layout import MARKER, Lake
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS
from pipeline.model.windows import RETENTION, Window, days_between, retained_days
from pipeline.report.write import report
from pipeline.settings import ArchiveSettings, Settings
from pipeline.sync import EVERYTHING
from pipeline.sync_accounts import sync_accounts
from pipeline.terminal import printable
from pipeline.twilio.client import OperationsClient

SEED: Final = 1
FIRST_DAY: Final = datetime(2026, 9, 1, tzinfo=UTC)
DAYS: Final = 30
END: Final = FIRST_DAY + timedelta(days=DAYS, seconds=-1)
SHOP: Final = "shop"
RECEIPTS: Final = "receipts"
EVERY: Final = timedelta(hours=12)
"""How often the accounts are synced."""
BEGIN: Final = {SHOP: FIRST_DAY, RECEIPTS: FIRST_DAY + timedelta(days=9)}
"""The creation of the first operation that each account's archive has: a sync finds those of 7 days."""

OUTAGE: Final = date(2026, 9, 16)
"""A day in the third week with an outage of the provider, which the report shows as unusual."""

_NOTE: Final = ".demo"


def accounts(per_day: float) -> tuple[EmulatedAccount, ...]:
    """The accounts: one with so many operations a day, and a small one that counts in the other way."""
    return (
        EmulatedAccount(SHOP, per_day, "cumulative"),
        EmulatedAccount(RECEIPTS, per_day / 20, "exclusive"),
    )


def emulated_worlds(per_day: float) -> list[World]:
    """The truth of each account."""
    return worlds(accounts(per_day), World(SEED, per_day, FIRST_DAY, outage=OUTAGE))


def moments(name: str) -> list[datetime]:
    """When an account is synced; the last time is a second before the end of the last day."""
    first = FIRST_DAY + EVERY if BEGIN[name] == FIRST_DAY else BEGIN[name] + RETENTION
    return [*(first + number * EVERY for number in range((END - first) // EVERY + 1)), END]


def play(data: Path, *, per_day: float, with_dagster: bool) -> bool:
    """Archive 30 simulated days, show their rates, and compare the archive with the truth.

    Args:
        data: the demo's archive; emptied first, if an earlier demo made it.
        per_day: operations per day of the larger account, on average.
        with_dagster: run the last sync as the Dagster job, in the settings' ``DAGSTER_HOME``.

    Returns:
        Whether the archive equals the truth, for both accounts.

    Raises:
        UsageError: `data` has files, and no demo made it.
        ArchiveError: a sync failed.
    """
    data = ArchiveSettings.load(data=data).data
    _empty(data)
    lake = Lake(data)
    emulated = accounts(per_day)
    with _emulator(emulated) as url:
        configured = [_configured(one, url, data) for one in emulated]
        _sync_before_end(url, lake, configured)
        _set_clock(url, END)
        if with_dagster:
            _run_dagster(emulated, url, configured[0].usable_settings())
        else:
            _sync(lake, configured, publishing=True)
        known = [_known_to_api(one.usable_settings()) for one in configured]
    for account in emulated:
        show_rates(lake, account)
    compared = [
        _equals_truth(lake, *one)
        for one in zip(emulated, emulated_worlds(per_day), known, strict=True)
    ]
    if not all(compared):
        return False
    console = rendering.console(soft_wrap=True)
    written = report(lake)
    console.print(printable(f"Open its report: {data / written.path.name}"))
    console.print(printable(f'Ask it: email-archive sql "FROM delivery_daily" --data {data}'))
    return True


def _configured(account: EmulatedAccount, url: str, data: Path) -> Account:
    settings = Settings.load(
        account_sid=account.sid,
        auth_token=account.auth_token,
        api_url=url,
        data=data,
        trust_clock=True,  # a month passes in a minute
    )
    return Account(account.sid, account.name, is_active=True, settings=settings)


def _sync_before_end(url: str, lake: Lake, configured: Sequence[Account]) -> None:
    """Sync each account at each of its moments but the last one."""
    due = {account.name: moments(account.name) for account in configured}
    before_end = sorted({moment for times in due.values() for moment in times} - {END})
    with Progress(console=rendering.console(), transient=True) as progress:
        playing = progress.add_task("playing 30 days", total=len(before_end))
        for moment in before_end:
            _set_clock(url, moment)
            # Derived tables and the warehouse are made once, by the last sync.
            now = [account for account in configured if moment in due[account.name]]
            _sync(lake, now, publishing=False)
            progress.advance(playing)


def _sync(lake: Lake, configured: Sequence[Account], *, publishing: bool) -> None:
    done = list(sync_accounts(lake, configured, scope=EVERYTHING, publishing=publishing))
    if not all(account.ok for account in done):
        msg = "a sync of the demo failed: see the lines above"
        raise ArchiveError(msg)


def _equals_truth(lake: Lake, account: EmulatedAccount, world: World, known: int) -> bool:
    """Compare what the archive has of an account with the truth, and print the result."""
    console = rendering.console(soft_wrap=True)
    operations = _operations(lake, account.sid)
    problems = differences(world, operations, BEGIN[account.name], moments(account.name))
    console.print(
        f"{account.name}: the API still knows {known:,} operations of these 30 days; "
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
def _emulator(emulated: Sequence[EmulatedAccount]) -> Iterator[str]:
    """Run an emulator in another process; yields the API's base URL."""
    command = [sys.executable, "-m", "pipeline.cli", "emulate", "--port", "0", "--rate", "0"]
    command += ["--seed", str(SEED), "--outage", f"{OUTAGE}"]
    command += ["--start", f"{FIRST_DAY:%Y-%m-%d}", "--now", f"{FIRST_DAY:%Y-%m-%d}"]
    for account in emulated:
        command += ["--account", f"{account.name}={account.per_day:f},{account.counting}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - no shell, and words of our own alone
        try:
            lines = iter(process.stdout or [])
            url = next((line for line in lines if line.startswith("api_url = ")), "")
            if not url:
                msg = "the emulator did not start: see the lines above"
                raise ArchiveError(msg)
            yield url.split('"')[1]
        finally:
            process.kill()  # not SIGTERM: it would print that it was stopped


def _set_clock(url: str, moment: datetime) -> None:
    control = url.removesuffix("/v1") + "/emulator/clock"
    body = json.dumps({"now": moment.isoformat()}).encode()
    with urlopen(Request(control, data=body), timeout=10):  # noqa: S310 - http to the emulator that was started above
        pass


def _run_dagster(emulated: Sequence[EmulatedAccount], url: str, settings: Settings) -> None:
    """Run Dagster's jobs for the days of the retention, in another process: this package never imports it."""
    days = retained_days(END)
    home = ArchiveSettings.load().dagster_home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "assets.run", str(days[0]), str(days[-1]), "--report"]
    with (
        TemporaryDirectory() as folder,
        rendering.console().status("the last sync, as a Dagster job"),
    ):
        file = Path(folder, "email-archive.toml")
        file.write_text("\n".join(configuration(emulated, url)), encoding="utf-8")
        environment = settings.environment() | {
            one.token_variable: one.auth_token for one in emulated
        }
        environment |= {"EMAIL_ARCHIVE_CONFIG": str(file), "DAGSTER_HOME": str(home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, and words of our own alone
    if done.returncode:
        msg = f"the Dagster job failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        raise ArchiveError(msg)


def _known_to_api(settings: Settings) -> int:
    """How many of the month's operations the API still lists."""
    days = days_between(FIRST_DAY.date(), END.date())
    with OperationsClient(settings) as client:
        pages = (page for day in days for page in client.pages(Window.of_day(day)))
        ids = {one for page in pages for one in page.operations["operation_id"].to_pylist()}
    return len(ids)


def _operations(lake: Lake, account_id: str) -> pa.Table:
    days = days_between(FIRST_DAY.date(), END.date())
    parts = (lake.part(OPERATIONS, Partition(account_id, day)) for day in days)
    return pa.concat_tables([parquet.read(part, OPERATIONS.arrow) for part in parts])


def show_rates(lake: Lake, account: EmulatedAccount) -> None:
    """Print the rates of an account, day by day."""
    rows = ask(
        lake, f"FROM delivery_daily WHERE account_id = '{account.sid}' ORDER BY created_date"
    ).to_pylist()
    table = Table(
        title=f"Delivery by UTC day of creation: {account.name}, whose counts are {account.counting}",
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
            *(_shown(row[name], ",") for name in ("operations", "total", "rated_delivered")),
            *(_shown(row[name], ".2%") for name in ("delivery_rate", "open_rate")),
            *(_shown(row[name], ".2%") for name in ("undelivered_rate", "failure_rate")),
        )
    rendering.console().print(table)


def _shown(figure: float | None, form: str) -> str:
    """A figure; an en dash for NULL, as of a day without operations."""
    return "\N{EN DASH}" if figure is None else format(figure, form)
