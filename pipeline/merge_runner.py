"""What many days need between scanning and publishing: merging, compacting, their delivery tables.

One day that can't be done never keeps the others from it.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Self, TypeAlias

from pipeline.lake import engine
from pipeline.lake.compact import can_be_compacted, compact
from pipeline.lake.day import connect
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.merge import MergeReport, merge
from pipeline.marts.derive import derive, derive_merged, mark_outdated
from pipeline.model.records import Partition

log = logging.getLogger(__name__)

OnMerge: TypeAlias = Callable[[MergeReport], None]
"""Called with what merging a day did."""


def _every(_: Partition) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class MergeResults:
    """What merging many days did.

    Attributes:
        merges: the days that were merged.
        failures: days whose files could not be merged, and why; they are left as they are.
    """

    merges: tuple[MergeReport, ...] = ()
    failures: Mapping[Partition, LakeError] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[LakeError, ...]:
        """Why days could not be merged."""
        return tuple(self.failures.values())

    def __add__(self, later: "MergeResults") -> "MergeResults":
        """Both, without failures that are gone by then."""
        mended = {report.partition for report in later.merges}
        before = {day: error for day, error in self.failures.items() if day not in mended}
        return MergeResults(self.merges + later.merges, before | dict(later.failures))


@dataclass(frozen=True, slots=True)
class CompactionResults:
    """What compacting old days did.

    Attributes:
        compacted: how many days were compacted.
        errors: what could not be compacted, and why; it stays as it is.
    """

    compacted: int = 0
    errors: tuple[LakeError, ...] = ()


def merge_pending(
    lake: Lake,
    on_merge: OnMerge | None = None,
    *,
    deriving: bool = False,
    only: Callable[[Partition], bool] = _every,
) -> MergeResults:
    """Merge every day that has something to merge, what earlier runs left included.

    Args:
        lake: the archive.
        on_merge: called with each day's report.
        deriving: whether each day's delivery tables are derived too, while its tables are at hand.
            What can't be derived stays due for `derive_pending`.
        only: the partitions to merge.
    """
    pending = sorted(filter(only, lake.pending()))
    if not pending:
        return MergeResults()
    with MergeRunner(lake, on_merge, deriving=deriving) as runner:
        for partition in pending:
            runner.merge(partition)
    return runner.done


class MergeRunner:
    """Merges days one by one, and keeps what that did.

    Args:
        lake: the archive.
        on_merge: called with each day's report.
        deriving: whether each day's delivery tables are derived too.
    """

    def __init__(self, lake: Lake, on_merge: OnMerge | None, *, deriving: bool) -> None:
        self._lake = lake
        self._on_merge = on_merge
        self._is_deriving = deriving
        self._open = ExitStack()
        # Only once there is something to merge.
        self._connection = cache(lambda: self._open.enter_context(connect(lake)))
        self.done = MergeResults()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def merge(self, partition: Partition) -> None:
        """Merge a day; one damaged or foreign file must not keep the other days from the archive."""
        if self._is_deriving and self.done == MergeResults():
            # Before: what is derived below is this version's, and is not to be derived again.
            mark_outdated(self._lake)
        try:
            derive = self._derive if self._is_deriving else None
            report = merge(self._lake, partition, self._connection(), derive)
        except LakeError as error:
            log.warning("%s was not merged: %s", partition, error, extra=partition.fields())
            self.done += MergeResults(failures={partition: error})
        else:
            self.done += MergeResults((report,))
            if self._on_merge:
                self._on_merge(report)

    def merge_landed(self, partition: Partition) -> None:
        """Merge a day if something landed for it."""
        if self._lake.has_landed(partition):
            self.merge(partition)

    def _derive(self, partition: Partition) -> None:
        try:
            derive_merged(self._lake, partition, self._connection())
        except LakeError as error:
            log.warning("%s was not derived: %s", partition, error, extra=partition.fields())


def remove_unfinished(lake: Lake) -> None:
    """Remove the files of days that killed runs left unfinished.

    Whoever writes in a day overwrites what was left there, but a day that the API has forgotten is
    written no more. A day that another process holds is left alone: its files are that one's.
    """
    for partition in lake.partitions(".tmp"):
        try:
            # Looked at before the lock is taken, which takes longer.
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


def compact_pending(
    lake: Lake,
    merges: Iterable[MergeReport],
    *,
    only: Callable[[Partition], bool] = _every,
) -> CompactionResults:
    """Compact every day that changes no more, as of the latest scan that was merged (R10)."""
    now = max((one.observed_at for one in merges if one.observed_at), default=None)
    return compact_days(lake, filter(only, can_be_compacted(lake, now) if now else ()))


def compact_days(lake: Lake, partitions: Iterable[Partition]) -> CompactionResults:
    """Compact some days."""
    compacted = 0
    errors: list[LakeError] = []
    for partition in partitions:
        try:
            compacted += compact(lake, partition)
        except LakeError as error:
            log.warning("%s was not compacted: %s", partition, error, extra=partition.fields())
            errors.append(error)
    return CompactionResults(compacted, tuple(errors))


def derive_pending(lake: Lake, only: Callable[[Partition], bool] = _every) -> tuple[LakeError, ...]:
    """Derive every day whose operations changed since it was derived, in whatever run.

    Also those whose delivery tables an older version made, or did not make yet.

    Returns:
        What went wrong: days with a damaged or foreign file, left as they are.
    """
    errors: list[LakeError] = []
    mark_outdated(lake)
    stale = sorted(filter(only, lake.with_work(DERIVE)))
    if not stale:
        return ()  # a connection costs more than all else of a sync with nothing due
    with connect(lake) as connection:
        for partition in stale:
            try:
                derive(lake, partition, connection)
            except LakeError as error:
                log.warning("%s was not derived: %s", partition, error, extra=partition.fields())
                errors.append(error)
    return tuple(errors)


def merge_now_or_later(runner: MergeRunner, partition: Partition) -> None:
    """Merge a day now; what goes wrong keeps nothing else from being scanned, and is met again at the end."""
    try:
        runner.merge(partition)
    except Exception as error:  # also a lack of memory: other days may be asked for only now
        if engine.was_interrupted(error):
            raise
        log.warning("%s is merged later", partition, exc_info=True, extra=partition.fields())
