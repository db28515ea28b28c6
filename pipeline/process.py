"""How a program of its own uses its process: for its rim, before anything heavy is imported."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Final

import pyarrow as pa

_SELDOM: Final = 50_000


def prepare() -> None:
    """Let Arrow use the allocator that suits folding and no pandas, and look for cycles seldom."""
    _choose_allocator()
    _leave_pandas_alone()
    # Modules and pages are many objects and no cycles: looking for these took a thirtieth of a load's time.
    gc.set_threshold(_SELDOM, 20, 20)


@contextmanager
def for_whole_days() -> Iterator[None]:
    """In a program that is prepared, take memory meanwhile as suits tables of a whole day.

    Columns of many pages of memory are made and dropped there. mimalloc has the system give them in huge
    pages: a fifth of the page faults, and up to a fifth of a rescan's processor time less, for a few MB more.
    For the small columns of the API's pages jemalloc takes less. What another thread asks for meanwhile
    comes from here too, which does no harm: each buffer knows where it came from.
    """
    usual = pa.default_memory_pool()
    # Anything else than jemalloc is the program's own choice, or says that another thread is in here.
    if usual.backend_name != "jemalloc" or "mimalloc" not in pa.supported_memory_backends():
        yield
        return
    pool = pa.mimalloc_memory_pool()
    pa.set_memory_pool(pool)
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
        pool.release_unused()


def give_back_memory() -> None:
    """Return to the system what Arrow no longer uses: between days, so that they don't add up."""
    pa.default_memory_pool().release_unused()


def _choose_allocator() -> None:
    """Use jemalloc, which keeps freed memory for a while and takes the least; else the system's allocator.

    Arrow's default gives memory back so eagerly that the tables of a day, made and dropped one after the
    other, are mostly paid for in page faults: folding 500,000 operations took twice as long.
    """
    try:
        pool = pa.jemalloc_memory_pool()
    except NotImplementedError:
        pool = pa.system_memory_pool()
    pa.set_memory_pool(pool)


def _leave_pandas_alone() -> None:
    """Keep Arrow from importing pandas for the first list that it is given, to see whether it is a series.

    That takes longer than all else that a sync with nothing due does, and 40 MB. Whoever asks for a data
    frame later gets one, since Arrow imports pandas then; until then it takes a series for any sequence, and
    its missing values for numbers. So this is for programs that hand none to Arrow.
    """
    if "pandas" not in sys.modules:
        finder = _NoPandas()
        sys.meta_path.insert(0, finder)
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)


class _NoPandas(MetaPathFinder):
    """Has an import of pandas fail, as if it were not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Find nothing, and for pandas let nobody else look."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)
