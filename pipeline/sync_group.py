"""What syncs of several accounts in one process share."""

from collections.abc import Collection
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake.layout import Lake
from pipeline.lake.shared_ids import SharedIds, SharedIdsError, shared_ids_message
from pipeline.merge_runner import MergeTurn
from pipeline.model.schema import OPERATIONS
from pipeline.settings import Settings
from pipeline.twilio.client import OperationsClient


class SyncGroup:
    """Syncs that run at the same time.

    Args:
        lake: the archive of all of them.
        account_ids: the accounts; what landed for one is left to its own sync.

    Attributes:
        turn: held while days are merged, and while tables are derived and published; never while the API is
            waited for.
        account_ids: the accounts.
    """

    def __init__(self, lake: Lake, account_ids: Collection[str] = ()) -> None:
        self.turn = MergeTurn(lake)
        self.account_ids = frozenset(account_ids)
        self._lake = lake
        self._lock = Lock()
        self._newest: dict[str, set[str]] = {}

    def check_is_another(self, client: OperationsClient, settings: Settings) -> None:
        """Compare some operations of a new account with those of the other accounts, before anything lands.

        Other new accounts have nothing in the archive yet: the first of two with the same operations goes on.
        All operations of the account are compared with the archive when they are scanned, see `SharedIds`.

        Raises:
            SharedIdsError: another account has the same operations.
            ApiError: the API can't be reached, or refuses the credentials.
        """
        account_id = settings.account_sid
        stored = set(self._lake.accounts(OPERATIONS.name))
        others = (stored | self.account_ids) - {account_id}
        if not others or account_id in stored or settings.allow_shared_ids:
            return
        operations = client.any_operations()
        archived = SharedIds(self._lake, account_id)
        days = pc.cast(operations["created_at"], pa.date32())
        for day in days.unique().to_pylist():
            archived.check(day, operations.filter(pc.equal(days, day)))
        ids = set(operations["operation_id"].to_pylist())
        with self._lock:
            for other, theirs in self._newest.items():
                if shared := len(ids & theirs):
                    where = f"it also returned for {other}, which is synced at the same time"
                    raise SharedIdsError(shared_ids_message(account_id, shared, where))
            self._newest[account_id] = ids

    def close(self) -> None:
        """Close what the merges opened."""
        self.turn.close()
