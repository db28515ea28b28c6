"""Checks the API's clock, which decides what is stored, against this machine's and the last scan (R10)."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from pipeline.errors import ArchiveError
from pipeline.lake.coverage import latest_scan
from pipeline.lake.layout import Lake
from pipeline.model.times import iso_seconds
from pipeline.model.windows import CLOCK_MARGIN, RETENTION, retained_days
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient

log = logging.getLogger(__name__)


class ClockError(ArchiveError):
    """The API's clock is implausible, or was when the archive was written."""


def machine_time() -> datetime:
    """This machine's time in UTC."""
    return datetime.now(UTC)


def api_time(
    client: OperationsClient,
    lake: Lake,
    settings: Settings,
    wall_clock: Callable[[], datetime] = machine_time,
) -> datetime:
    """The API's time, by one request: the `now` of a run.

    Args:
        client: the API.
        lake: the archive; its last scan shows which clock is wrong if they differ.
        settings: the account, and whether the API's clock is trusted without a check.
        wall_clock: this machine's clock.

    Raises:
        ClockError: it is implausible.
    """
    now = client.clock()
    if not settings.trust_clock:
        check(now, machine=wall_clock(), last_scan=latest_scan(lake, settings.account_sid))
    return now


def check(now: datetime, *, machine: datetime, last_scan: datetime | None) -> None:
    """Raise if the API's clock is implausible; warn if this machine's is.

    Where they differ by more than `CLOCK_MARGIN`, the archive's last scan decides: the API is believed if its
    clock is nearer to that scan than this machine's, not before it, and within the retention after it.

    Args:
        now: what the API's clock shows.
        machine: what this machine's shows.
        last_scan: when the archive's last scan of the account began, by the API's clock; None if it has none.

    Raises:
        ClockError: it disagrees with both.
    """
    if abs(now - machine) <= CLOCK_MARGIN:
        return
    clocks = f"the API's clock shows {iso_seconds(now)}, this machine's {iso_seconds(machine)}"
    if (
        last_scan is None
        or not -CLOCK_MARGIN <= now - last_scan <= RETENTION
        or abs(machine - last_scan) < abs(now - last_scan)
    ):
        scanned = (
            f"the last scan was at {iso_seconds(last_scan)}"
            if last_scan
            else "there is no scan yet"
        )
        msg = (
            f"{clocks}, and {scanned}. Nothing was scanned: what a wrong clock "
            "dates stays wrong. If this machine's clock is wrong, set it. If the API's is, for a proxy may "
            "send a wrong Date, run this again later. If the API's is right and this machine's must stay as "
            "it is, run `email-archive sync --trust-clock` once (in Dagster: `trust_clock: true` in the "
            "config of the resource `archive`)"
        )
        raise ClockError(msg)
    message = "%s: taken to be wrong, since the archive's last scan agrees with the API's. Set it"
    log.warning(message, clocks)


def scans_of_the_future(lake: Lake, account_id: str, now: datetime) -> ClockError | None:
    """The error for an archive with scans later than the API's clock; None if it has none.

    Checks the days within the retention and later ones, which a run with a fast clock has scanned.

    Args:
        lake: the archive.
        account_id: the account.
        now: the API's time.
    """
    latest = latest_scan(lake, account_id, since=retained_days(now)[0])
    if latest is None or latest <= now + CLOCK_MARGIN:
        return None
    return ClockError(
        f"the archive of {account_id} has scans of the future, the last of {iso_seconds(latest)}; the API's "
        f"clock shows {iso_seconds(now)}. A sync that went by a wrong clock left them, and what is derived "
        "of the coverage is wrong: `email-archive repair` shows them, and sets them aside"
    )
