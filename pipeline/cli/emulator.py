"""Commands that need no account: `emulate` and `demo`."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import FAILED, TIMES, utc
from pipeline.extras import optional_imports
from pipeline.terminal import say


class Counting(StrEnum):
    """The two readings of the counts."""

    cumulative = "cumulative"
    exclusive = "exclusive"


def emulate(
    port: Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.")] = 8790,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option(help="Allow an address that other machines can reach.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The world's seed: the same seed, the same world.")] = 1,
    per_day: Annotated[float, typer.Option(help="Operations per day, on average.", min=0)] = 400,
    account: Annotated[
        list[str] | None,
        typer.Option(
            help="Serve an account of this name, as NAME=PER_DAY or NAME=PER_DAY,COUNTING; repeat it for "
            "several.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(help="Where the world begins (UTC); by default 30 days before the clock."),
    ] = None,
    now: Annotated[
        datetime | None, typer.Option(help="What the clock shows first (UTC); by default the time.")
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            help="Simulated seconds per second; 0 stops the clock. A sync takes a clock that gets more than "
            "10 minutes ahead meanwhile for a wrong one.",
            min=0,
        ),
    ] = 1.0,
    counting: Annotated[
        Counting, typer.Option(help="Whether `delivered` still counts what was opened.")
    ] = Counting.cumulative,
    faults: Annotated[
        str, typer.Option(help="What goes wrong, as 429=0.05,reset=0.01,seed=7.")
    ] = "",
    outage: Annotated[
        datetime | None,
        typer.Option(help="A UTC day on which little is delivered and opened.", formats=TIMES[:1]),
    ] = None,
) -> None:
    """Serve the API on this machine, for a computed account or several.

    The clock can be set over POST /emulator/clock, from this machine alone.

    Example: email-archive emulate --port 8790 --per-day 2000 --rate 60
    """
    with optional_imports():
        from pipeline.emulator.command import run

    run(
        host=host,
        port=port,
        allow_remote=allow_remote,
        seed=seed,
        per_day=per_day,
        accounts=account or [],
        start=utc(start),
        now=utc(now) or datetime.now(UTC),
        rate=rate,
        counting=counting.value,
        faults=faults,
        outage=outage.date() if outage else None,
        say=say,
    )


def demo(
    data: Annotated[
        Path, typer.Option("--data", help="Where the demo's archive goes; emptied first.")
    ] = Path("data/demo"),
    per_day: Annotated[float, typer.Option(help="Operations per day, on average.", min=1)] = 400,
    dagster: Annotated[bool, typer.Option(help="Run the last sync as the Dagster job.")] = True,
) -> None:
    """Play 30 days in fast time and compare with the truth.

    Needs no credentials and no network: an emulator serves the API on this machine.

    Example: email-archive demo && email-archive sql "FROM delivery_daily" --data data/demo
    """
    with optional_imports():
        from pipeline.cli.demo import play

    if not play(data, per_day=per_day, with_dagster=dagster):
        raise typer.Exit(FAILED)
