"""Where the values of an answer lie in its text, whatever it holds.

`json` gives values, and a reject needs the text as it came. It also gives up on a whole answer for one
number of too many digits or one value that nests too deeply. Here nothing is converted, and what nests
too deeply is passed over: such a value costs the record that it is in, and never an answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, Self

from pipeline.twilio.errors import DamagedAnswerError

MAX_LEVELS: Final = 96
"""Levels of an answer that are read: far more than a page's and a record's own, far less than what
Python's recursion allows."""

_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_TOKENS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_NOT_SHAPE: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_USUAL_LEVELS: Final = 8


@dataclass(frozen=True, slots=True)
class Raw:
    r"""A JSON value as it lies in an answer.

    Attributes:
        text: as it came. A byte that is no UTF-8 is half of a surrogate pair, as Python's
            `surrogateescape` has it.
        shallow: the same, and as long, with a 0 in place of whatever lies deeper than `MAX_LEVELS`: it
            can be parsed without meeting Python's limit of recursion.
    """

    text: str
    shallow: str

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The one JSON value of an answer.

        Raises:
            DamagedAnswerError: it is not JSON, or there is more than one value.
        """
        text = body.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")
        start = _skip_space(text, 0)
        if start == len(text):
            msg = "expected JSON; got an empty answer"
            raise DamagedAnswerError(msg)
        try:
            shallow = text if _is_flat(body) else _without_depths(text)
            _, end = _DECODER.raw_decode(shallow, start)
        except (ValueError, RecursionError) as error:  # the latter: deep, and cut off there
            msg = f"expected JSON; got {excerpt(body)} ({error})"
            raise DamagedAnswerError(msg) from None
        if _skip_space(text, end) != len(text):
            msg = f"expected one JSON value; got more after it: {excerpt(body[-200:])}"
            raise DamagedAnswerError(msg)
        return cls(text[start:end], shallow[start:end])

    @property
    def is_object(self) -> bool:
        """Whether it is an object."""
        return self.text.startswith("{")

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return self.text.startswith("[")

    @property
    def readable(self) -> str:
        r"""The text as it can be stored: bytes that are no UTF-8 are written ``\xNN``."""
        return self.text.encode(errors="surrogateescape").decode(errors="backslashreplace")

    def members(self) -> list[tuple[str, "Raw"]]:
        """The fields of an object, in their order; one that comes twice is there twice."""
        members = []
        at = _skip_space(self.shallow, 1)
        while self.shallow[at] != "}":
            name, at = _DECODER.raw_decode(self.shallow, at)
            begin = _skip_space(self.shallow, _skip_space(self.shallow, at) + 1)
            _, end = _DECODER.raw_decode(self.shallow, begin)
            members.append((name, self._part(begin, end)))
            at = self._after_comma(end)
        return members

    def elements(self) -> list["Raw"]:
        """The elements of a list, in their order."""
        elements = []
        at = _skip_space(self.shallow, 1)
        while self.shallow[at] != "]":
            _, end = _DECODER.raw_decode(self.shallow, at)
            elements.append(self._part(at, end))
            at = self._after_comma(end)
        return elements

    def _part(self, begin: int, end: int) -> "Raw":
        return Raw(self.text[begin:end], self.shallow[begin:end])

    def _after_comma(self, at: int) -> int:
        at = _skip_space(self.shallow, at)
        return _skip_space(self.shallow, at + 1) if self.shallow[at] == "," else at


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: half of a surrogate pair can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text for a message: halves of surrogate pairs are written as their escapes."""
    return text.encode(errors="backslashreplace").decode()


def excerpt(body: bytes) -> str:
    """The beginning of an answer on one line, for a message."""
    text = "".join(c if c.isprintable() else " " for c in body[:500].decode(errors="replace"))
    return repr(shortened(" ".join(text.split()), 120))


def shortened(text: str, length: int) -> str:
    """A text, cut where it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _is_flat(body: bytes) -> bool:
    """Whether an answer surely has a few levels at most: quick, and right for the common ones.

    Without escaped quotes, strings are pairs of quotes, and they vanish if no bracket lies in them.
    Then each round takes the innermost level away.
    """
    if b'\\"' in body:
        return False
    shape = body.translate(None, _NOT_SHAPE).replace(b'""', b"")
    for _ in range(_USUAL_LEVELS):
        shape = shape.replace(b"{}", b"").replace(b"[]", b"")
    return not shape


def _without_depths(text: str) -> str:
    """The text with a 0, and spaces, in place of each value that lies deeper than `MAX_LEVELS`.

    What lies there is checked too, by as many levels at a time.

    Raises:
        ValueError: it is not JSON.
    """
    pieces: list[list[str]] = [[]]
    begun: list[int] = []
    level = copied = 0
    for token in _TOKENS.finditer(text):
        bracket = text[token.start()]
        if bracket in "[{":
            if level == MAX_LEVELS * (len(begun) + 1):
                pieces[-1].append(text[copied : token.start()])
                pieces.append([])
                begun.append(copied := token.start())
            level += 1
        elif bracket in "]}":
            level -= 1
            if begun and level == MAX_LEVELS * len(begun):
                inner = "".join((*pieces.pop(), text[copied : token.end()]))
                _DECODER.decode(inner)
                length = token.end() - begun.pop()
                pieces[-1].append(
                    "0" if begun else "0".ljust(length)
                )  # only places at the top count
                copied = token.end()
    return "".join((*(piece for band in pieces for piece in band), text[copied:]))
