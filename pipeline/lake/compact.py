"""compact(): a day that changes no more is rewritten once in its final form, and then left alone."""

import logging
from datetime import datetime

from pipeline.lake import parquet
from pipeline.lake.faults import refusals
from pipeline.lake.layout import COMPACT, Lake
from pipeline.model.records import Partition
from pipeline.model.schema import LAKE_TABLES
from pipeline.model.windows import SLOT, Window, deadline

log = logging.getLogger(__name__)


def can_be_compacted(lake: Lake, now: datetime) -> list[Partition]:
    """The partitions whose last deadline has passed and that were written to since they were compacted.

    Args:
        lake: the archive.
        now: the API's time; a scan's will do (R10).
    """
    last_slots = {p: Window.of_day(p.day).end - SLOT for p in lake.with_work(COMPACT)}
    return sorted(p for p, slot in last_slots.items() if deadline(slot) <= now)


@refusals()
def compact(lake: Lake, partition: Partition) -> bool:
    """Rewrite a partition's tables in their final form, under its lock.

    The rows and their order stay as they are. The files are compressed harder, and their row groups
    are small, with statistics down to the pages, so that a query reads only what it needs. Killed
    halfway, it begins anew (R5). A day that a merge changes later is to be compacted again.

    Returns:
        Whether it was done: not if something landed that is not merged yet.

    Raises:
        LakeError: a file is damaged or foreign; it stays as it is.
    """
    with lake.files.locked(lake.partition_lock(partition), str(partition)):
        if lake.landed(partition):
            return False
        for table in LAKE_TABLES:
            if lake.part(table, partition).exists():
                parquet.rewrite(lake, table, partition, form=parquet.COMPACTED)
        lake.finish_work(partition, COMPACT)
    log.info("compacted %s", partition, extra={"event": "compact", **partition.fields()})
    return True
