"""The configured accounts: one from the `TWILIO_*` variables, or several from a TOML file.

The file names where the credentials are, an environment variable or a file, and never has them itself.
No message quotes a value of it that may be a secret in the wrong place (R11).
"""

import difflib
import logging
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.environment import given_variables
from pipeline.errors import SettingsError, UsageError
from pipeline.lake.accounts import note_accounts, read_accounts
from pipeline.lake.layout import Lake
from pipeline.model.values import ACCOUNT_SID, KEY_SID, usable_sid, usable_url
from pipeline.oserrors import explain
from pipeline.settings import Settings

log = logging.getLogger(__name__)

CONFIG_FILE: Final = "email-archive.toml"
"""Read if it is in the folder where the command runs."""

_CONFIG: Final = "EMAIL_ARCHIVE_CONFIG"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_SECRETS: Final = ("auth_token", "api_key_secret")
_TOKEN: Final = re.compile(r"[0-9A-Fa-f]{32}")
_NO_SECRET: Final = re.compile(r"(?!.*[0-9A-Za-z]{20}).*[_./].*")
"""What is surely the name of a variable or file: tokens and keys of Twilio are 32 letters and digits."""

_WHERE: Final = f"{_CONFIG} names it; without, it is {CONFIG_FILE} in the current folder"
_EXPECTED: Final = {
    "string_type": "a text in quotes",
    "path_type": "the path of a file, in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "a table, as [[accounts]] begins one",
}
_CREDENTIALS: Final = (
    "expected auth_token_env or auth_token_file, or api_key_sid with api_key_secret_env or "
    "api_key_secret_file"
)


@dataclass(frozen=True, slots=True)
class Account:
    """An account that is configured.

    Attributes:
        sid: the account.
        name: its name in the TOML file; its SID if it has none.
        is_active: whether it is synced; its data stay in any case.
        settings: its settings; None for one that is not active, or whose credentials are missing.
        error: why an active account has no settings; None if it has some.
    """

    sid: str
    name: str
    is_active: bool
    settings: Settings | None
    error: SettingsError | None = None

    def usable_settings(self) -> Settings:
        """The settings of an active account.

        Raises:
            SettingsError: its credentials are missing.
        """
        if self.settings is None:
            raise self.error or SettingsError(f"{self} is not active: it has no settings")
        return self.settings

    def __str__(self) -> str:
        return self.sid if self.name == self.sid else f"{self.name} ({self.sid})"


def load_accounts(**overrides: Any) -> tuple[Account, ...]:
    """The accounts of the TOML file, in its order; without one, that of the `TWILIO_*` variables.

    Args:
        overrides: as of `Settings.load`; they hold for all accounts.

    Raises:
        SettingsError: one message with everything that is wrong, without the value of any secret. Missing
            credentials of an account in the file are in its `error`: the others can be synced (R12).
    """
    variables = given_variables()
    file = _config_file(overrides, variables)
    if file is None:
        settings = Settings.load(**overrides)
        retired = _retired_by_command(settings)
        sid = settings.account_sid
        return (Account(sid, sid, is_active=sid not in retired, settings=settings),)
    entries = _entries(file)
    found = _with_settings(file, entries, variables, overrides)
    other = variables.get("TWILIO_ACCOUNT_SID")
    if other and other not in [entry.sid for entry in entries]:
        log.warning("TWILIO_ACCOUNT_SID is ignored: the accounts are those of %s", file)
    return found


def chosen(accounts: Sequence[Account], names: Sequence[str]) -> tuple[Account, ...]:
    """The accounts with these SIDs or names, in the order of `accounts`; all if no name is given.

    Raises:
        UsageError: there is none of that name; the message names those that there are.
    """
    for name in names:
        if not any(name in (one.sid, one.name) for one in accounts):
            there = ", ".join(map(str, accounts))
            msg = f"there is no account {name!r}: expected a SID or a name of {there}"
            raise UsageError(msg)
    return tuple(one for one in accounts if not names or {one.sid, one.name} & {*names})


