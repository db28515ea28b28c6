"""Commands about settings: `init` writes a first `.env`, `config show` says where each setting comes from."""

import os
import re
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.options import WRONG_USE, JsonOption, complain, prepare, request_once
from pipeline.errors import SettingsError, UsageError
from pipeline.terminal import say

if TYPE_CHECKING:
    from pipeline.settings import Settings

app = typer.Typer(rich_markup_mode=None)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+=,~-]+")
_TOKEN, _SECRET = "TWILIO_AUTH_TOKEN", "TWILIO_API_KEY_SECRET"
_LINE: Final = re.compile(r"\s*(?:export\s+)?(\w+)\s*=")


SidOption = Annotated[
    str, typer.Option("--sid", help="The account's SID: AC and 32 hex digits.", metavar="SID")
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key-sid", help="An API key's SID, to use the key and not the auth token.", metavar="SID"
    ),
]
SecretOption = Annotated[
    str,
    typer.Option(
        "--secret-file",
        help="The file with the auth token, or with the key's secret; - is stdin.",
        metavar="FILE",
    ),
]
FolderOption = Annotated[
    str, typer.Option("--data", help="The archive's folder.", metavar="FOLDER")
]
UrlOption = Annotated[
    str, typer.Option("--api-url", help="The API's address, if not Twilio's.", metavar="URL")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace credentials in an existing .env.")
]


def init(
    sid: SidOption = "",
    key_sid: KeyOption = "",
    secret_file: SecretOption = "",
    data: FolderOption = "",
    api_url: UrlOption = "",
    force: ForceOption = False,
) -> None:
    """Write the credentials of an account to .env.

    Asks for what the options do not give, without showing secrets, and checks it by one request.
    The file is .env in this folder, readable by its owner alone; its other lines stay.

    Example: email-archive init --sid AC0123456789abcdef0123456789abcdef
    """
    prepare()
    from pipeline.environment import ENV_FILE
    from pipeline.settings import Settings

    file = Path(ENV_FILE)
    _refuse_several()
    given = _asked(sid, key_sid, secret_file, data)
    if api_url:
        given["EMAIL_ARCHIVE_API_URL"] = api_url
    fields = {field: given.get(name) for field, name in Settings.variables().items()}
    credentials = ("auth_token", "api_key_sid", "api_key_secret")
    settings = Settings.load(
        **{field: value for field, value in fields.items() if value or field in credentials}
    )
    old = _content(file)
    if not force and any(_name(line) in given for line in old.splitlines()):
        _ask_to_replace(file)
    request_once(settings)
    _write(file, _merged(old, given))
    say(f"the account {settings.account_sid} works; wrote {file.absolute()}, readable by you alone")
    _warn_of_environment(settings)
    say(
        "next: `email-archive sync` here lists the last 7 days; then let cron, systemd or Dagster run it "
        "every 10 minutes"
    )


