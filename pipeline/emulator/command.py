"""The command `email-archive emulate`: serves the API, and prints the settings that a sync needs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import get_args

from pipeline.emulator.accounts import EmulatedAccount, configuration, worlds
from pipeline.emulator.api import DEMO_ACCOUNT_SID, DEMO_AUTH_TOKEN, Options
from pipeline.emulator.faults import Faults
from pipeline.emulator.lifecycle import Counting
from pipeline.emulator.server import serve
from pipeline.emulator.simulated_clock import Clock
from pipeline.emulator.world import World
from pipeline.errors import UsageError


def run(
    *,
    host: str,
    port: int,
    allow_remote: bool,
    seed: int,
    per_day: float,
    accounts: Sequence[str],
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
    options = Options(faults=Faults.parse(faults) if faults else None)
    named = _parse(accounts)
    served = [
        (one, replace(options, account_sid=account.sid, auth_token=account.auth_token))
        for account, one in zip(named, worlds(named, world), strict=True)
    ] or [(world, options)]

    def ready(url: str) -> None:
        total = sum(world.per_day for world, _ in served)
        say(
            f"serving {total:g} operations a day at {url}; its clock shows {now:%Y-%m-%dT%H:%M:%SZ}"
        )
        for line in _several(named, url) if named else _single(url):
            say(line)
        say("export EMAIL_ARCHIVE_TRUST_CLOCK=true")

    serve(served, Clock(now, rate), host=host, port=port, allow_remote=allow_remote, ready=ready)


def _parse(accounts: Sequence[str]) -> list[EmulatedAccount]:
    named = [EmulatedAccount.parse(text) for text in accounts]
    if len({one.token_variable for one in named}) < len(named):
        msg = "expected each --account once, with names that differ in their letters and digits"
        raise UsageError(msg)
    return named


def _single(url: str) -> Iterator[str]:
    """The variables that a sync of the single account needs."""
    yield f"export EMAIL_ARCHIVE_API_URL={url}"
    yield f"export TWILIO_ACCOUNT_SID={DEMO_ACCOUNT_SID}"
    yield f"export TWILIO_AUTH_TOKEN={DEMO_AUTH_TOKEN}"


def _several(accounts: Sequence[EmulatedAccount], url: str) -> Iterator[str]:
    """Shell commands that write the configuration of several accounts and set its variables."""
    yield "cat > email-archive.toml <<'END'"
    yield from configuration(accounts, url)
    yield "END"
    for account in accounts:
        yield f"export {account.token_variable}={account.auth_token}"
