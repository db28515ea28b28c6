"""Commands about accounts: list them, check their credentials, retire and resume them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import (
    FAILED,
    DataOption,
    JsonOption,
    complain,
    data_setting,
    lake_at,
    prepare,
    request_once,
)
from pipeline.errors import SettingsError
from pipeline.terminal import say

if TYPE_CHECKING:
    from pipeline.accounts import Account
    from pipeline.lake.accounts import KnownAccount
    from pipeline.lake.layout import Lake

app = typer.Typer(rich_markup_mode=None)
NameArgument = Annotated[str, typer.Argument(help="The account's name or SID.", metavar="NAME")]


@app.callback(invoke_without_command=True)
def accounts(
    context: typer.Context,
    data: DataOption = None,
    as_json: JsonOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Make one request for each, to see that it works.")
    ] = False,
) -> None:
    """List the accounts and when each was synced last.

    These are the configured accounts, and those of the archive that are not configured. A check is
    one attempt of about 10 seconds. Exits with 1 if one fails.

    Example: email-archive accounts --check
    """
    if context.invoked_subcommand:
        return
    prepare()
    from pipeline.accounts import active
    from pipeline.cli.rendering import json_figures
    from pipeline.side_by_side import side_by_side

    lake = lake_at(data)
    configured = _configured(lake, data, needed=check)
    known = _known(lake)
    rows = _rows(configured, known, _last_scans(lake))
    if check:
        outcomes = side_by_side(active(configured, []), _request)
        errors = {one.account.sid: str(one.error) if one.error else None for one in outcomes}
        for row in rows:
            if row["account_id"] in errors:
                row["check"] = errors[row["account_id"]] or "ok"
    if as_json:
        typer.echo(json_figures({"accounts": rows}))
    else:
        _write(rows)
        for row in rows:
            if row.get("check", "ok") != "ok":
                complain(f"{row['name']}: {row['check']}")
    if check and any(errors.values()):
        raise typer.Exit(FAILED)


@app.command()
def retire(name: NameArgument, data: DataOption = None) -> None:
    """Stop syncing an account. Its data stay, and from now on none of it counts as lost.

    `active = false` in the configuration does the same, from the next sync on.

    Example: email-archive accounts retire marketing
    """
    prepare()
    from pipeline.extract.api_clock import machine_time
    from pipeline.lake.accounts import account_named, retire

    lake = lake_at(data).must_exist()
    account = account_named(lake, name)
    retire(lake, account, machine_time())
    say(f"retired {account.name}: its data stay. `email-archive accounts resume` undoes it")


@app.command()
def resume(name: NameArgument, data: DataOption = None) -> None:
    """Sync a retired account again.

    Example: email-archive accounts resume marketing
    """
    prepare()
    from pipeline.lake.accounts import account_named, resume

    lake = lake_at(data).must_exist()
    account = account_named(lake, name)
    resume(lake, account)
    if _is_configured_inactive(account.sid, data):
        complain(
            f"{account.name} stays retired: its configuration has `active = false`. Remove that line from "
            "the TOML file; the next sync then syncs it again"
        )
        raise typer.Exit(FAILED)
    say(f"{account.name} is active again")


def _is_configured_inactive(sid: str, data: DataOption) -> bool:
    from pipeline.accounts import load_accounts

    try:
        return any(
            one.sid == sid and not one.is_active for one in load_accounts(**data_setting(data))
        )
    except SettingsError:  # no configuration: this machine does not sync the archive
        return False


def _configured(lake: "Lake", data: DataOption, *, needed: bool) -> "tuple[Account, ...]":
    """The configured accounts; none, with a message, if those of the archive can be listed alone."""
    from pipeline.accounts import load_accounts

    try:
        return load_accounts(**data_setting(data))
    except SettingsError as error:
        if needed or not lake.exists():
            raise
        complain(f"no account is configured here, the archive's are listed: {error}")
        return ()


def _known(lake: "Lake") -> "dict[str, KnownAccount]":
    from pipeline.lake.accounts import known_accounts

    return known_accounts(lake) if lake.exists() else {}


def _last_scans(lake: "Lake") -> dict[str, Any]:
    from pipeline.quality.checks import last_scans

    return last_scans(lake) if lake.exists() else {}


def _rows(
    configured: "tuple[Account, ...]",
    known: "dict[str, KnownAccount]",
    last_scans: dict[str, Any],
) -> list[dict[str, Any]]:
    from pipeline.model.times import iso_seconds

    rows = []
    named = {one.sid: one.name for one in known.values()} | {
        one.sid: one.name for one in configured
    }
    states = {one.sid: "active" if one.is_active else "retired" for one in configured}
    for sid in dict.fromkeys([*states, *named]):
        retired_at = known[sid].retired_at if sid in known else None
        last_scan = last_scans.get(sid)
        rows.append(
            {
                "account_id": sid,
                "name": named[sid],
                "state": states.get(sid, "retired" if retired_at else "not configured"),
                "retired_at": retired_at and iso_seconds(retired_at),
                "last_scan_at": last_scan and iso_seconds(last_scan),
            }
        )
    return rows


def _request(account: "Account") -> None:
    request_once(account.usable_settings())


def _write(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from pipeline.cli.rendering import wide_enough
    from pipeline.terminal import printable

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 1))
    names = ["name", "account_id", "state", "last_scan_at"]
    names += ["check"] if any("check" in row for row in rows) else []
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        shown = row | ({} if row.get("check", "ok") == "ok" else {"check": "failed"})
        table.add_row(*(printable(str(shown.get(name) or "")) for name in names))
    wide_enough(table).print(table)
