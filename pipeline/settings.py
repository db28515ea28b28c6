"""Settings from the environment or a ``.env`` file. Only this module and `environment` read either.

Secrets are `SecretStr` (R11): no message, repr or dump shows them, and errors quote no malformed value.
"""

import difflib
from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.environment import (
    ENV_FILE,
    PREFIX,
    RENAMED,
    given_by_source,
    given_variables,
    readable_env_file,
    warn_of_names,
)
from pipeline.errors import SettingsError
from pipeline.model.values import (
    ACCOUNT_SID,
    DEFAULT_FINAL_SCANS,
    DEFAULT_REFRESH,
    KEY_SID,
    expand_home,
    is_listed,
    parse_durations,
    parse_mode,
    parse_tiers,
    usable_folder,
    usable_mode,
    usable_sid,
    usable_url,
)
from pipeline.model.windows import FINAL_LATEST, FINAL_WITHIN, RETENTION

__all__ = [
    "ENV_FILE",
    "RENAMED",
    "ArchiveSettings",
    "Settings",
    "given_by_source",
    "given_variables",
    "readable_env_file",
    "settings_table",
]

_ADVICE: Final = "Set it in the environment or in a .env file in the folder where you run this."
_INIT: Final = "`email-archive init` asks for the credentials and writes that file."


def _variable(name: str, default: Any = ..., **constraints: Any) -> Any:
    """A setting whose variable is not just the prefix and the field's name, or was renamed."""
    old = (old for old, new in RENAMED.items() if new == name)
    return Field(default, validation_alias=AliasChoices(name, *old), **constraints)


_Folder = Annotated[Path, AfterValidator(expand_home)]
_DataFolder = Annotated[_Folder, AfterValidator(usable_folder)]
_FileMode = Annotated[str, AfterValidator(usable_mode)]
_AccountSid = Annotated[str, AfterValidator(partial(usable_sid, pattern=ACCOUNT_SID))]
_KeySid = Annotated[str, AfterValidator(partial(usable_sid, pattern=KEY_SID))]
_Url = Annotated[str, AfterValidator(usable_url)]


class ArchiveSettings(BaseSettings):
    """The settings that need no credentials, for reading, publishing and querying."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE,
        env_ignore_empty=True,
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    def __init__(self, **values: Any) -> None:
        """Take `values` as fields by name; they win over the environment and the ``.env`` file.

        Raises:
            SettingsError: a name is not a field. Unknown variables of the environment are only warned of.
            ValidationError: a setting is missing or malformed.
        """
        _require_fields(type(self), values)
        super().__init__(**values)

    data: _DataFolder = Field(Path("data"), description="The archive's folder.")
    config: Path | None = Field(
        None,
        description="The TOML file with several accounts; by default email-archive.toml, if it is in the "
        "folder where you run this.",
    )
    dagster_home: _Folder = _variable(
        "DAGSTER_HOME",
        Path(".dagster"),
        description="Where Dagster keeps its runs; the demo's last sync is recorded there.",
    )
    first_day: date = Field(date(2026, 1, 1), description="The first day of Dagster's partitions.")
    dagster_retention_days: int = Field(
        30, ge=1, description="Days that Dagster keeps the runs of this project."
    )
    final_scans: str = Field(
        DEFAULT_FINAL_SCANS,
        description="Times before the deadline at which a slot is scanned again; the first from 12h to 8h.",
    )

    trust_clock: bool = Field(
        default=False,
        description="Whether to skip the comparison of the API's clock with this machine's, as for an "
        "emulator at another time.",
    )

    file_mode: _FileMode | None = Field(
        None,
        description="Who may read the archive: 0600 its owner alone, 0640 its group too, 0644 everybody; "
        "folders accordingly. Existing files are changed too. Without it, new files are 0600.",
    )

    @field_validator("final_scans")
    @classmethod
    def _check_final_scans(cls, value: str) -> str:
        scans = parse_durations(value)
        if not (FINAL_LATEST <= max(scans) <= FINAL_WITHIN and min(scans)):
            msg = "expected times of which the first is from 12h to 8h, and all above 0: like 12h,2h,30m"
            raise ValueError(msg)
        return value

    @property
    def final_scan_times(self) -> tuple[timedelta, ...]:
        """How long before its deadline a slot is scanned again."""
        return parse_durations(self.final_scans)

    @property
    def first_final_scan(self) -> timedelta:
        """How long before a slot's deadline its final scans begin."""
        return max(self.final_scan_times)

    @property
    def mode(self) -> int | None:
        """The mode of the archive's files; None to leave existing files as they are."""
        return None if self.file_mode is None else parse_mode(self.file_mode)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings; `overrides` are fields by name and win over the environment.

        Raises:
            SettingsError: names each missing or malformed variable, or a name that is not a field, what was
                expected and what to do, without any value of a secret.
        """
        file = readable_env_file()
        given = given_by_source(file).values()
        warn_of_names(chain(*given), Settings.variables().values())
        try:
            return cls(_env_file=file, **overrides)
        except ValidationError as error:
            raise SettingsError(cls._explain(error)) from None

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [cls._explain_one(problem) for problem in found]
        return "\n".join(lines) if len(lines) == 1 else "\n- ".join(["the settings:", *lines])

    @classmethod
    def _explain_one(cls, problem: ErrorDetails) -> str:
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            return message
        name = str(problem["loc"][0])
        variable = cls.variables().get(name, name)
        if problem["type"] == "missing":
            return f"{variable} is not set. {_ADVICE} {_INIT}"
        return f"{variable} is malformed: {message[0].lower()}{message[1:]}. {_ADVICE}"

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The environment variable of each field."""
        names = {}
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            names[name] = f"{PREFIX}{name.upper()}"
            if isinstance(alias, AliasChoices):
                names[name] = str(alias.choices[0])
        return names


