"""A pool of threads that is not waited for if the block that uses it ends by an exception."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(size: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread pool. The end of the block waits for its threads, unless an exception ends the block.

    A request may take a minute to time out, and an interrupted run has to end within seconds.
    """
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
