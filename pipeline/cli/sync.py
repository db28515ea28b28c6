"""Commands that call the API: `sync` and `verify`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.options import (
    FAILED,
    TIMES,
    DataOption,
    JsonOption,
    check_range,
    complain,
    data_setting,
    prepare,
    utc,
)
from pipeline.errors import UsageError
from pipeline.terminal import say

if TYPE_CHECKING:
    from pipeline.sync_report import SyncReport


def sync(
    data: DataOption = None,
    as_json: JsonOption = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Scan everything that the API still has, due or not.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Scan operations created from this time on (UTC), due or not.", formats=TIMES
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="... and before this; by default up to now.", formats=TIMES),
    ] = None,
    publish: Annotated[
        bool, typer.Option(help="Derive the delivery tables and the warehouse too.")
    ] = True,
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock", help="Use the API's clock even if it differs from this machine's."
        ),
    ] = False,
) -> None:
    """Scan what is due and bring the archive up to date.

    Young operations are scanned often, old ones rarely, and all of them again before the API drops them.
    Run it often, for example every 10 minutes. It makes one request when nothing is due.
    Exits with 1 if a window could not be scanned or a day not merged; everything else is still done.

    Example: email-archive sync --json | jq .new
    """
    prepare()
    from pipeline.cli.console import observing
    from pipeline.cli.rendering import json_figures
    from pipeline.settings import Settings
    from pipeline.sync import sync as run

    trusting = {"trust_clock": True} if trust_clock else {}
    settings = Settings.load(**data_setting(data), **trusting)
    scope = _scope(everything, since, until)
    with observing() as observer:
        report = run(settings, scope=scope, observer=observer, publishing=publish)
    if as_json:
        typer.echo(json_figures(report.summary()))
    else:
        say(_sentence(report))
    _exit_if_failed(report)


def _sentence(report: "SyncReport") -> str:
    figures = report.summary()
    return (
        f"{report.account_id}: {figures['operations_seen']} operations seen: {figures['new']} new, "
        f"{figures['changed']} changed, {figures['unchanged']} unchanged; "
        f"{figures['rejects']} rejects; {figures['requests']} requests, "
        f"{figures['retries']} retries; {figures['seconds']} s"
    )


def _exit_if_failed(report: "SyncReport") -> None:
    for failure in report.extraction.failures:
        complain(f"window {failure.window} failed and stays due: {failure.error}")
    for failed in report.lookups.failures:
        what = f"{failed.pending.subject} of {failed.pending.operation_id}"
        complain(f"lookup of {what} failed and is retried at growing intervals: {failed.error}")
    for error in report.errors:
        complain(f"not done: {error}")
    if not report.ok:
        raise typer.Exit(FAILED)


def verify(
    data: DataOption = None,
    as_json: JsonOption = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Compare operations created from this time on (UTC); by default 7 days ago.",
            formats=TIMES,
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="... and before this; by default up to now.", formats=TIMES),
    ] = None,
) -> None:
    """List the API again and compare it with the archive; nothing is changed.

    Exits with 1 if an operation is missing in the archive, or a window could not be listed.

    Example: email-archive verify --since 2026-11-20 --until 2026-11-21
    """
    prepare()
    from pipeline.cli import console
    from pipeline.cli.rendering import json_figures
    from pipeline.quality.verify import verify as compare
    from pipeline.settings import Settings

    settings = Settings.load(**data_setting(data))
    start, end = utc(since), utc(until)
    if start and end:
        check_range(start, end)
    with console.observing() as observer:
        found = compare(settings, start=start, end=end, observer=observer)
    if as_json:
        typer.echo(json_figures(found.as_json()))
    else:
        console.write_verification(found)
    for failure in found.failures:
        complain(f"window {failure.window} failed: {failure.error}")
    if not found.ok:
        raise typer.Exit(FAILED)


def _scope(everything: bool, since: datetime | None, until: datetime | None) -> Any:
    """What the options ask to scan, as a `Scope`."""
    from pipeline.sync import DUE, EVERYTHING, Range

    if since is None and until is None:
        return EVERYTHING if everything else DUE
    if everything or since is None:
        msg = "expected --all, or --since with or without --until"
        raise UsageError(msg)
    start = since.replace(tzinfo=UTC)
    end = utc(until) or datetime.max.replace(tzinfo=UTC)
    check_range(start, end)
    return Range(start, end)
