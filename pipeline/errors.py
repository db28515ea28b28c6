"""The root of every error that this package raises on purpose.

An ``ArchiveError`` is a message for a person: what was expected, what came, what to do. The command
prints it without a traceback. Anything else that escapes is a bug and shows its traceback.
"""


class ArchiveError(Exception):
    """An error whose text is complete: the command shows it as it is, and exits with 1."""


class UsageError(ArchiveError):
    """The caller asked for something that cannot be meant: the command exits with 2."""


class SettingsError(UsageError):
    """A setting is missing or malformed; the text names the variable, what it expects, and the mend."""
