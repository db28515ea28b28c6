"""Derives damaged derived files again from the stored tables."""

from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.lake.merge import rebuild_derived
from pipeline.marts.derive import derive
from pipeline.model.schema import MARTS, SLOT_COVERAGE


def rebuild_damaged(lake: Lake) -> bool:
    """Check every derived file, and derive damaged ones again; a warning names each.

    Returns:
        Whether a file was damaged.

    Raises:
        LakeError: a table that such a file is derived from is damaged, or can't be read.
    """
    found = False
    for table in (SLOT_COVERAGE, *MARTS):
        for partition in lake.partitions(table.name):
            if parquet.read_derived(lake.part(table, partition), table.arrow) is None:
                found = True
                if table is SLOT_COVERAGE:
                    rebuild_derived(lake, partition)
                else:
                    derive(lake, partition)
    return found
