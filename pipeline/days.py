"""What many days need between scanning and publishing: folding, sealing, their delivery tables.

One day that can't be done never keeps the others from it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Self, TypeAlias

from pipeline.facts import Partition
from pipeline.lake.compact import can_be_compacted, compact
from pipeline.lake.day import connect
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.merge import MergeReport, merge
from pipeline.marts.summarize import mark_outdated, summarize, summarize_merged

log = logging.getLogger(__name__)

OnFold: TypeAlias = Callable[[MergeReport], None]
"""Is told of a day that was folded."""


@dataclass(frozen=True, slots=True)
class Folding:
    """What folding many days did.

    Attributes:
        folds: the days that were folded.
        failures: days whose files could not be folded, and why; they are left as they are.
    """

    folds: tuple[MergeReport, ...] = ()
    failures: Mapping[Partition, LakeError] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[LakeError, ...]:
        """Why days could not be folded."""
        return tuple(self.failures.values())

    def __add__(self, later: "Folding") -> "Folding":
        """Both, without failures that are gone by then."""
        mended = {report.partition for report in later.folds}
        before = {day: error for day, error in self.failures.items() if day not in mended}
        return Folding(self.folds + later.folds, before | dict(later.failures))


@dataclass(frozen=True, slots=True)
class Sealing:
    """What sealing old days did.

    Attributes:
        sealed: how many days were sealed.
        errors: what could not be sealed, and why; it stays as it is.
    """

    sealed: int
    errors: tuple[LakeError, ...]


def fold_pending(
    lake: Lake, on_fold: OnFold | None = None, *, summarizing: bool = False
) -> Folding:
    """Fold every day that has something to fold, what earlier runs left included.

    Args:
        lake: the archive.
        on_fold: is told of each day.
        summarizing: whether each day's delivery tables are derived too, while its tables are at hand.
            What can't be derived stays due for `summarize_pending`.
    """
    pending = sorted(lake.pending())
    if not pending:
        return Folding()
    with Folder(lake, on_fold, summarizing=summarizing) as folder:
        for partition in pending:
            folder.fold(partition)
    return folder.done


class Folder:
    """Folds days one by one, and keeps what that did.

    Args:
        lake: the archive.
        on_fold: is told of each day.
        summarizing: whether each day's delivery tables are derived too.
    """

    def __init__(self, lake: Lake, on_fold: OnFold | None, *, summarizing: bool) -> None:
        self._lake = lake
        self._on_fold = on_fold
        self._summarizing = summarizing
        self._open = ExitStack()
        # Only once there is something to merge.
        self._connection = cache(lambda: self._open.enter_context(connect(lake)))
        self.done = Folding()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def fold(self, partition: Partition) -> None:
        """Fold a day; one damaged or foreign file must not keep the other days from the archive."""
        if self._summarizing and self.done == Folding():
            # Before: what is derived below is this version's, and is not to be derived again.
            mark_outdated(self._lake)
        try:
            derive = self._derive if self._summarizing else None
            report = merge(self._lake, partition, self._connection(), derive)
        except LakeError as error:
            log.warning("%s was not folded: %s", partition, error, extra=partition.fields())
            self.done += Folding(failures={partition: error})
        else:
            self.done += Folding((report,))
            if self._on_fold:
                self._on_fold(report)

    def _derive(self, partition: Partition) -> None:
        try:
            summarize_merged(self._lake, partition, self._connection())
        except LakeError as error:
            log.warning("%s was not summarized: %s", partition, error, extra=partition.fields())


def remove_unfinished(lake: Lake) -> None:
    """Remove the files of days that killed runs left unfinished.

    Whoever writes in a day overwrites what was left there, but a day that the API has forgotten is
    written no more. A day that another process holds is left alone: its files are that one's.
    """
    for partition in lake.partitions(".tmp"):
        try:
            # Looked at before the lock is asked for, which takes longer.
            if lake.unfinished(partition):
                _remove_unfinished(lake, partition)
        except OSError as error:
            # It takes room and does no other harm.
            message = "what a killed run left of %s can't be removed, move it away: %s"
            log.warning(message, partition, error, extra=partition.fields())


def _remove_unfinished(lake: Lake, partition: Partition) -> None:
    with lake.files.locked_if_free(lake.partition_lock(partition)) as is_ours:
        if not is_ours:
            return
        for file in lake.unfinished(partition):
            lake.files.discard(file)
            about = {"event": "remove_unfinished", **partition.fields()}
            log.info("removed %s, which a killed run left", file, extra=about)


def seal_pending(lake: Lake, folds: Iterable[MergeReport]) -> Sealing:
    """Seal every day that changes no more, as of the latest scan that was folded (R10)."""
    now = max((one.observed_at for one in folds if one.observed_at), default=None)
    sealed = 0
    errors: list[LakeError] = []
    for partition in can_be_compacted(lake, now) if now else ():
        try:
            sealed += compact(lake, partition)
        except LakeError as error:
            log.warning("%s was not sealed: %s", partition, error, extra=partition.fields())
            errors.append(error)
    return Sealing(sealed, tuple(errors))


def summarize_pending(lake: Lake) -> tuple[LakeError, ...]:
    """Summarize every day whose operations changed since it was summarized, in whatever run.

    Also those whose delivery tables an older version made, or did not make yet.

    Returns:
        What went wrong: days with a damaged or foreign file, left as they are.
    """
    errors: list[LakeError] = []
    mark_outdated(lake)
    stale = sorted(lake.with_work(DERIVE))
    if not stale:
        return ()  # a connection costs more than all else of a sync with nothing due
    with connect(lake) as connection:
        for partition in stale:
            try:
                summarize(lake, partition, connection)
            except LakeError as error:
                log.warning("%s was not summarized: %s", partition, error, extra=partition.fields())
                errors.append(error)
    return tuple(errors)
