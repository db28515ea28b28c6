"""Detects a wrong account SID: operations that the archive already has under another account.

With an API key the account SID is never sent, so a wrong one would store everything twice, and a comparison
with the API would find no difference.
"""

import logging
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArchiveError
from pipeline.lake import parquet
from pipeline.lake.accounts import read_accounts
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS

log = logging.getLogger(__name__)


class SharedIdsError(ArchiveError):
    """The API returned operations that the archive has under another account."""


class SharedIds:
    """Checks the first operations of each day in a run, before they land.

    A day is not checked any more once a scan of it has an operation that the archive has under this account.

    Args:
        lake: the archive.
        account_id: the account that the run syncs.
    """

    def __init__(self, lake: Lake, account_id: str) -> None:
        self._lake = lake
        self._account_id = account_id
        self._others = [one for one in lake.accounts(OPERATIONS.name) if one != account_id]
        self._done: set[date] = set()
        self._mixed: set[str] = set()

    def check(self, day: date, operations: pa.Table) -> None:
        """Check operations of a day. Accounts that share some in the archive already only cause a warning.

        Raises:
            SharedIdsError: the archive has some of the operations under another account, and none of
                them under the account itself.
        """
        ids = operations["operation_id"]
        if not self._others or not len(ids) or day in self._done:
            return
        is_own = self._count(Partition(self._account_id, day), ids) > 0
        for other in self._others:
            shared = 0 if other in self._mixed else self._count(Partition(other, day), ids)
            if shared and not is_own and not self._share_stored(other):
                where = f"the archive has under {self._name(other)}"
                raise SharedIdsError(shared_ids_message(self._account_id, shared, where))
            if shared:
                self._mixed.add(other)
                log.warning(
                    "the archive has %d operations under %s and under %s: one of them has the other's "
                    "credentials or a wrong SID. See docs/accounts.md on how to remove the copies",
                    shared,
                    self._account_id,
                    self._name(other),
                )
        if is_own:
            self._done.add(day)

    def _share_stored(self, other: str) -> bool:
        """Whether the archive has operations of the account under another one too, on any day."""
        days = {one.day for one in self._stored(other)} & {
            one.day for one in self._stored(self._account_id)
        }
        return any(
            self._count(Partition(other, day), self._ids(Partition(self._account_id, day)))
            for day in sorted(days, reverse=True)
        )

    def _stored(self, account_id: str) -> Iterator[Partition]:
        return (
            one for one in self._lake.partitions(OPERATIONS.name) if one.account_id == account_id
        )

    def _count(self, partition: Partition, ids: pa.ChunkedArray) -> int:
        """How many of the ids the archive has in a partition."""
        return pc.sum(pc.is_in(ids, value_set=self._ids(partition))).as_py() or 0

    def _ids(self, partition: Partition) -> pa.ChunkedArray:
        """The ids of a partition; none, with a warning, if it can't be read."""
        try:
            file = self._lake.part(OPERATIONS, partition)
            return parquet.read(file, OPERATIONS.arrow, ["operation_id"])["operation_id"]
        except LakeError as error:
            log.warning("its operations are not compared: %s", error, extra=partition.fields())
            return OPERATIONS.arrow.empty_table()["operation_id"]

    def _name(self, account_id: str) -> str:
        known = read_accounts(self._lake)
        return f"{known[account_id].name} ({account_id})" if account_id in known else account_id


def shared_ids_message(account_id: str, shared: int, where: str) -> str:
    """Say that operations of an account are another one's, and what to do.

    Args:
        account_id: the account.
        shared: how many operations.
        where: where they are too, after "operations that".
    """
    return (
        f"the API returned {shared} operations for {account_id} that {where}; they are not stored. Either "
        "the credentials are those of the other account, or the SID is wrong: with an API key it is never "
        "sent, and only labels the data. If both accounts really have these operations, use "
        "--allow-shared-ids or EMAIL_ARCHIVE_ALLOW_SHARED_IDS=true"
    )
