"""The main job for several accounts at once, each with its client, limiter, budget and failures (R12)."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

from pipeline.accounts import Account, active, remember
from pipeline.extract.api_clock import machine_time
from pipeline.lake.layout import Lake
from pipeline.observer import Observer
from pipeline.side_by_side import side_by_side
from pipeline.sync import DUE, Scope, sync
from pipeline.sync_group import SyncGroup
from pipeline.sync_report import SyncReport

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccountSync:
    """What a sync did for one account.

    Attributes:
        account: the account.
        report: what was done; None if it failed, or if another sync of the account is under way.
        error: why it failed; None if it did not.
    """

    account: Account
    report: SyncReport | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed. An account that another sync is working on has not failed."""
        return self.error is None and (self.report is None or self.report.ok)

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON."""
        about = {
            "account_id": self.account.sid,
            "name": self.account.name,
            "ok": self.ok,
            "is_being_synced": self.report is None and self.error is None,
            "error": None if self.error is None else str(self.error),
        }
        return about | (self.report.summary() if self.report else {})


def sync_accounts(
    lake: Lake,
    configured: Sequence[Account],
    names: Sequence[str] = (),
    *,
    scope: Scope = DUE,
    publishing: bool = True,
    waiting: bool = False,
    observer: Callable[[Account], Observer] = lambda _: Observer(),
    sleep: Callable[[float], object] | None = None,
    wall_clock: Callable[[], datetime] = machine_time,
) -> Iterator[AccountSync]:
    """Sync the active accounts side by side; yield the result of each as soon as it is there.

    Each is published when it is done, so that an account whose server hangs delays no other. Only one account
    at a time merges or publishes: several would take more memory and not less time.

    Args:
        lake: the archive of all of them.
        configured: the accounts, as of `load_accounts`.
        names: the SIDs or names of those to sync; all if empty.
        scope: what to scan, for each of them.
        publishing: whether to derive the delivery tables and publish the warehouse.
        waiting: whether to wait for another sync of the same account; if not, it is left to that one.
        observer: gives the observer of each account's steps.
        sleep: as of `sync`.
        wall_clock: as of `sync`.

    Raises:
        UsageError: a name is that of no account, or of a retired one.
        LakeError: a newer version wrote the archive.
    """
    accounts = active(configured, names)
    _remember(lake, configured, wall_clock)
    group = SyncGroup(lake, [account.sid for account in accounts])
    sync_one = partial(
        sync,
        scope=scope,
        publishing=publishing,
        files=lake.files,
        sleep=sleep,
        wall_clock=wall_clock,
        group=group,
    )
    work = partial(_sync_account, lake, sync_one, observer, waiting)
    with closing(group):
        for outcome in side_by_side(accounts, work):
            yield AccountSync(outcome.account, outcome.result, outcome.error)
    _remember(lake, configured, wall_clock)


def _sync_account(
    lake: Lake,
    sync_one: Callable[..., SyncReport],
    observer: Callable[[Account], Observer],
    waiting: bool,  # noqa: FBT001 - an argument of `partial`
    account: Account,
) -> SyncReport | None:
    """Sync one account; None if another process is syncing it."""
    settings = account.usable_settings()
    with _held(lake, account, waiting=waiting) as is_ours:
        if not is_ours:
            log.info("%s is being synced by another process", account)
            return None
        shown = observer(account)
        try:
            return sync_one(settings, observer=shown)
        finally:
            shown.ended()


def totals(outcomes: Sequence[AccountSync]) -> dict[str, object]:
    """The figures of all accounts together, ready for JSON, with those of each in ``accounts``.

    Those of a single account are its own.
    """
    reports = [one.report.summary() for one in outcomes if one.report]
    sums = reports[0] if len(reports) == 1 else _sums(reports)
    each = [one.summary() for one in outcomes]
    return sums | {"ok": all(one.ok for one in outcomes), "accounts": each}


def _sums(reports: Sequence[dict[str, object]]) -> dict[str, object]:
    """The sums of all figures; zeros and empty lists without any report."""
    sums: dict[str, object] = {}
    for name, nothing in SyncReport.nothing().items():
        values: list[Any] = [report[name] for report in reports]
        match nothing:
            case bool():
                sums[name] = any(values)
            case int():
                sums[name] = sum(values)
            case float():
                sums[name] = max(values, default=0.0)  # seconds, of syncs that ran side by side
            case list():
                sums[name] = list(chain(*values))
            case dict():
                sums[name] = _added(values)
    if reports:
        sums["foreign_files"] = reports[-1]["foreign_files"]  # those of the whole archive
    return sums


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """The counts of all, zeros included."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)


def _remember(lake: Lake, accounts: Sequence[Account], wall_clock: Callable[[], datetime]) -> None:
    if lake.exists():  # a new one is made once the API has answered
        remember(lake.must_exist(), accounts, wall_clock())


@contextmanager
def _held(lake: Lake, account: Account, *, waiting: bool) -> Iterator[bool]:
    """Hold the lock of an account's syncs, which the system frees if this process dies."""
    lock_file = lake.sync_lock(account.sid)
    if waiting:
        with lake.files.locked(lock_file, f"the sync of {account}"):
            yield True
    else:
        with lake.files.locked_if_free(lock_file) as is_ours:
            yield is_ours
