"""seal(): a day that changes no more is written once compactly, and then left alone."""

import logging
from datetime import datetime

from pipeline.facts import Partition
from pipeline.lake import parquet
from pipeline.lake.faults import refusals
from pipeline.lake.layout import Lake
from pipeline.schema import LAKE_TABLES
from pipeline.windows import SLOT, Window, deadline

log = logging.getLogger(__name__)


def can_be_sealed(lake: Lake, now: datetime) -> list[Partition]:
    """The partitions whose last deadline has passed and that were written to since they were sealed.

    Args:
        lake: the archive.
        now: the API's time; a scan's will do (R10).
    """
    last_slots = {p: Window.of_day(p.day).end - SLOT for p in lake.unsealed()}
    return sorted(p for p, slot in last_slots.items() if deadline(slot) <= now)


@refusals()
def seal(lake: Lake, partition: Partition) -> bool:
    """Write a partition's tables in their last form, under its lock.

    The rows and their order stay as they are. The files are compressed harder, and their row groups
    are small, with statistics down to the pages, so that a query reads only what it needs. Killed
    halfway, it begins anew (R5). A fold that finds something new later unseals the day.

    Returns:
        Whether it was sealed: not if something landed that is not folded yet.

    Raises:
        LakeError: a file is damaged or foreign; it stays as it is.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        if lake.landed(partition):
            return False
        for table in LAKE_TABLES:
            target = lake.part(table, partition)
            if target.exists():
                rows = parquet.read(target, table.arrow)
                parquet.replace(lake, table, partition, rows, form=parquet.SEALED)
        lake.files.remove(lake.unsealed_marker(partition))
    log.info("sealed %s", partition, extra={"event": "seal", **partition.fields()})
    return True
