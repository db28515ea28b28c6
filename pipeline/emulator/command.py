"""The command `email-archive emulate`: serve a world, and print how to reach it."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import get_args

from pipeline.emulator.faults import Faults
from pipeline.emulator.server import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN, Options, serve
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import Counting, World
from pipeline.errors import UsageError


def run(
    *,
    host: str,
    port: int,
    allow_remote: bool,
    seed: int,
    per_day: float,
    start: datetime | None,
    now: datetime,
    rate: float,
    counting: str,
    faults: str,
    outage: date | None,
    say: Callable[[str], None],
) -> None:
    """Serve until interrupted; `say` is called with the settings that a sync needs.

    Raises:
        UsageError: an argument is invalid, or the address can't be bound.
    """
    reading = next((one for one in get_args(Counting) if one == counting), None)
    if reading is None or per_day <= 0:
        msg = "expected --counting cumulative or exclusive, and --per-day above 0"
        raise UsageError(msg)
    begin = start or now - timedelta(days=30)
    world = World(seed, per_day, begin, counting=reading, outage=outage)

    def ready(url: str) -> None:
        say(
            f"serving {per_day:g} operations a day at {url}; its clock shows {now:%Y-%m-%dT%H:%M:%SZ}"
        )
        say(f"export EMAIL_ARCHIVE_API_URL={url}")
        say(f"export TWILIO_ACCOUNT_SID={DEMO_ACCOUNT_SID}")
        say(f"export TWILIO_AUTH_TOKEN={DEMO_AUTH_TOKEN}")
        say("export EMAIL_ARCHIVE_TRUST_CLOCK=true")

    serve(
        world,
        Clock(now, rate),
        Options(faults=Faults.parse(faults) if faults else None),
        host=host,
        port=port,
        allow_remote=allow_remote,
        ready=ready,
    )
