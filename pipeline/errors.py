"""The base classes of the errors that this package raises.

The message of an ``ArchiveError`` says what was expected, what came and what to do. The command prints it
without a traceback. Any other exception is a bug and shows its traceback.
"""


class ArchiveError(Exception):
    """An expected error: the command prints its message and exits with 1."""


class UsageError(ArchiveError):
    """The arguments or settings make no sense: the command exits with 2."""


class SettingsError(UsageError):
    """A setting is missing or malformed; the message names the variable, what is expected and what to do."""
