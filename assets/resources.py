"""The resources of the assets: the API's settings and the archive's folder.

Values that are not configured come from the environment or ``.env`` when a run starts. So definitions load
without credentials, and no run config contains them (R11).
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, JsonValue

from pipeline.accounts import Account, load_accounts
from pipeline.errors import SettingsError
from pipeline.lake.layout import Lake
from pipeline.lake.migration import up_to_date
from pipeline.settings import ArchiveSettings, Settings

_SECRET: dict[str, JsonValue] = {"dagster__is_secret": True}


class ArchiveResource(dg.ConfigurableResource[Lake]):
    """The archive's folder."""

    data: str | None = Field(default=None, description="Overrides EMAIL_ARCHIVE_DATA.")
    trust_clock: bool | None = Field(
        default=None, description="Overrides EMAIL_ARCHIVE_TRUST_CLOCK."
    )

    def settings(self) -> ArchiveSettings:
        """The settings of the archive alone."""
        return ArchiveSettings.load(**_given(data=self.data, trust_clock=self.trust_clock))

    def root(self) -> Path:
        """The archive's folder."""
        return self.settings().data

    def first_final_scan(self) -> timedelta:
        """The time before a slot's deadline at which its final scans begin."""
        return self.settings().first_final_scan

    def trusts_clock(self) -> bool:
        """Whether to use the API's clock without comparing it with this machine's."""
        return self.settings().trust_clock

    def lake(self) -> Lake:
        """The archive, opened for writing."""
        return up_to_date(Lake.of(self.settings()))


class TwilioResource(dg.ConfigurableResource[Settings]):
    """The API's settings. Give secrets as ``dg.EnvVar("NAME")``, so that no config contains them."""

    account_sid: str | None = Field(default=None, description="Overrides TWILIO_ACCOUNT_SID.")
    auth_token: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,
        description="Overrides TWILIO_AUTH_TOKEN.",
    )
    api_key_sid: str | None = Field(default=None, description="Overrides TWILIO_API_KEY_SID.")
    api_key_secret: str | None = Field(
        default=None,
        repr=False,
        json_schema_extra=_SECRET,
        description="Overrides TWILIO_API_KEY_SECRET.",
    )
    api_url: str | None = Field(default=None, description="Overrides EMAIL_ARCHIVE_API_URL.")

    def accounts(self, archive: ArchiveResource) -> tuple[Account, ...]:
        """The account that is given here, or those that are configured.

        Raises:
            SettingsError: one message of all that is missing or malformed.
        """
        given = _given(
            account_sid=self.account_sid,
            auth_token=self.auth_token,
            api_key_sid=self.api_key_sid,
            api_key_secret=self.api_key_secret,
            api_url=self.api_url,
        )
        where = _given(data=archive.root(), trust_clock=archive.trusts_clock())
        if not given:
            return load_accounts(**where)
        settings = Settings.load(**given, **where)
        sid = settings.account_sid
        return (Account(sid, sid, is_active=True, settings=settings),)


def settings_of(accounts: Iterable[Account], account_id: str) -> Settings:
    """The settings of an account.

    Raises:
        SettingsError: it is not among them, is not active, or its credentials are missing.
    """
    for account in accounts:
        if account.sid == account_id:
            return account.usable_settings()
    msg = f"{account_id} is not an account of the configuration"
    raise SettingsError(msg)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
