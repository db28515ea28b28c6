"""The prompt of `email-archive sql`: queries with completion of tables and columns."""

import re
import signal
from collections.abc import Callable, Iterator
from typing import Final

import duckdb
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from pipeline.errors import ArchiveError
from pipeline.model.schema import PUBLISHED
from pipeline.terminal import say

_PROMPT: Final = "sql> "
_HELP: Final = (
    "Enter runs a query once it is whole, Tab completes names, the up arrow brings back earlier queries. "
    "`tables` lists the tables, `DESCRIBE name` the columns of one; `exit` or Ctrl-D ends."
)
_END: Final = ("exit", "quit", "\\q", ".exit", ".quit")
_TABLES: Final = ("tables", ".tables", "\\d")
_HELPS: Final = ("help", "?", ".help", "\\?")
_WORDS: Final = (
    *("SELECT", "FROM", "WHERE", "GROUP", "ORDER", "BY", "ALL", "LIMIT"),
    *("JOIN", "LEFT", "USING", "ON", "HAVING", "QUALIFY", "WITH", "PIVOT"),
    *("DESCRIBE", "DISTINCT", "AS", "AND", "OR", "NOT", "NULL", "IS"),
    *("IN", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "DESC"),
    *("INTERVAL", "count", "sum", "min", "max", "date_trunc"),
)
_WORD: Final = re.compile(r"\w+")
_NEAR: Final = re.compile(r'at or near "(.*?)"', re.DOTALL)


def ask_queries(run: Callable[[str], None]) -> None:
    """Ask for queries and run them until the user ends it. An error ends the query only."""
    session: PromptSession[str] = PromptSession(
        _PROMPT,
        multiline=True,
        prompt_continuation=" " * len(_PROMPT),
        completer=Names(),
        complete_while_typing=False,
        key_bindings=_keys(),
    )
    say(_HELP)
    while True:
        try:
            text = _typed(session).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        command = text.rstrip("; ").casefold()
        if command in _END:
            return
        if command in _HELPS:
            say(_HELP)
        elif command in _TABLES:
            for table in PUBLISHED:
                say(f"{table.name}: {table.grain[0].lower()}{table.grain[1:]}")
        elif command:
            try:
                run(text)
            except (ArchiveError, OSError, ValueError, OverflowError, RecursionError) as error:
                say(f"error: {error}", err=True)


def _typed(session: PromptSession[str]) -> str:
    """What the user types.

    The prompt takes away the pipe that `StopSignals` learns of signals from. It is given back, so that a
    signal also ends a query that does not look for it.
    """
    pipe = signal.set_wakeup_fd(-1)
    try:
        return session.prompt()
    finally:
        signal.set_wakeup_fd(pipe)


class Names(Completer):
    """Completes tables, columns and words of SQL; columns are those of the tables that the query names."""

    def get_completions(self, document: Document, _: CompleteEvent) -> Iterator[Completion]:
        """The names that begin with the word before the cursor."""
        word = document.get_word_before_cursor(pattern=_WORD)
        named = set(_WORD.findall(document.text.casefold()))
        columns = {
            column.name: table.name
            for table in reversed(PUBLISHED)
            if table.name in named or not named & {one.name for one in PUBLISHED}
            for column in table.published
        }
        about = {table.name: table.grain for table in PUBLISHED} | columns
        for name in (*about, *_WORDS):
            if name.casefold().startswith(word.casefold()):
                yield Completion(name, -len(word), display_meta=about.get(name, ""))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state:
            buffer.complete_state = None
        elif is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return keys


def is_whole(text: str) -> bool:
    """Whether a query does not go on in the next line: it has no error, or one before its last word.

    An empty line or a semicolon ends it in any case.
    """
    words = text.strip().casefold()
    if text.endswith(("\n", ";")) or words in ("", *_END, *_TABLES, *_HELPS):
        return True
    try:
        duckdb.extract_statements(text)
    except duckdb.Error as error:
        found = _NEAR.search(str(error))
        return found is not None and not text.rstrip().endswith(found[1])
    return True