def active(accounts: Sequence[Account], names: Sequence[str]) -> list[Account]:
    """The active ones of the accounts with these SIDs or names; all active ones if no name is given.

    Raises:
        UsageError: there is none of that name, or it is retired.
    """
    accounts = chosen(accounts, names)
    for account in accounts if names else ():
        if not account.is_active:
            msg = (
                f"{account} is retired: it is synced again after `email-archive accounts resume`, and "
                "without `active = false` in its configuration"
            )
            raise UsageError(msg)
    return [account for account in accounts if account.is_active]


def remember(lake: Lake, accounts: Iterable[Account], now: datetime) -> None:
    """Note the configured accounts in the lake, for commands without configuration.

    `now` is this machine's time.
    """
    configured = {one.sid: one for one in accounts}
    note_accounts(
        lake,
        {sid: one.is_active for sid, one in configured.items()},
        {sid: one.name for sid, one in configured.items()},
        now,
    )


class _Entry(BaseModel):
    """One ``[[accounts]]`` of the file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    sid: str
    name: str = ""
    api_url: str | None = None
    active: bool = True
    auth_token_env: str | None = None
    auth_token_file: Path | None = None
    api_key_sid: str | None = None
    api_key_secret_env: str | None = None
    api_key_secret_file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_secrets(cls, values: Any) -> Any:
        for key in _SECRETS:
            if isinstance(values, dict) and key in values:
                msg = (
                    f"{key} does not belong in this file, which is copied and committed: name an "
                    f"environment variable with {key}_env, or a file with {key}_file"
                )
                raise ValueError(msg)
        return values

    @field_validator("sid")
    @classmethod
    def _check_sid(cls, value: str) -> str:
        return usable_sid(value, ACCOUNT_SID)

    @field_validator("api_key_sid")
    @classmethod
    def _check_key(cls, value: str | None) -> str | None:
        return value and usable_sid(value, KEY_SID)

    @field_validator("api_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        return value and usable_url(value)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or ACCOUNT_SID.fullmatch(value):
            msg = "expected up to 40 letters, digits, dots, dashes and underscores, and no SID"
            raise ValueError(msg)
        if _TOKEN.fullmatch(value):
            msg = "32 hex digits look like an auth token; expected a name"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_credentials(self) -> "_Entry":
        tokens = (self.auth_token_env, self.auth_token_file)
        secrets = (self.api_key_secret_env, self.api_key_secret_file)
        for name, values in zip(_SECRETS, (tokens, secrets), strict=True):
            if all(values):
                msg = f"expected {name}_env or {name}_file, and not both"
                raise ValueError(msg)
        is_whole = any(secrets) == bool(self.api_key_sid)
        if not is_whole or (self.active and not any((*tokens, *secrets))):
            raise ValueError(_CREDENTIALS)
        return self

    def credentials(
        self, folder: Path, variables: Mapping[str, str]
    ) -> dict[str, SecretStr | str | None]:
        """The credentials as fields of `Settings`, all of them: no variable of another account fills in.

        Raises:
            ValueError: a variable is not set, or a file can't be read.
        """
        token = _secret("auth_token", self.auth_token_env, self.auth_token_file, folder, variables)
        secret = _secret(
            "api_key_secret", self.api_key_secret_env, self.api_key_secret_file, folder, variables
        )
        return {"auth_token": token, "api_key_sid": self.api_key_sid, "api_key_secret": secret}


class _Config(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    accounts: list[_Entry] = Field(min_length=1)


def _config_file(overrides: Mapping[str, Any], variables: Mapping[str, str]) -> Path | None:
    """The TOML file; None if none is named and none is in this folder."""
    named = overrides.get("config") or variables.get(_CONFIG)
    if named:
        try:
            return Path(named).expanduser()
        except RuntimeError:
            msg = f"{_CONFIG} is malformed: there is no home folder for {Path(named).parts[0]}"
            raise SettingsError(msg) from None
    return Path(CONFIG_FILE) if os.path.lexists(CONFIG_FILE) else None


def _entries(file: Path) -> list[_Entry]:
    try:
        entries = _Config.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).accounts
    except FileNotFoundError:
        what = "a link to a file that does not exist" if file.is_symlink() else "not there"
        msg = f"{file} is {what}: expected the TOML file of the accounts. {_WHERE}"
        raise SettingsError(msg) from None
    except IsADirectoryError:
        msg = f"{file} is a folder: expected the TOML file of the accounts. {_WHERE}"
        raise SettingsError(msg) from None
    except OSError as error:
        msg = f"{file} can't be read: {explain(error)}"
        raise SettingsError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"expected TOML in UTF-8 in {file}: {error}"
        raise SettingsError(msg) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [_explain(one["loc"], one["type"], one["msg"]) for one in found]
        raise _problems(file, problems) from None
    sids = Counter(entry.sid for entry in entries)
    names = Counter(entry.name for entry in entries if entry.name)
    problems = [f"the SID {sid} is there {n} times" for sid, n in sids.items() if n > 1]
    problems += [f"the name {name} is there {n} times" for name, n in names.items() if n > 1]
    if problems:
        raise _problems(file, problems)
    return entries


def _explain(place: tuple[int | str, ...], kind: str, message: str) -> str:
    """A problem of the file, as ``accounts[0].sid: ...``."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    text = message.removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = [*(_Entry.model_fields if len(place) > 1 else _Config.model_fields)]
        likely = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"is {likely[0]} meant? Expected" if likely else "expected"
        text = f"unknown; {hint} {', '.join(known)}"
    elif place == ("accounts",):
        text = "expected one [[accounts]] or more"
    elif kind == "missing":
        text = "missing; expected AC and 32 lower-case hex digits"  # the only key without a default
    elif kind in _EXPECTED:
        text = f"expected {_EXPECTED[kind]}"
    return f"{path.removeprefix('.')}: {text}"


