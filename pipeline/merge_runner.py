"""Merging, compacting and deriving many days, between scanning and publishing.

A day that fails does not stop the others.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
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
"""Called with the report of each merged day."""


def _every(_: Partition) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class MergeResults:
    """The results of merging many days.

    Attributes:
        merges: the days that were merged.
        failures: days that could not be merged, with their errors; their files are unchanged.
    """

    merges: tuple[MergeReport, ...] = ()
    failures: Mapping[Partition, LakeError] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[LakeError, ...]:
        """The errors of days that could not be merged."""
        return tuple(self.failures.values())

    def __add__(self, later: "MergeResults") -> "MergeResults":
        """Both results, without failures of days that were merged later."""
        merged = {report.partition for report in later.merges}
        before = {day: error for day, error in self.failures.items() if day not in merged}
        return MergeResults(self.merges + later.merges, before | dict(later.failures))


@dataclass(frozen=True, slots=True)
class CompactionResults:
    """The results of compacting many days.

    Attributes:
        compacted: how many days were compacted.
        errors: the errors of days that could not be compacted; their files are unchanged.
    """

    compacted: int = 0
    errors: tuple[LakeError, ...] = ()


def merge_pending(
    lake: Lake,
    on_merge: OnMerge | None = None,
    *,
    deriving: bool = False,
    only: Callable[[Partition], bool] = _every,
    turn: "MergeTurn | None" = None,
) -> MergeResults:
    """Merge every day with landed files, including those that earlier runs left.

    Args:
        lake: the archive.
        on_merge: called with each day's report.
        deriving: whether to derive each merged day's delivery tables too. Days that can't be derived stay due
            for `derive_pending`.
        only: the partitions to merge.
        turn: the lock, held by the caller, whose connection is used; by default a new connection.
    """
    pending = sorted(filter(only, lake.pending()))
    if not pending:
        return MergeResults()
    with MergeRunner(lake, on_merge, deriving=deriving, turn=turn) as runner:
        for partition in pending:
            runner.merge(partition)
    return runner.done


class MergeTurn:
    """A lock for merging, deriving and publishing, and the DuckDB connection that its holder uses.

    Several threads at once would take more memory and not less time.

    Args:
        lake: the archive.
    """

    def __init__(self, lake: Lake) -> None:
        self._lock = Lock()
        self._open = ExitStack()
        # Opened when the first day is merged.
        self.connection = cache(lambda: self._open.enter_context(connect(lake)))

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def if_free(self) -> Iterator[bool]:
        """Hold it during the block, unless another thread holds it. Yields whether it is held."""
        is_ours = self._lock.acquire(blocking=False)
        try:
            yield is_ours
        finally:
            if is_ours:
                self._lock.release()

    def close(self) -> None:
        """Close the connection, if it was opened."""
        self._open.close()


class MergeRunner:
    """Merges days one by one, and collects the results in `done`.

    Args:
        lake: the archive.
        on_merge: called with each day's report.
        deriving: whether to derive each day's delivery tables too.
        turn: the lock, held by the caller, whose connection is used; by default a new connection.
    """

    def __init__(
        self,
        lake: Lake,
        on_merge: OnMerge | None,
        *,
        deriving: bool,
        turn: MergeTurn | None = None,
    ) -> None:
        self._lake = lake
        self._on_merge = on_merge
        self._is_deriving = deriving
        self._open = ExitStack()
        self._connection = (turn or self._open.enter_context(closing(MergeTurn(lake)))).connection
        self.done = MergeResults()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def merge(self, partition: Partition) -> None:
        """Merge a day. A LakeError is logged and collected, so that the other days are still merged."""
        if self._is_deriving and self.done == MergeResults():
            # Marked before the first day is derived, so that this version's tables are not derived again.
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

    The next merge of a day overwrites them, but days past their retention are not merged again. A day that
    another process has locked is skipped: its files are in use.
    """
    for partition in lake.partitions(".tmp"):
        try:
            # Checked without the lock first: taking it costs more.
            if lake.unfinished(partition):
                _remove_unfinished(lake, partition)
        except OSError as error:
            # The files take space, but do no other harm.
            message = (
                "unfinished files of %s, left by a killed run, can't be removed; move them away: %s"
            )
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
    """Compact every day that no later scan can change, as of the latest merged scan (R10)."""
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
    """Derive every day whose operations changed since it was derived, in this run or an earlier one.

    Days whose delivery tables another version derived, or that have none yet, are included.

    Returns:
        The errors of days with a damaged or foreign file; their delivery tables are unchanged.
    """
    errors: list[LakeError] = []
    mark_outdated(lake)
    stale = sorted(filter(only, lake.with_work(DERIVE)))
    if not stale:
        return ()  # opening a connection is the largest cost of a sync with nothing due
    with connect(lake) as connection:
        for partition in stale:
            try:
                derive(lake, partition, connection)
            except LakeError as error:
                log.warning("%s was not derived: %s", partition, error, extra=partition.fields())
                errors.append(error)
    return tuple(errors)


def merge_now_or_later(runner: MergeRunner, partition: Partition) -> None:
    """Merge a day while others are scanned. An error is logged: the day is merged again after the scans."""
    try:
        runner.merge(partition)
    except Exception as error:  # MemoryError too: the scans of other days must go on
        if engine.was_interrupted(error):
            raise
        log.warning(
            "%s was not merged; it is tried again after the scans",
            partition,
            exc_info=True,
            extra=partition.fields(),
        )
