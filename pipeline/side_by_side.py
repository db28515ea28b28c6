"""Runs a function for several accounts at once. One that fails does not affect the others (R12)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.accounts import Account
from pipeline.errors import ArchiveError
from pipeline.extract.threads import workers
from pipeline.lake import engine

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The result of the function for one account.

    Attributes:
        account: the account.
        result: what the function returned; None if it failed.
        error: the exception that it raised; None if it succeeded.
    """

    account: Account
    result: T | None = None
    error: Exception | None = None


def side_by_side(accounts: Sequence[Account], work: Callable[[Account], T]) -> Iterator[Outcome[T]]:
    """Call `work` for each account, in a thread each; yield each outcome when it is there.

    For a single account it is called in this thread, so that a signal ends it at once. If the caller stops
    iterating, or a signal stops it, the threads are not waited for.
    """
    if len(accounts) == 1:
        yield _outcome(accounts[0], work)
        return
    with workers(max(len(accounts), 1), "account") as pool:
        for future in as_completed([pool.submit(_outcome, one, work) for one in accounts]):
            outcome = future.result()
            if outcome.error and not isinstance(outcome.error, ArchiveError | OSError):
                log.error("%s failed", outcome.account, exc_info=outcome.error)
            yield outcome


def _outcome(account: Account, work: Callable[[Account], T]) -> Outcome[T]:
    try:
        return Outcome(account, work(account))
    except Exception as error:
        if engine.was_interrupted(error):
            raise
        return Outcome(account, error=error)
