"""Which version this is."""

from functools import cache
from importlib.metadata import version


@cache
def installed() -> str:
    """The installed version; asked once, since it takes milliseconds to find."""
    return version("twilio-email-archive")
