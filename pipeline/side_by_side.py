"""The same work for several accounts at once; the failure of one changes nothing for the others (R12)."""

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
    """What the work for an account came to.

    Attributes:
        account: the account.
        result: what was returned; None if it failed.
        error: why it failed; None if it did not.
    """

    account: Account
    result: T | None = None
    error: Exception | None = None


def side_by_side(accounts: Sequence[Account], work: Callable[[Account], T]) -> Iterator[Outcome[T]]:
    """Work for each account on a thread of its own; give each outcome as it is done.

    The work for a single account is done in the calling thread: a signal ends it there and then. Threads are
    not waited for if the caller stops, or is stopped.
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
