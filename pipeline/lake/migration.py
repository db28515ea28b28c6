"""A lake that an older version wrote, brought to this version's format.

Facts stay as they are: every version reads those of all versions before it. What is derived from them
and what an older version did not know is made anew.
"""

import logging

from pipeline.lake import columns
from pipeline.lake.fold import rebuild_derived, rebuild_operations
from pipeline.lake.layout import Lake, LakeError
from pipeline.schema import COVERAGE, FORMAT_VERSION, LOOKUPS

log = logging.getLogger(__name__)


def up_to_date(lake: Lake) -> Lake:
    """Open a lake for writing, in this version's format.

    Killed halfway, it begins anew (R5): the version is written last.

    Raises:
        LakeError: a newer version wrote it, or its marker is damaged.
    """
    lake.open()
    if lake.version() < FORMAT_VERSION:
        with lake.files.locked(lake.lock_file("lake"), f"the lake {lake.root}"):
            version = lake.version()
            if version < FORMAT_VERSION:
                log.warning(
                    "the lake %s has format %d: bringing it to %d",
                    lake.root,
                    version,
                    FORMAT_VERSION,
                )
                if version < 2:  # noqa: PLR2004 - a version of the format
                    _from_1(lake)
                _from_2(lake)
                lake.mark()
    columns.before_writing(lake)
    return lake


def _from_1(lake: Lake) -> None:
    """Format 1 had neither slots nor what is to be asked by id."""
    for partition in sorted(lake.partitions(COVERAGE.name)):
        try:
            rebuild_derived(lake, partition)
        except LakeError as error:
            # One damaged file must not keep the other days from the archive.
            log.warning("%s, then `email-archive publish` makes up for it", error)


def _from_2(lake: Lake) -> None:
    """Format 2 did not say which states were fetched by id, and took them for listed ones."""
    for partition in sorted(lake.partitions(LOOKUPS.name)):
        try:
            rebuild_operations(lake, partition)
            rebuild_derived(lake, partition)
        except LakeError as error:
            log.warning("%s, then `email-archive publish` makes up for it", error)
