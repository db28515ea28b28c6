"""Which version this is."""

from functools import cache
from importlib.metadata import version


@cache
def installed() -> str:
    """The installed version; cached, since finding it takes milliseconds."""
    return version("twilio-email-archive")
