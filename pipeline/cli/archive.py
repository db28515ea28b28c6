"""Commands that look after the archive: `publish`, `status` and `repair`."""

from datetime import datetime
from typing import Annotated

import typer

from pipeline.cli.options import (
    FAILED,
    AccountOption,
    DataOption,
    JsonOption,
    complain,
    data_setting,
    date_option,
    lake_at,
    prepare,
)
from pipeline.terminal import say


def publish(data: DataOption = None, account: AccountOption = None) -> None:
    """Rebuild the delivery tables and the warehouse.

    Everything is derived again from the lake. Run it after moving the archive's folder.

    Example: email-archive publish --data /srv/archive
    """
    prepare()
    from pipeline.rebuild import rebuild

    lake = lake_at(data)
    days, errors = rebuild(lake.must_exist(), account or [])
    say(f"published {lake.warehouse.absolute()}: {days} days")
    for error in errors:
        complain(f"not done: {error}")
    if errors:
        raise typer.Exit(FAILED)


def status(
    data: DataOption = None,
    as_json: JsonOption = False,
    account: AccountOption = None,
    at: Annotated[
        datetime | None,
        date_option("Judge deadlines at this time; by default now."),
    ] = None,
) -> None:
    """Show what the archive holds, and what is about to be lost.

    Exits with 1 if slots are at risk or were lost since the last sync, if an active account was not synced
    for a day, or if scans have wrong times: alert on it.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

    Example: email-archive status --json | jq '.accounts[].at_risk'
    """
    prepare()
    from pipeline.cli.rendering import json_figures
    from pipeline.cli.status import write_status
    from pipeline.extract.api_clock import machine_time
    from pipeline.lake.layout import Lake
    from pipeline.quality.status import status as look
    from pipeline.settings import ArchiveSettings

    settings = ArchiveSettings.load(**data_setting(data))
    now = at or machine_time()
    # Scans after a moment of the past are none of the future.
    trust_clock = settings.trust_clock or at is not None
    found = look(Lake.of(settings), now, trust_clock=trust_clock, names=account or [])
    if as_json:
        typer.echo(json_figures(found.as_json()))
    else:
        write_status(found)
    if not found.ok:
        raise typer.Exit(FAILED)


def repair(
    data: DataOption = None,
    as_json: JsonOption = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make the changes; by default they are only shown.")
    ] = False,
    after: Annotated[
        datetime | None,
        date_option("Times after this are wrong; by default an hour after this machine's clock."),
    ] = None,
    before: Annotated[
        datetime | None,
        date_option("... and times before this; by default none."),
    ] = None,
) -> None:
    """Remove scans with wrong times from the coverage.

    The operations of these scans stay, with the time of their last update. The original rows are kept in
    .set-aside in the archive's folder.
    Exits with 1 if something has to be repaired and was not.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

    Example: email-archive repair && email-archive repair --apply
    """
    prepare()
    from pipeline.cli.rendering import json_figures
    from pipeline.extract.api_clock import machine_time
    from pipeline.model.times import iso_compact
    from pipeline.quality import repair as repairing

    lake, now = lake_at(data), machine_time()
    bounds = repairing.Bounds.by(now, after, before)
    done = repairing.Repair(repairing.find(lake, bounds))
    if apply:
        if after is None and before is None:
            repairing.require_some_possible(done.found, lake)
        done = repairing.repair(lake, bounds, iso_compact(now))
    if as_json:
        typer.echo(json_figures(done.as_json()))
    else:
        for line in repairing.summary_lines(done):
            say(line)
    for error in done.errors:
        complain(f"not done: {error}")
    if done.errors or (done.found and not apply):
        raise typer.Exit(FAILED)
