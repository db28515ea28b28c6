"""Three emulated accounts at one address, and how they are configured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.accounts import Account
from pipeline.emulator import Clock, Emulator, Faults, Options, World, running
from pipeline.settings import Settings
from tests.support.factories import at

START, NOW = at("2026-11-12"), at("2026-11-14 15:00")
SIDS = {name: f"AC{digit * 32}" for name, digit in [("good", "a"), ("other", "b"), ("third", "c")]}
WORLDS = {name: World(seed, 60.0, START) for seed, name in enumerate(SIDS)}


@contextmanager
def emulated(data: Path, faults: Faults | None = None) -> Iterator[tuple[Emulator, list[Account]]]:
    """Three accounts at one address; `faults` are of the last."""
    options = [Options(account_sid=sid, auth_token=f"token of {sid}") for sid in SIDS.values()]
    options[-1] = replace(options[-1], faults=faults)
    worlds = list(WORLDS.values())
    with running(
        worlds[0],
        clock=Clock(NOW),
        options=options[0],
        others=list(zip(worlds[1:], options[1:], strict=True)),
    ) as emulator:
        yield (
            emulator,
            [
                Account(
                    sid,
                    name,
                    is_active=True,
                    settings=Settings(data=data, api_url=emulator.url, trust_clock=True, **fields),
                )
                for (name, sid), fields in zip(SIDS.items(), map(credentials, options), strict=True)
            ],
        )


def credentials(options: Options) -> dict[str, Any]:
    return {"account_sid": options.account_sid, "auth_token": options.auth_token}


def with_settings(account: Account, **fields: Any) -> Account:
    assert account.settings
    return replace(account, settings=account.settings.model_copy(update=fields))


def configured(folder: Path, accounts: list[Account]) -> dict[str, str]:
    """The configuration of accounts in `folder`, and the variables that it names."""
    variables = {"EMAIL_ARCHIVE_DATA": str(folder / "data")}
    lines = []
    for account in accounts:
        assert account.settings
        variables[f"{account.name.upper()}_TOKEN"] = account.settings.basic_auth()[1]
        lines += ["[[accounts]]", f'sid = "{account.sid}"', f'name = "{account.name}"']
        lines += [f'api_url = "{account.settings.api_url}"']
        lines += [f'auth_token_env = "{account.name.upper()}_TOKEN"']
    (folder / "email-archive.toml").write_text("\n".join(lines))
    return variables
