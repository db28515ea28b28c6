"""Sentences about active accounts that are not synced any more."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pipeline.model.windows import RETENTION, SLOT, deadline

if TYPE_CHECKING:
    from pipeline.quality.status import AccountStatus

_SHOWN_NAMES: Final = 5


def unsynced_warnings(accounts: Sequence["AccountStatus"], now: datetime) -> tuple[str, ...]:
    """At most two sentences: since when accounts are not synced, what is lost, and what to do.

    Args:
        accounts: all accounts that the status is about.
        now: the moment of the status; UTC.
    """
    late = [one for one in accounts if one.retired_at is None and one.unsynced]
    stopped = [one for one in late if one.last_scan_at is not None]
    never = [one for one in late if one.last_scan_at is None]
    found = []
    if stopped:
        is_one = len(stopped) == 1
        verb = (
            "was last synced at" if is_one else "are not synced any more, the first of them since"
        )
        found.append(f"{_names(stopped)} {verb} {_loss(stopped, now)}; {_advice(stopped)}.")
    if never:
        keeps = f"the API keeps operations for {RETENTION.days} days, what is older is lost"
        was = "was" if len(never) == 1 else "were"
        found.append(f"{_names(never)} {was} never synced: {keeps}; {_advice(never)}.")
    return tuple(found)


def _loss(stopped: Sequence["AccountStatus"], now: datetime) -> str:
    """The time of the last sync, and what is lost since."""
    since = min(one.last_scan_at for one in stopped if one.last_scan_at is not None)
    text = f"{since:%Y-%m-%d %H:%M} UTC, {_duration(now, since)} ago"
    lost = [slot.slot for one in stopped for slot in one.lost]
    if lost:
        created = (
            f"created from {min(lost):%Y-%m-%d %H:%M} to {max(lost) + SLOT:%Y-%m-%d %H:%M} UTC"
        )
        hours = f"{len(lost):,} hours, and another one every hour"
        return f"{text}: the operations {created} are lost ({hours})"
    return (
        f"{text}: nothing is lost yet, but from {deadline(since):%Y-%m-%d %H:%M} UTC on the API drops "
        "what was created since then"
    )


def _advice(accounts: Sequence["AccountStatus"]) -> str:
    name = accounts[0].name if len(accounts) == 1 else "NAME"
    return (
        "run `email-archive sync` now and then every 10 minutes, or, if the account is not used any more, "
        f"`email-archive accounts retire {name}`"
    )


def _names(accounts: Sequence["AccountStatus"]) -> str:
    names = [one.name for one in accounts]
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _duration(now: datetime, since: datetime) -> str:
    hours = int((now - since).total_seconds() // 3600)
    return f"{hours} hours" if hours < 48 else f"{hours // 24:,} days"  # noqa: PLR2004 - two days
