"""Commands that call the API: `sync` and `verify`."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import logs
from pipeline.cli.options import (
    FAILED,
    WRONG_USE,
    AccountOption,
    DataOption,
    JsonOption,
    check_range,
    complain,
    data_setting,
    date_option,
    prepare,
)
from pipeline.errors import UsageError
from pipeline.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.accounts import Account
    from pipeline.quality.verify import Verification
    from pipeline.side_by_side import Outcome
    from pipeline.sync_accounts import AccountSync
    from pipeline.sync_report import SyncReport


SinceOption = Annotated[
    datetime | None, date_option("Scan operations created from this time on, due or not.")
]
UntilOption = Annotated[datetime | None, date_option("... and before this; by default up to now.")]
ComparedOption = Annotated[
    datetime | None,
    date_option("Compare operations created from this time on; by default 7 days ago."),
]
EverythingOption = Annotated[
    bool, typer.Option("--all", help="Scan everything that the API still has, due or not.")
]
PublishOption = Annotated[
    bool, typer.Option(help="Derive the delivery tables and the warehouse too.")
]
ClockOption = Annotated[
    bool,
    typer.Option(
        "--trust-clock", help="Use the API's clock even if it differs from this machine's."
    ),
]
WaitOption = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait for another sync of the same account; without, it is left to that one.",
    ),
]
SharedOption = Annotated[
    bool,
    typer.Option(
        "--allow-shared-ids", help="Store operations that the archive has under another account."
    ),
]


def sync(
    data: DataOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    everything: EverythingOption = False,
    since: SinceOption = None,
    until: UntilOption = None,
    publish: PublishOption = True,
    trust_clock: ClockOption = False,
    wait: WaitOption = False,
    allow_shared_ids: SharedOption = False,
) -> None:
    """Scan what is due and bring the archive up to date.

    Young operations are scanned often, old ones rarely, and all of them again before the API drops them.
    Run it often, for example every 10 minutes. When nothing is due,
    it makes one request, to read the API's clock, which it does not count.
    Several accounts are synced side by side.
    Exits with 1 if a window could not be scanned, a day not merged or an account not synced; everything
    else is still done.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

    Example: email-archive sync --json | jq .new
    """
    prepare()
    logs.stamp()
    from pipeline.accounts import load_accounts

    scope = _scope(everything, since, until)
    allowed = {"trust_clock": trust_clock, "allow_shared_ids": allow_shared_ids}
    overrides = data_setting(data) | {name: True for name, is_set in allowed.items() if is_set}
    accounts = load_accounts(**overrides)
    outcomes = _sync(
        accounts,
        overrides,
        account or [],
        scope,
        publishing=publish,
        waiting=wait,
        as_json=as_json,
    )
    _finish(outcomes, as_json=as_json)


def _sync(
    accounts: "Sequence[Account]",
    overrides: dict[str, Any],
    names: list[str],
    scope: Any,
    *,
    publishing: bool,
    waiting: bool,
    as_json: bool,
) -> "list[AccountSync]":
    """Sync the accounts of these names; show the progress, and what was done for each once it is done."""
    from pipeline.cli.progress import observing
    from pipeline.lake.layout import Lake
    from pipeline.settings import ArchiveSettings
    from pipeline.sync_accounts import sync_accounts

    active = [one.settings for one in accounts if one.settings]
    lake = Lake.of(active[0] if active else ArchiveSettings.load(**overrides))
    is_alone = len(accounts) == 1
    logs.name_accounts({} if is_alone else {one.sid: one.name for one in accounts})
    outcomes = []
    with observing() as observer:
        for outcome in sync_accounts(
            lake,
            accounts,
            names,
            scope=scope,
            publishing=publishing,
            waiting=waiting,
            observer=lambda one: observer("" if is_alone else one.name),
        ):
            outcomes.append(outcome)
            # At once: another account's server may hang.
            _write_outcome(outcome, is_alone=is_alone, as_json=as_json)
    return outcomes


def _finish(outcomes: "list[AccountSync]", *, as_json: bool) -> None:
    """Write the totals; exit with 1 or 2 if something failed."""
    from pipeline.cli.rendering import json_figures
    from pipeline.sync_accounts import totals

    if as_json:
        typer.echo(json_figures(totals(outcomes)))
    elif not outcomes:
        say("no account is active")
    failed = [outcome for outcome in outcomes if not outcome.ok]
    if failed and all(isinstance(outcome.error, UsageError) for outcome in outcomes):
        raise typer.Exit(WRONG_USE)
    if failed:
        raise typer.Exit(FAILED)


def _write_outcome(outcome: "AccountSync", *, is_alone: bool, as_json: bool) -> None:
    """What was done for an account, and what failed of it."""
    report = outcome.report
    if is_alone and outcome.error:
        raise outcome.error
    start = "" if is_alone else f"{outcome.account.name}: "
    if outcome.error:
        complain(f"{start}{outcome.error}")
    elif report is None:
        complain(f"{outcome.account} is being synced by another process: see --wait")
    else:
        if not as_json:
            _write_report(outcome.account, report)
        for failure in report.extraction.failures:
            complain(f"{start}window {failure.window} failed and stays due: {failure.error}")
        for failed in report.lookups.failures:
            what = f"{failed.pending.subject} of {failed.pending.operation_id}"
            complain(
                f"{start}lookup of {what} failed and is retried at growing intervals: {failed.error}"
            )
        for error in report.errors:
            complain(f"{start}not done: {error}")


def _write_report(account: "Account", report: "SyncReport") -> None:
    summary = report.summary()
    start = f"{logs.now()} " if logs.is_stamped() and not sys.stdout.isatty() else ""
    say(
        f"{start}{account}: {summary['operations_seen']} operations seen: {summary['new']} new, "
        f"{summary['changed']} changed, {summary['unchanged']} unchanged; "
        f"{summary['rejects']} rejects; {summary['requests']} requests, "
        f"{summary['retries']} retries; {summary['seconds']} s"
    )


def verify(
    data: DataOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    since: ComparedOption = None,
    until: UntilOption = None,
) -> None:
    """Compare the archive with the API; nothing is changed.

    The API is listed again.
    Exits with 1 if an operation is missing in the archive, or a window could not be listed.
    DATE is a day, as 2026-09-01, or a time, as 2026-09-01T14:30; both are UTC.

    Example: email-archive verify --since 2026-11-20 --until 2026-11-21
    """
    prepare()
    logs.stamp()
    from pipeline.accounts import active, load_accounts
    from pipeline.cli.progress import observing
    from pipeline.cli.rendering import json_figures
    from pipeline.quality.verify import verify as compare
    from pipeline.side_by_side import side_by_side

    configured = load_accounts(**data_setting(data))
    accounts = active(configured, account or [])
    is_alone = len(configured) == 1
    logs.name_accounts({} if is_alone else {one.sid: one.name for one in configured})
    if since and until:
        check_range(since, until)

    def work(one: "Account") -> "Verification":
        shown = observer("" if is_alone else one.name)
        try:
            return compare(one.usable_settings(), start=since, end=until, observer=shown)
        finally:
            shown.ended()

    with observing() as observer:
        outcomes = list(side_by_side(accounts, work))
    for outcome in outcomes:
        _write_comparison(outcome, is_alone=is_alone, as_json=as_json)
    figures = [_figures(outcome) for outcome in outcomes]
    is_ok = all(one["ok"] for one in figures)
    if as_json:
        own = figures[0] if len(figures) == 1 else {}
        typer.echo(json_figures(own | {"ok": is_ok, "accounts": figures}))
    if not is_ok:
        raise typer.Exit(FAILED)


def _write_comparison(outcome: "Outcome[Verification]", *, is_alone: bool, as_json: bool) -> None:
    """How an account compares, and what could not be compared."""
    from pipeline.cli.verification import write_verification

    start = "" if is_alone else f"{outcome.account.name}: "
    if outcome.result is None:
        if is_alone and outcome.error:
            raise outcome.error
        complain(f"{start}{outcome.error}")
        return
    if not as_json:
        if not is_alone:
            say(str(outcome.account))
        write_verification(outcome.result)
    for failure in outcome.result.failures:
        complain(f"{start}window {failure.window} failed: {failure.error}")


def _figures(outcome: "Outcome[Verification]") -> dict[str, Any]:
    about = {"account_id": outcome.account.sid, "name": outcome.account.name}
    if outcome.result is None:
        return about | {"ok": False, "error": str(outcome.error)}
    return about | outcome.result.as_json()


def _scope(everything: bool, since: datetime | None, until: datetime | None) -> Any:
    """What the options ask to scan, as a `Scope`."""
    from pipeline.sync import DUE, EVERYTHING, Range

    if since is None and until is None:
        return EVERYTHING if everything else DUE
    if everything or since is None:
        msg = "expected --all, or --since with or without --until"
        raise UsageError(msg)
    end = until or datetime.max.replace(tzinfo=UTC)
    check_range(since, end)
    return Range(since, end, must_be_retained=True)
