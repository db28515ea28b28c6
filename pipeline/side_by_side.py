"""Runs a function for several accounts at once. One that fails does not affect the others (R12)."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pipeline.accounts import Account
from pipeline.errors import ArchiveError
from pipeline.extract.threads import workers
from pipeline.lake import engine

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE: Final = 4
"""Accounts that are worked for at once. 20 threads take 1.45 times the memory of one account and no less
time; 4 take 1.2 to 1.35 times."""

LONGEST_WAIT: Final = 10.0
"""Seconds."""


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


def side_by_side(
    accounts: Sequence[Account], work: Callable[[Account], T], *, longest_wait: float = LONGEST_WAIT
) -> Iterator[Outcome[T]]:
    """Work for several accounts at once, each on a thread; yield each outcome as soon as it is there.

    The work for a single account is done in the calling thread: a signal ends it there and then. Threads are
    not waited for if the caller stops, or is stopped.

    Args:
        accounts: the accounts.
        work: what to do for each.
        longest_wait: seconds without an outcome after which one more account than `AT_ONCE` is begun.
    """
    if len(accounts) == 1:
        yield _outcome(accounts[0], work)
        return
    left, limit = deque(accounts), AT_ONCE
    running: set[Future[Outcome[T]]] = set()
    with workers(max(len(accounts), 1), "account") as pool:
        while left or running:
            while left and len(running) < limit:
                running.add(pool.submit(_outcome, left.popleft(), work))
            done, running = wait(running, longest_wait if left else None, FIRST_COMPLETED)
            limit += not done  # those that run may hang (R12)
            for future in done:
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
