"""Commands that look after the archive: `publish`, `status` and `repair`."""

from datetime import datetime
from typing import Annotated

import typer

from pipeline.cli.options import (
    FAILED,
    TIMES,
    DataOption,
    JsonOption,
    complain,
    data_setting,
    lake_at,
    prepare,
    utc,
)
from pipeline.terminal import say


def publish(data: DataOption = None) -> None:
    """Rebuild the delivery tables and the warehouse.

    Everything is derived from the lake anew: do it after moving the archive's folder.

    Example: email-archive publish --data /srv/archive
    """
    prepare()
    from pipeline.rebuild import rebuild

    lake = lake_at(data)
    days, errors = rebuild(lake.must_exist())
    say(f"published {lake.warehouse.absolute()}: {days} days")
    for error in errors:
        complain(f"not done: {error}")
    if errors:
        raise typer.Exit(FAILED)


def status(
    data: DataOption = None,
    as_json: JsonOption = False,
    at: Annotated[
        datetime | None,
        typer.Option(help="Judge deadlines at this time (UTC); by default now.", formats=TIMES),
    ] = None,
) -> None:
    """Show what the archive holds, and whether anything is about to be lost.

    Exits with 1 if something is at risk, was lost since the last sync, or if a wrong clock has dated scans:
    let somebody know.

    Example: email-archive status --json | jq .accounts[].at_risk
    """
    prepare()
    from pipeline.cli import console
    from pipeline.cli.rendering import json_figures
    from pipeline.extract.api_clock import machine_time
    from pipeline.lake.layout import Lake
    from pipeline.quality.status import status as look
    from pipeline.settings import ArchiveSettings

    settings = ArchiveSettings.load(**data_setting(data))
    now = utc(at) or machine_time()
    # Scans after a moment of the past are none of the future.
    trust_clock = settings.trust_clock or at is not None
    found = look(Lake.of(settings), now, trust_clock=trust_clock)
    if as_json:
        typer.echo(json_figures(found.as_json()))
    else:
        console.write_status(found)
    if not found.ok:
        raise typer.Exit(FAILED)


def repair(
    data: DataOption = None,
    as_json: JsonOption = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without, only show what would be done.")
    ] = False,
    after: Annotated[
        datetime | None,
        typer.Option(
            help="Times after this (UTC) can't be right; by default an hour after this machine's clock.",
            formats=TIMES,
        ),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(help="... nor times before this; by default any may be.", formats=TIMES),
    ] = None,
) -> None:
    """Set aside scans that a wrong clock has dated.

    Such scans are taken out of the coverage. The operations that they returned stay, dated by when they
    were updated. All rows as they were are kept in .set-aside in the archive's folder.
    Exits with 1 if there is something to do and it was not done.

    Example: email-archive repair && email-archive repair --apply
    """
    prepare()
    from pipeline.cli.rendering import json_figures
    from pipeline.extract.api_clock import machine_time
    from pipeline.model.times import iso_compact
    from pipeline.quality.repair import (
        Bounds,
        Repair,
        find,
        require_some_possible,
        summary_lines,
    )
    from pipeline.quality.repair import repair as mend

    lake, now = lake_at(data), machine_time()
    bounds = Bounds.by(now, utc(after), utc(before))
    done = Repair(find(lake, bounds))
    if apply:
        if after is None and before is None:
            require_some_possible(done.found, lake)
        done = mend(lake, bounds, iso_compact(now))
    if as_json:
        typer.echo(json_figures(done.as_json()))
    else:
        for line in summary_lines(done):
            say(line)
    for error in done.errors:
        complain(f"not done: {error}")
    if done.errors or (done.found and not apply):
        raise typer.Exit(FAILED)
