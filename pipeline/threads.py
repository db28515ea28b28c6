"""Threads that hold nobody up: who ends a block early does not wait for what is still under way."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final, TypeVar

_Result = TypeVar("_Result")

_SECONDS_BETWEEN_LOOKS: Final = 0.5
"""Python handles signals in the main thread alone, and one that came to another thread, or just before the
main thread began to wait, does not wake it: it would sleep until a request of another thread ends."""


@contextmanager
def workers(size: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that is waited for when the block ends, unless it ends by an exception.

    A request may take a minute to time out; a run that is told to stop has seconds.
    """
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def first_done(
    futures: Iterable[Future[_Result]],
) -> tuple[set[Future[_Result]], set[Future[_Result]]]:
    """Wait until one is done, and handle signals meanwhile: those that are done, and those that are not."""
    done, running = set[Future[_Result]](), set(futures)
    while running and not done:
        done, running = wait(running, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
    return done, running


def wait_for_all(futures: Iterable[Future[_Result]]) -> None:
    """Wait until all of them are done, and handle signals meanwhile; what one raises is raised at once."""
    running = set(futures)
    while running:
        done, running = wait(running, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_EXCEPTION)
        for one in done:
            one.result()