@app.callback()
def config() -> None:
    """Show the settings and where they come from.

    Example: email-archive config show
    """


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show every setting, its value and its origin.

    Secrets are masked. The origin is the environment, the file .env or the default.
    Exits with 2 if a setting is missing or malformed.

    Example: email-archive config show
    """
    prepare()
    from pipeline.accounts import load_accounts
    from pipeline.cli.rendering import json_figures
    from pipeline.settings_shown import shown_settings

    rows = shown_settings()
    try:
        accounts, problem = [str(one) for one in load_accounts()], None
    except SettingsError as error:
        accounts, problem = [], str(error)
    if as_json:
        settings = {one.variable: {"value": one.value, "origin": one.origin} for one in rows}
        typer.echo(json_figures({"settings": settings, "accounts": accounts, "error": problem}))
    else:
        width = max(len(one.variable) for one in rows)
        for one in rows:
            value = "not set" if one.value is None else one.value or "''"
            origin = "" if one.value is None else f"  ({one.origin})"
            say(f"{one.variable:<{width}}  {value}{origin}")
        for account in accounts:
            say(f"account: {account}")
    if problem:
        complain(problem)
        raise typer.Exit(WRONG_USE)


def _refuse_several() -> None:
    """Raise UsageError if the accounts are those of a TOML file: a `.env` of one account would be ignored."""
    from pipeline.accounts import CONFIG_FILE
    from pipeline.environment import given_variables

    file = given_variables().get("EMAIL_ARCHIVE_CONFIG", CONFIG_FILE)
    if os.path.lexists(file):
        msg = f"the accounts are those of {file}: add an [[accounts]] entry to it"
        raise UsageError(msg)


def _asked(sid: str, key_sid: str, secret_file: str, data: str) -> dict[str, str]:
    """The variables to write: those of the options, and what a terminal is asked for."""
    can_ask = sys.stdin.isatty()
    if not can_ask and not (sid and secret_file):
        msg = (
            "expected --sid and --secret-file, since the input is not a terminal that can be asked"
        )
        raise UsageError(msg)
    if not sid:
        sid = typer.prompt("Account SID (AC and 32 hex digits)", value_proc=_usable_account)
    if not key_sid and not secret_file:
        key_sid = typer.prompt(
            "API key SID (empty for the auth token)",
            default="",
            show_default=False,
            value_proc=_usable_key,
        )
    name = _SECRET if key_sid else _TOKEN
    if secret_file:
        secret = _secret_in(secret_file)
    else:
        secret = _ask_secret("API key secret" if key_sid else "Auth token")
    if not data and can_ask:
        data = typer.prompt("Folder of the archive", default="data")
    given = {"TWILIO_ACCOUNT_SID": sid, name: secret.strip(), "EMAIL_ARCHIVE_DATA": data}
    given |= {"TWILIO_API_KEY_SID": key_sid}
    return {name: value for name, value in given.items() if value}


def _ask_secret(name: str) -> str:
    """Ask until something is typed. Unlike typer, getpass turns echo off before it asks."""
    try:
        while not (secret := getpass(f"{name}: ")):
            pass
    except EOFError:
        raise typer.Abort from None
    return secret


def _usable_account(value: str) -> str:
    from pipeline.model.values import ACCOUNT_SID

    return _usable(value, ACCOUNT_SID, "AC")


def _usable_key(value: str) -> str:
    from pipeline.model.values import KEY_SID

    return value and _usable(value, KEY_SID, "SK")


def _usable(value: str, pattern: re.Pattern[str], start: str) -> str:
    if not pattern.fullmatch(value.strip()):
        msg = f"expected {start} and 32 lower-case hex digits"
        raise typer.BadParameter(msg)
    return value.strip()


def _secret_in(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        msg = f"--secret-file {file} can't be read"
        raise UsageError(msg) from None


def _content(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        msg = f"expected text in UTF-8 in {file}, whose other lines stay: convert it first"
        raise UsageError(msg) from None


def _ask_to_replace(file: Path) -> None:
    question = f"{file} has such settings already. Replace them"
    if not sys.stdin.isatty():
        msg = f"{question} with --force"
        raise UsageError(msg)
    typer.confirm(f"{question}?", abort=True)


def _name(line: str) -> str:
    found = _LINE.match(line)
    return found[1].upper() if found else ""


def _merged(old: str, given: dict[str, str]) -> str:
    """The lines of the file without those of credentials and of `given`, and then `given`."""
    replaced = {*given, _TOKEN, _SECRET, "TWILIO_API_KEY_SID"}
    lines = [line for line in old.splitlines() if _name(line) not in replaced]
    return "\n".join([*lines, *(f"{name}={_quoted(value)}" for name, value in given.items()), ""])


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _write(file: Path, text: str) -> None:
    """Replace the file at once; it is readable by its owner alone from the beginning."""
    from pipeline.lake.files import Files

    with Files().replacing(file, file.with_name(f"{file.name}.tmp")) as target:
        target.write(text.encode())
    file.chmod(0o600)


def _warn_of_environment(written: "Settings") -> None:
    """Say which variables of the environment win over what was written."""
    from pipeline.environment import given_by_source
    from pipeline.settings import Settings

    found: Any = Settings.load()
    environment = given_by_source(None)["environment"]
    for field, name in Settings.variables().items():
        if name in environment and getattr(found, field) != getattr(written, field):
            complain(f"WARNING {name} is set in the environment, and wins over .env: unset it")
