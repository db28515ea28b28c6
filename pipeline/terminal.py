"""Printing text safely: control characters are escaped on a terminal and in a log.

A status, an error message or a file name may contain escape sequences that recolour, hide or overwrite what
a terminal shows, and characters that reverse the direction of a line. All printed text goes through here.
CSV and JSON for other programs have the data unchanged.
"""

import typer


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with characters that are not printable as escapes, as in `repr`: ``\x1b``, ``\u202e``.

    Args:
        text: any text.
        keep: characters that are not escaped, such as a line break.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def message(text: str) -> str:
    """`text` as a message. Lines after the first are indented.

    So a line break in data can't imitate another message.
    """
    return printable(text, keep="\n\t").replace("\n", "\n  ")


def say(text: str, *, err: bool = False) -> None:
    """Print a message: on stdout, or on stderr with `err`."""
    typer.echo(message(text), err=err)