def _require_fields(settings: type[ArchiveSettings], names: Iterable[str]) -> None:
    """Raise SettingsError for a name that is neither a field nor a variable of one."""
    variables = settings.variables()
    fields = {variable: name for name, variable in variables.items()}
    renamed = {_field_name(old): fields[new] for old, new in RENAMED.items() if new in fields}
    known = {*fields, *variables, *RENAMED}
    for name in names:
        if name in known or name.startswith("_"):  # pydantic-settings' own arguments begin with _
            continue
        likely = difflib.get_close_matches(name, variables, n=1)
        meant = renamed.get(name) or next(iter(likely), None)
        hint = f"; is {meant} meant?" if meant else ""
        msg = f"{name} is not a field of {settings.__name__}{hint}"
        raise SettingsError(msg)


def _field_name(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower()


class Settings(ArchiveSettings):
    """All settings: the archive, the credentials, and the requests to the API.

    The credentials are an account SID with its auth token, or with an API key's SID and secret. With
    both, the key is used. The account SID is always needed: it labels the data.
    """

    account_sid: _AccountSid = _variable(
        "TWILIO_ACCOUNT_SID", description="The account: AC and 32 hex digits. It labels the data."
    )
    auth_token: SecretStr | None = _variable(
        "TWILIO_AUTH_TOKEN", None, description="The account's auth token; or use an API key."
    )
    api_key_sid: _KeySid | None = _variable(
        "TWILIO_API_KEY_SID", None, description="An API key's SID: SK and 32 hex digits."
    )
    api_key_secret: SecretStr | None = _variable(
        "TWILIO_API_KEY_SECRET", None, description="That API key's secret."
    )
    api_url: _Url = Field(
        "https://comms.twilio.com/v1",
        description="The API's base URL: https, or http on this machine (the emulator).",
    )
    page_size: int = Field(
        1000, ge=1, le=1000, description="Operations per page; the API's maximum is the default."
    )
    concurrency: int = Field(
        8,
        ge=1,
        le=64,
        description=(
            "Requests in flight at once, at most. One without a response, after many later ones had theirs, "
            "is not counted."
        ),
    )
    connect_timeout: float = Field(
        10.0, gt=0, le=600, description="Seconds to wait for a connection."
    )
    read_timeout: float = Field(
        60.0, gt=0, le=3600, description="Seconds to wait for the next bytes of a response."
    )
    response_timeout: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Seconds that a whole response may take, headers and body.",
    )
    https_proxy: SecretStr | None = _variable(
        "HTTPS_PROXY",
        None,
        description="The proxy: http://, https:// or socks5://, with user:password@ if it wants them.",
    )
    all_proxy: SecretStr | None = _variable(
        "ALL_PROXY", None, description="The proxy, if HTTPS_PROXY is not set."
    )
    no_proxy: str = _variable(
        "NO_PROXY", "", description="Hosts that need no proxy, with commas; * for all."
    )
    retry_attempts: int = Field(
        6, ge=1, le=100, description="Attempts per request, the first included."
    )
    retry_max_wait: float = _variable(
        "EMAIL_ARCHIVE_RETRY_MAX_WAIT",
        120.0,
        ge=0,
        le=86_400,
        description="Seconds that the waits between the attempts may add up to.",
    )
    max_response_bytes: int = _variable(
        "EMAIL_ARCHIVE_MAX_RESPONSE_BYTES",
        32 * 1024 * 1024,
        ge=1024,
        description="Bytes of one response, before and after decompression. A larger response is an error.",
    )

    refresh_intervals: str = _variable(
        "EMAIL_ARCHIVE_REFRESH_INTERVALS",
        DEFAULT_REFRESH,
        description="How often a slot is scanned, by its age: under 1 h every 10 min, and so on.",
    )
    max_requests: int = Field(
        5000,
        ge=1,
        description="About how many requests one sync may make; the most urgent slots come first.",
    )
    lookup_timeout: float = _variable(
        "EMAIL_ARCHIVE_LOOKUP_TIMEOUT",
        60.0,
        gt=0,
        description="Seconds that one sync may spend on lookups by id; the rest stays due.",
    )
    fetch_operation_errors: bool = _variable(
        "EMAIL_ARCHIVE_FETCH_OPERATION_ERRORS",
        default=True,
        description="Whether to fetch the errors of operations with failures: one request each.",
    )

    allow_shared_ids: bool = Field(
        default=False,
        description="Whether to store operations that the archive has under another account, most likely "
        "since one of the two has the credentials or the SID of the other.",
    )

    @field_validator("refresh_intervals")
    @classmethod
    def _check_refresh(cls, value: str) -> str:
        tiers = parse_tiers(value)
        ages = [age for age, _ in tiers]
        if (
            ages != sorted(set(ages))
            or ages[-1] < RETENTION
            or any(not every for _, every in tiers)
        ):
            msg = (
                "expected ages that rise to 7d, each with an interval above 0, "
                "like 1h:10m,6h:30m,24h:2h,3d:8h,7d:1d"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            missing = "TWILIO_API_KEY_SECRET" if self.api_key_sid else "TWILIO_API_KEY_SID"
            msg = f"{missing} is not set: an API key is its SID and its secret together. {_ADVICE}"
            raise ValueError(msg)
        if self.auth_token is None and self.api_key_secret is None:
            msg = (
                "no credentials: expected TWILIO_AUTH_TOKEN, or TWILIO_API_KEY_SID with "
                f"TWILIO_API_KEY_SECRET. Set them in the environment or in a .env file. {_INIT}"
            )
            raise ValueError(msg)
        return self

    @property
    def refresh_tiers(self) -> tuple[tuple[timedelta, timedelta], ...]:
        """How often a slot is scanned: ages in rising order, each with the interval up to it."""
        return parse_tiers(self.refresh_intervals)

    def environment(self) -> dict[str, str]:
        """Environment variables that give another process these settings. Secrets are in clear text."""
        values = {variable: getattr(self, name) for name, variable in self.variables().items()}
        return {
            variable: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for variable, value in values.items()
            if value is not None
        }

    def proxy(self) -> str | None:
        """The proxy for requests to the API, or None. Plain http is only used locally, without proxy."""
        proxy = self.https_proxy or self.all_proxy
        address = urlsplit(self.api_url)
        if proxy is None or address.scheme != "https" or is_listed(address, self.no_proxy):
            return None
        return proxy.get_secret_value()

    def basic_auth(self) -> tuple[str, str]:
        """User and password of HTTP Basic; the API key wins over the auth token."""
        if self.api_key_sid is not None and self.api_key_secret is not None:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        if self.auth_token is None:  # excluded by the validator
            msg = "no credentials"
            raise SettingsError(msg)
        return self.account_sid, self.auth_token.get_secret_value()


def settings_table() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting, for docs/settings.md."""
    rows = []
    for name, variable in Settings.variables().items():
        field = Settings.model_fields[name]
        default = "" if field.is_required() or field.default is None else str(field.default)
        rows.append((variable, default, field.description or ""))
    return rows
