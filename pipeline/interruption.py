"""SIGTERM and Ctrl-C end the process within 3 seconds, with 143 or 130.

Any step may be killed (R5), so nothing has to be finished. The main thread gets an exception and removes
the file that it is writing. If it is waiting for a response or inside a library, another thread ends the
process shortly afterwards.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS: Final = 2.0


class Stopped(BaseException):
    """The process received a signal to stop. Not an `Exception`, so that no error handler catches it."""


class StopSignals:
    """Ends the process on SIGTERM and Ctrl-C.

    Args:
        say: called with the signal's name before the process ends.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._received: signal.Signals | None = None

    def install(self) -> None:
        """Handle the signals from now on; must be called in the main thread."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # Python calls signal handlers in the main thread, after the C code that it may be in. The pipe gets
        # the signal's number at once.
        signal.set_wakeup_fd(writer)
        for one in _SIGNALS:
            signal.signal(one, self._stop)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def leave_if_stopped(self) -> None:
        """End the process if a signal was received, even if a library replaced `Stopped` by its own error."""
        if self._received is not None:
            self._say(self._received.name)
            leave(128 + self._received)

    def _stop(self, number: int, _: object) -> NoReturn:
        self._received = signal.Signals(number)
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
        raise Stopped

    def _watch(self, reader: int) -> None:
        self._received = signal.Signals(os.read(reader, 1)[0])
        time.sleep(_GRACE_SECONDS)
        # On another thread: printing blocks for ever if it goes to a pipe that nobody reads.
        threading.Thread(target=self.leave_if_stopped, daemon=True).start()
        time.sleep(_GRACE_SECONDS / 4)
        os._exit(128 + self._received)


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads, which may wait for a response for a minute."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
