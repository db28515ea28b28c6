"""The variables that are set in the environment and in the ``.env`` file, and those that were renamed."""

import difflib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from pipeline.oserrors import explain

log = logging.getLogger(__name__)

ENV_FILE: Final = ".env"
PREFIX: Final = "EMAIL_ARCHIVE_"
_ALMOST: Final = 0.9
"""Of difflib: one letter is missing or two exchanged; TWILIO_API_SECRET of other programs is less alike."""

RENAMED: Final = {
    "EMAIL_ARCHIVE_LOOKUP_SECONDS": "EMAIL_ARCHIVE_LOOKUP_TIMEOUT",
    "EMAIL_ARCHIVE_MAX_ANSWER_BYTES": "EMAIL_ARCHIVE_MAX_RESPONSE_BYTES",
    "EMAIL_ARCHIVE_OPERATION_ERRORS": "EMAIL_ARCHIVE_FETCH_OPERATION_ERRORS",
    "EMAIL_ARCHIVE_REFRESH": "EMAIL_ARCHIVE_REFRESH_INTERVALS",
    "EMAIL_ARCHIVE_RETRY_SECONDS": "EMAIL_ARCHIVE_RETRY_MAX_WAIT",
}
"""Old and new names of variables. The old names are accepted, with a warning."""


def given_variables() -> dict[str, str]:
    """The variables of the environment and of the `.env` file, by their names in capitals."""
    environment, in_file = given_by_source(readable_env_file()).values()
    return in_file | environment


def given_by_source(file: str | None) -> dict[str, dict[str, str]]:
    """The variables that are set, in capitals: those of the environment, which wins, and of `.env`."""
    sources = {
        "environment": EnvSettingsSource(BaseSettings).env_vars,
        ENV_FILE: DotEnvSettingsSource(BaseSettings, env_file=file).env_vars if file else {},
    }
    return {
        source: {name.upper(): value for name, value in given.items() if value}
        for source, given in sources.items()
    }


def readable_env_file() -> str | None:
    """The `.env` file of this folder; None, with a warning, if it can't be read."""
    try:
        path = Path.cwd() / ENV_FILE
        if path.is_file():  # and no pipe, which can be read once
            path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        log.warning("%s is ignored: expected text in UTF-8", path)
    except OSError as error:
        log.warning("%s is ignored: %s", ENV_FILE, explain(error))
    else:
        return ENV_FILE
    return None


def warn_of_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Warn of variables that are renamed, those with the prefix that are not known, and misspelt ones."""
    known = [*known]
    given, expected = set(names), _without_prefix(known)
    for old in sorted(given & RENAMED.keys()):
        log.warning("%s is deprecated: use %s", old, RENAMED[old])
    for name in sorted(_without_prefix(given - RENAMED.keys()) - expected):
        # Compared without the prefix, which makes all names alike.
        likely = difflib.get_close_matches(name, expected, n=1)
        hint = f"; is {PREFIX}{likely[0]} meant?" if likely else ""
        log.warning("%s%s is not a setting and is ignored%s", PREFIX, name, hint)
    _warn_of_misspelt(given, known)


def _warn_of_misspelt(given: set[str], known: Iterable[str]) -> None:
    """Warn of names without the prefix that are almost those of settings which are not set."""
    unset = [one for one in known if one.startswith((PREFIX, "TWILIO_")) and one not in given]
    for name in sorted(given):
        if name.startswith(PREFIX) or any(f"_{one}_" in f"_{name}_" for one in unset):
            continue  # the latter as TWILIO_AUTH_TOKEN_2, for another account
        for likely in difflib.get_close_matches(name, unset, n=1, cutoff=_ALMOST):
            log.warning("%s is not a setting and is ignored; is %s meant?", name, likely)


def _without_prefix(names: Iterable[str]) -> set[str]:
    return {name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)}
