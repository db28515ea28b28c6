"""SIGTERM and Ctrl-C: a run ends at once and cleanly, within seconds.

What landed is in the archive, what did not is still due (R5): so a run that is told to stop drops the
scans under way, removes its unfinished file and leaves. The next one goes on where it was.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS: Final = 4.0
"""Time to end cleanly. What still hangs then, in the kernel or in a library, is killed: that is safe."""


class Interruption(BaseException):
    """The process was told to stop; no handler of errors must hold it up."""


class Interruptions:
    """What signal, if any, told this process to stop.

    Args:
        say: tells whoever watches that the process ends, and why.

    Attributes:
        received: the signal; None until one came.
    """

    def __init__(self, say: Callable[[signal.Signals], None]) -> None:
        self._say = say
        self.received: signal.Signals | None = None

    def stop(self, number: int, _: FrameType | None) -> None:
        """Handle a signal: raise `Interruption` where the main thread is."""
        self.received = signal.Signals(number)
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_DFL)  # whoever asks again means at once
        watch = threading.Timer(_GRACE_SECONDS, self.leave)
        watch.daemon = True
        watch.start()
        # The last resort, where not even a thread gets a turn.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS + 0.5)
        raise Interruption

    def leave(self) -> NoReturn:
        """End the process as signals do: 128 and the signal's number."""
        number = self.received or signal.SIGTERM
        self._say(number)
        leave(128 + number)


@contextmanager
def interruptible(say: Callable[[signal.Signals], None]) -> Iterator[Interruptions]:
    """Turn SIGTERM and Ctrl-C into an `Interruption` while the block lasts.

    A library may answer it with an exception of its own (DuckDB does), or go on for a while: `received`
    tells, and the process ends in any case.
    """
    interruptions = Interruptions(say)
    before = {one: signal.signal(one, interruptions.stop) for one in _SIGNALS}
    try:
        yield interruptions
    finally:
        if interruptions.received is None:
            for one, handler in before.items():
                signal.signal(one, handler)


def leave(code: int) -> NoReturn:
    """End the process with an exit code, without waiting for threads.

    A thread that a run gave up may wait for an answer for a minute; it holds nothing that lasts.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
