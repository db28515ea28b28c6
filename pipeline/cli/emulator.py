"""Commands that need no account at Twilio: `emulate` and `demo`."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import FAILED, date_option
from pipeline.extras import optional_imports
from pipeline.terminal import say


class Counting(StrEnum):
    """The two readings of the counts."""

    cumulative = "cumulative"
    exclusive = "exclusive"


_Port = Annotated[int, typer.Option(help="Port to serve on; 0 takes a free one.", metavar="PORT")]
_PerDay = Annotated[
    float, typer.Option(help="Operations per day, on average.", min=0, metavar="NUMBER")
]
_Counting = Annotated[
    Counting,
    typer.Option(
        metavar="COUNTING",
        help="cumulative or exclusive: whether `delivered` includes opened emails (cumulative).",
    ),
]
_Accounts = Annotated[
    list[str] | None,
    typer.Option(
        "--account",
        help="Serve an account of this name, as NAME=PER_DAY or NAME=PER_DAY,COUNTING; repeat it for "
        "several. The first has the operations of --seed; those of the others also depend on their names.",
        metavar="ACCOUNT",
        show_default=False,
    ),
]
_Start = Annotated[
    datetime | None,
    date_option(
        "Creation of the first operation; by default 30 days before --now. Give it to serve the same "
        "operations again: a later --now alone moves them."
    ),
]
_Now = Annotated[
    datetime | None,
    date_option("The first time that the clock shows; by default this machine's time."),
]
_Rate = Annotated[
    float,
    typer.Option(
        help="Simulated seconds per second; 0 stops the clock. If the clock advances more than 10 minutes "
        "within a sync, the sync takes it for wrong.",
        min=0,
        metavar="SPEED",
    ),
]
_Outage = Annotated[
    datetime | None,
    date_option("A day of an outage: few emails are delivered and opened."),
]


def emulate(
    port: _Port = 8790,
    host: Annotated[str, typer.Option(help="Address to bind.", metavar="ADDRESS")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option(help="Allow an address that other machines can reach.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the operations.", metavar="NUMBER")] = 1,
    per_day: _PerDay = 400,
    account: _Accounts = None,
    start: _Start = None,
    now: _Now = None,
    rate: _Rate = 1.0,
    counting: _Counting = Counting.cumulative,
    faults: Annotated[
        str, typer.Option(help="Faults to inject, as 429=0.05,reset=0.01,seed=7.", metavar="FAULTS")
    ] = "",
    outage: _Outage = None,
) -> None:
    """Serve an emulator of the API, for one account or several.

    POST /emulator/clock sets its clock, from this machine only.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

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
        start=start,
        now=now or datetime.now(UTC),
        rate=rate,
        counting=counting.value,
        faults=faults,
        outage=outage.date() if outage else None,
        say=say,
    )


def demo(
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="The folder of the demo's archive; emptied first.", metavar="FOLDER"
        ),
    ] = Path("data/demo"),
    per_day: Annotated[
        float,
        typer.Option(
            help="Operations per day of the account `shop`, on average; `receipts` has a twentieth.",
            min=1,
            metavar="NUMBER",
        ),
    ] = 400,
    dagster: Annotated[bool, typer.Option(help="Run the last sync as the Dagster job.")] = True,
) -> None:
    """Archive 30 simulated days and compare with the truth.

    There are two accounts, which count in different ways.
    Needs no credentials and no network: an emulator serves the API on this machine.

    Example: email-archive demo && email-archive sql "FROM delivery_daily" --data data/demo
    """
    with optional_imports():
        from pipeline.cli.demo import play

    if not play(data, per_day=per_day, with_dagster=dagster):
        raise typer.Exit(FAILED)
