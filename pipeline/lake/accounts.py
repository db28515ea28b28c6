"""What the lake remembers of its accounts: their names, and which of them are retired.

Commands that only read an archive have neither the configuration nor credentials: they go by this. A
retired account is not synced any more. Its data stay, and from then on none of it counts as lost.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from pipeline.errors import UsageError
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition
from pipeline.model.schema import LAKE_TABLES
from pipeline.model.times import iso
from pipeline.model.values import ACCOUNT_SID
from pipeline.oserrors import explain

log = logging.getLogger(__name__)

FILE: Final = "accounts.json"


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account that was configured when the lake was written.

    Attributes:
        sid: the account.
        name: its name in the configuration; its SID without one.
        retired_at: since when it is retired, by this machine's clock; None if it is active.
        by_command: whether `email-archive accounts retire` retired it, and not its configuration.
    """

    sid: str
    name: str
    retired_at: datetime | None = None
    by_command: bool = False


def read_accounts(lake: Lake) -> dict[str, KnownAccount]:
    """The accounts that the lake remembers, by SID; none in a lake of an older version.

    A damaged file is only warned of: accounts are then active as configured.
    """
    try:
        return _read(lake)
    except LakeError as error:
        log.warning("retired accounts are not known: %s", error)
        return {}


def _read(lake: Lake) -> dict[str, KnownAccount]:
    """What the lake remembers, by SID.

    Raises:
        LakeError: the file is damaged, or can't be read.
    """
    file = lake.root / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {sid: _account(sid, fields) for sid, fields in sorted(found.items())}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        msg = f"{file} can't be read: {explain(error, file)}"
        raise LakeError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = (
            f"{file} is damaged ({error}). Remove it: the next sync writes a new one. Then retire accounts "
            "again that are not synced any more, with `email-archive accounts retire`"
        )
        raise LakeError(msg) from error


def retired_accounts(lake: Lake) -> set[str]:
    """The SIDs of the retired accounts."""
    return {one.sid for one in read_accounts(lake).values() if one.retired_at}


def known_accounts(lake: Lake) -> dict[str, KnownAccount]:
    """Every account that the lake remembers or has data of, by SID."""
    folders = ("landing", *(table.name for table in LAKE_TABLES))
    stored = {sid: KnownAccount(sid, sid) for folder in folders for sid in lake.accounts(folder)}
    known = stored | read_accounts(lake)
    return dict(sorted(known.items()))


def accounts_named(lake: Lake, names: Iterable[str]) -> list[KnownAccount]:
    """The accounts with these SIDs or names; all if no name is given.

    Raises:
        UsageError: the archive has none of that name; the message names those that there are.
    """
    known, wanted = known_accounts(lake).values(), set(names)
    for name in sorted(wanted - {one.sid for one in known} - {one.name for one in known}):
        there = ", ".join(f"{one.name} ({one.sid})" for one in known) or "none"
        msg = f"the archive has no account {name!r}; it has: {there}"
        raise UsageError(msg)
    return [one for one in known if not wanted or wanted & {one.sid, one.name}]


def account_named(lake: Lake, name: str) -> KnownAccount:
    """The one account with this SID or name.

    Raises:
        UsageError: the archive has none of that name, or several.
    """
    found = accounts_named(lake, [name])
    if len(found) > 1:
        msg = f"several accounts are named {name}; expected a SID: {', '.join(one.sid for one in found)}"
        raise UsageError(msg)
    return found[0]


def note_accounts(
    lake: Lake, active: Mapping[str, bool], names: Mapping[str, str], now: datetime
) -> None:
    """Remember the configured accounts; what `accounts retire` retired stays so.

    A damaged file is left as it is: `read_accounts` warns of it.

    Args:
        lake: the archive.
        active: for each configured account whether the configuration says that it is active.
        names: their names.
        now: this machine's time.
    """

    def noted(known: dict[str, KnownAccount]) -> Iterable[KnownAccount]:
        for sid, is_active in active.items():
            account = replace(known.get(sid, KnownAccount(sid, sid)), name=names[sid])
            if not is_active:
                account = replace(account, retired_at=account.retired_at or now)
            elif not account.by_command:
                account = replace(account, retired_at=None)
            yield account

    with suppress(LakeError):
        _change(lake, noted)


def retire(lake: Lake, account: KnownAccount, now: datetime) -> None:
    """Remember that an account is retired.

    Raises:
        LakeError: what the lake remembers is damaged.
    """
    _change(lake, lambda _: [replace(account, retired_at=now, by_command=True)])


def resume(lake: Lake, account: KnownAccount) -> None:
    """Remember that a retired account is active again.

    Raises:
        LakeError: what the lake remembers is damaged.
    """
    _change(lake, lambda _: [replace(account, retired_at=None, by_command=False)])


def partitions_merged_by(
    lake: Lake, account_id: str, beside: Collection[str] = ()
) -> Callable[[Partition], bool]:
    """A function that returns whether a sync of this account merges and derives a partition.

    It does so for the account's own partitions, and for those of accounts that are not synced any more. Those
    of another active account are left to that account's sync (R12). If the file of the accounts is damaged,
    only its own are included.

    Args:
        lake: the archive.
        account_id: the account.
        beside: accounts that are synced at the same time: a new archive does not know them yet.
    """
    try:
        known = _read(lake)
    except LakeError:
        return lambda partition: partition.account_id == account_id
    active = {one.sid for one in known.values() if not one.retired_at}
    others = {*active, *beside} - {account_id}
    return lambda partition: partition.account_id not in others


def _change(
    lake: Lake, changed: Callable[[dict[str, KnownAccount]], Iterable[KnownAccount]]
) -> None:
    with lake.files.locked(lake.lock_file("accounts"), f"the accounts of {lake.root}"):
        known = _read(lake)
        wanted = known | {one.sid: one for one in changed(known)}
        if wanted == known:
            return
        text = json.dumps({sid: _fields(one) for sid, one in wanted.items()}, indent=2)
        with lake.files.replacing(lake.root / FILE, lake.temporary_file(FILE)) as file:
            file.write(text.encode())


def _fields(account: KnownAccount) -> dict[str, object]:
    fields = asdict(account) | {"retired_at": account.retired_at and iso(account.retired_at)}
    del fields["sid"]
    return fields


def _account(sid: str, fields: Mapping[str, object]) -> KnownAccount:
    if not ACCOUNT_SID.fullmatch(sid):
        msg = f"expected account SIDs, got {sid[:40]!r}"
        raise ValueError(msg)
    retired_at = fields["retired_at"]
    return KnownAccount(
        sid,
        str(fields["name"]),
        datetime.fromisoformat(str(retired_at)) if retired_at else None,
        by_command=bool(fields["by_command"]),
    )
