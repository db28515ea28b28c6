"""compact(): rewrites the tables of an expired day once in their final form."""

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
    """The partitions that are past their last deadline and have changed since they were last compacted.

    Args:
        lake: the archive.
        now: the API's time, as of any scan (R10).
    """
    last_slots = {p: Window.of_day(p.day).end - SLOT for p in lake.with_work(COMPACT)}
    return sorted(p for p, slot in last_slots.items() if deadline(slot) <= now)


@refusals()
def compact(lake: Lake, partition: Partition) -> bool:
    """Rewrite a partition's tables in their final form, under its lock.

    The rows and their order do not change. The files get a higher compression level, smaller row groups and
    page statistics, so that a query reads less. A killed run can be repeated (R5). A day that a later merge
    changes is compacted again.

    Returns:
        Whether it was done. It is not while landed files wait to be merged.

    Raises:
        LakeError: a file is damaged or foreign; it is left unchanged.
    """
    with lake.locked(partition):
        if lake.landed(partition):
            return False
        for table in LAKE_TABLES:
            if lake.part(table, partition).exists():
                parquet.rewrite(lake, table, partition, form=parquet.COMPACTED)
        lake.finish_work(partition, COMPACT)
    log.info("compacted %s", partition, extra={"event": "compact", **partition.fields()})
    return True
