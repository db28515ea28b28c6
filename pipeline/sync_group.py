"""What syncs of several accounts in one process share."""

from collections.abc import Collection
from threading import Lock

from pipeline.lake.layout import Lake
from pipeline.lake.shared_ids import SharedIdsError, shared_ids_message
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
        """Compare a new account's newest operations with those of the other new accounts.

        What the archive has already is compared when it is scanned, see `SharedIds`. Accounts that are synced
        for the first time have nothing there. The first of two with the same operations goes on.

        Raises:
            SharedIdsError: another account of the group has the same operations.
            ApiError: the API can't be reached, or refuses the credentials.
        """
        account_id = settings.account_sid
        is_new = account_id not in self._lake.accounts(OPERATIONS.name)
        if len(self.account_ids) < 2 or not is_new or settings.allow_shared_ids:  # noqa: PLR2004 - a pair
            return
        ids = client.newest_ids()
        with self._lock:
            for other, theirs in self._newest.items():
                if shared := len(ids & theirs):
                    where = f"it also returned for {other}, which is synced at the same time"
                    raise SharedIdsError(shared_ids_message(account_id, shared, where))
            self._newest[account_id] = ids

    def close(self) -> None:
        """Close what the merges opened."""
        self.turn.close()
