"""Every setting with its value and its origin, for people. No secret is among the values (R11)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr, ValidationError

from pipeline.environment import RENAMED, given_by_source, readable_env_file
from pipeline.settings import Settings

MASK: Final = "********"
_MALFORMED: Final = "malformed, not shown"
_DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting.

    Attributes:
        variable: its environment variable.
        value: its value; masked if it is a secret, None if it is not set.
        origin: default, environment or .env.
    """

    variable: str
    value: str | None
    origin: str


def shown_settings() -> list[ShownSetting]:
    """Every setting, as the next command would read it."""
    file = readable_env_file()
    sources, malformed = given_by_source(file), _malformed(file)
    return [_shown(field, sources, malformed) for field in Settings.variables()]


def _shown(
    field: str, sources: Mapping[str, Mapping[str, str]], malformed: set[str]
) -> ShownSetting:
    variable = Settings.variables()[field]
    names = [variable, *(old for old, new in RENAMED.items() if new == variable)]
    for origin, given in sources.items():
        for name in names:
            if name in given:
                where = origin if name == variable else f"{origin}, as {name}"
                value = _MALFORMED if field in malformed else given[name]
                return ShownSetting(variable, MASK if _is_secret(field) else value, where)
    default = Settings.model_fields[field].default
    is_set = not Settings.model_fields[field].is_required() and default is not None
    return ShownSetting(variable, str(default) if is_set else None, _DEFAULT)


def _is_secret(field: str) -> bool:
    return SecretStr in getattr(Settings.model_fields[field].annotation, "__args__", ())


def _malformed(file: str | None) -> set[str]:
    """The fields with a malformed value, which may be a secret in the wrong place."""
    names = {variable: field for field, variable in Settings.variables().items()}
    try:
        Settings(_env_file=file)
    except ValidationError as error:
        places = [str(one["loc"][0]) for one in error.errors() if one["loc"]]
        return {names.get(RENAMED.get(place, place), place) for place in places}
    return set()
