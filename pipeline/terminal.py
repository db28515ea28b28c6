"""Text for people: on a terminal and in a log, data's control characters are shown and never obeyed.

A status, an error message or a file name may hold escape sequences that recolour, hide or overwrite what
a terminal shows, and characters that turn the direction of a line. All text that is printed goes through
here. CSV and JSON that another program reads hold the data as it is.
"""

import typer


def printable(text: str, *, keep: str = "") -> str:
    r"""`text`, with what is not printable as its escape: ``\x1b``, ``\u202e``, as `repr` shows it.

    Args:
        text: any text.
        keep: characters that stay, such as a line break.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def message(text: str) -> str:
    """`text` as a message of one or several lines: those after the first are indented.

    So no line that comes out of data can pass for a message of its own.
    """
    return printable(text, keep="\n\t").replace("\n", "\n  ")


def say(text: str, *, err: bool = False) -> None:
    """Print a message: on stdout, or on stderr with `err`."""
    typer.echo(message(text), err=err)
