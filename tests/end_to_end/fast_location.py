"""The project's definitions with a tick every minute, for an API whose clock goes ten times as fast."""

from assets.definitions import account_ids, build_definitions
from pipeline.settings import ArchiveSettings

_settings = ArchiveSettings.load()
defs = build_definitions(account_ids(_settings), _settings.first_day, cron="* * * * *")
