"""Migration of an older lake to this version's format.

Facts need no migration: every version reads those of all earlier versions. Derived files are derived again.
"""

import logging
from typing import Final

from pipeline.lake import parquet
from pipeline.lake.layout import COMPACT, DERIVE, PART, Lake, LakeError
from pipeline.lake.merge import rebuild_derived, rebuild_operations
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, FORMAT_VERSION, LOOKUPS

_STALE: Final = (".stale", "stale", DERIVE)
_UNSEALED: Final = (".unsealed", "unsealed", COMPACT)
_REPLACED: Final = (
    *(".stale", ".torn", ".unsealed", ".watched"),
    *(".cache", ".columns", ".marts", ".published", ".sources"),
)
"""Files and folders of older formats. `.pending` and `.derived` replace them."""

log = logging.getLogger(__name__)


def up_to_date(lake: Lake) -> Lake:
    """Open a lake for writing, and migrate it if its format is older.

    The format version is written last, so that a killed migration is repeated (R5).

    Raises:
        LakeError: a newer version wrote it, or its marker is damaged.
    """
    lake.open()
    if lake.version() < FORMAT_VERSION:
        with lake.files.locked(lake.lock_file("lake"), f"the lake {lake.root}"):
            version = lake.version()
            if version < FORMAT_VERSION:
                log.warning(
                    "the lake %s has format %d: migrating it to %d",
                    lake.root,
                    version,
                    FORMAT_VERSION,
                )
                if version < 2:  # noqa: PLR2004 - a version of the format
                    _from_1(lake)
                if version < 3:  # noqa: PLR2004 - a version of the format
                    _from_2(lake)
                _from_3(lake)
                lake.mark()
    return lake


def _from_1(lake: Lake) -> None:
    """Format 1 had neither slot coverage nor pending lookups."""
    for partition in sorted(lake.partitions(COVERAGE.name)):
        try:
            rebuild_derived(lake, partition)
        except LakeError as error:
            # A damaged file must not block the migration of other days.
            log.warning("%s; `email-archive publish` repeats this afterwards", error)


def _from_2(lake: Lake) -> None:
    """Format 2 did not record which states were fetched by id.

    Work to do was noted in four folders; ``.torn`` listed operations that may be older than their history.
    """
    for folder, name, work in (_STALE, _UNSEALED):
        for partition in _marked(lake, folder, name):
            lake.note_work(partition, work)
    looked_up = set(lake.partitions(LOOKUPS.name))
    for partition in sorted(looked_up | _marked(lake, ".torn", "torn")):
        try:
            rebuild_operations(lake, partition)
        except LakeError as error:
            log.warning("%s; `email-archive publish` repeats this afterwards", error)
    # Also partitions with pending lookups and no lookups yet.
    for partition in sorted(looked_up | _marked(lake, ".watched", PART)):
        try:
            rebuild_derived(lake, partition)
        except LakeError as error:
            log.warning("%s; `email-archive publish` repeats this afterwards", error)
    for name in _REPLACED:
        if (path := lake.root / name).is_dir():
            lake.files.discard_tree(path)
        else:
            lake.files.discard(path)


def _from_3(lake: Lake) -> None:
    """Format 3 had other names for some columns of `lookups` (`RENAMED_COLUMNS`).

    This version reads both names. The files are rewritten for other programs that read them.
    """
    for partition in sorted(lake.partitions(LOOKUPS.name)):
        if not lake.part(LOOKUPS, partition).exists():
            continue
        form = parquet.OPEN if lake.has_work(partition, COMPACT) else parquet.COMPACTED
        try:
            with lake.locked(partition):
                parquet.rewrite(lake, LOOKUPS, partition, form=form)
        except LakeError as error:
            log.warning("%s", error)


def _marked(lake: Lake, folder: str, name: str) -> set[Partition]:
    """The partitions with a file of that name in a folder."""
    found = set()
    for partition in lake.partitions(folder):
        day = f"created_date={partition.day}"
        if (lake.root / folder / f"account_id={partition.account_id}" / day / name).exists():
            found.add(partition)
    return found
