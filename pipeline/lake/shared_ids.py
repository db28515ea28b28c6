"""The guard against a wrong label: operations that the archive has under another account.

With an API key the account SID is never sent, so a wrong one would store everything twice, and a comparison
with the API would find no difference.
"""

import logging
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ArchiveError
from pipeline.lake import parquet
from pipeline.lake.accounts import read_accounts
from pipeline.lake.layout import Lake, LakeError
from pipeline.model.records import Partition, Scan
from pipeline.model.schema import OPERATIONS

log = logging.getLogger(__name__)


class SharedIdsError(ArchiveError):
    """The API returned operations that the archive has under another account."""


class SharedIds:
    """Checks the first scans of each day in a run, before they land.

    A day is done with once a scan of it has an operation that the archive has under the account itself.

    Args:
        lake: the archive.
        account_id: the account that the run syncs.
    """

    def __init__(self, lake: Lake, account_id: str) -> None:
        self._lake = lake
        self._account_id = account_id
        self._others = [one for one in lake.accounts(OPERATIONS.name) if one != account_id]
        self._done: set[date] = set()

    def check(self, scan: Scan) -> None:
        """Check a scan.

        Raises:
            SharedIdsError: the archive has some of its operations under another account.
        """
        day, ids = scan.facts.window.day, scan.operations["operation_id"]
        if not self._others or not len(ids) or day in self._done:
            return
        for other in self._others:
            if shared := self._count(Partition(other, day), ids):
                raise SharedIdsError(self._message(other, shared))
        if self._count(Partition(self._account_id, day), ids):
            self._done.add(day)

    def _count(self, partition: Partition, ids: pa.ChunkedArray) -> int:
        """How many of the ids the archive has in a partition; none, with a warning, if it can't be read."""
        try:
            file = self._lake.part(OPERATIONS, partition)
            stored = parquet.read(file, OPERATIONS.arrow, ["operation_id"])["operation_id"]
        except LakeError as error:
            log.warning("its operations are not compared: %s", error, extra=partition.fields())
            return 0
        return pc.sum(pc.is_in(ids, value_set=stored)).as_py() or 0

    def _message(self, other: str, shared: int) -> str:
        known = read_accounts(self._lake)
        under = f"{known[other].name} ({other})" if other in known else other
        return (
            f"the API returned {shared} operations for {self._account_id} that the archive has under "
            f"{under}; they are not stored. Either the credentials are those of the other account, or the "
            "SID is wrong: with an API key it is never sent, and only labels the data. If both accounts "
            "really have these operations, use --allow-shared-ids or EMAIL_ARCHIVE_ALLOW_SHARED_IDS=true"
        )
