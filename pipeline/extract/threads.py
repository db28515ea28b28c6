"""A pool of threads that is not waited for if the block that uses it ends by an exception."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(size: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool that is waited for when the block ends, unless it ends by an exception.

    A request may take a minute to time out; a run that is told to stop has seconds.
    """
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