def _problems(file: Path, problems: Sequence[str]) -> SettingsError:
    return SettingsError("\n- ".join([f"{file}:", *problems]))


def _with_settings(
    file: Path,
    entries: Sequence[_Entry],
    variables: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> tuple[Account, ...]:
    # What all accounts share is read and checked once; the token is replaced below.
    shared = {"account_sid": entries[0].sid, "auth_token": SecretStr("-"), "config": file}
    shared |= {"api_key_sid": None, "api_key_secret": None}
    base = Settings.load(**{**overrides, **shared})
    retired = _retired_by_command(base)
    found = []
    for entry in entries:
        name = entry.name or entry.sid
        if not entry.active or entry.sid in retired:
            found.append(Account(entry.sid, name, is_active=False, settings=None))
            continue
        try:
            fields = {"account_sid": entry.sid, **entry.credentials(file.parent, variables)}
        except ValueError as error:
            problem = SettingsError(f"{error} ({name} in {file})")
            found.append(Account(entry.sid, name, is_active=True, settings=None, error=problem))
            continue
        fields |= {"api_url": entry.api_url} if entry.api_url else {}
        found.append(
            Account(entry.sid, name, is_active=True, settings=base.model_copy(update=fields))
        )
    return tuple(found)


def _retired_by_command(settings: Settings) -> set[str]:
    known = read_accounts(Lake.of(settings)).values()
    return {one.sid for one in known if one.retired_at and one.by_command}


def _secret(
    key: str,
    variable: str | None,
    file: Path | None,
    folder: Path,
    variables: Mapping[str, str],
) -> SecretStr | None:
    """A secret out of a variable or a file. An error names it, unless it may be the secret itself (R11)."""
    what, option = ("variable", f"{key}_env") if variable else ("file", f"{key}_file")
    named = str(variable or file)
    which = f"the {what} that {option} names"
    if _NO_SECRET.fullmatch(named):
        which = f"{named}, which {option} names,"
    if variable:
        value = variables.get(variable.upper(), "")
        problem = f"{which} is not set"
    elif file:
        try:
            value = (folder / file.expanduser()).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
            msg = f"{which} can't be read: {reason}"
            raise ValueError(msg) from None
        problem = f"{which} is empty"
    else:
        return None
    if not value:
        raise ValueError(problem)
    return SecretStr(value)
