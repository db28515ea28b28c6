"""Derived files that are damaged, derived again from the facts."""

from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.lake.merge import rebuild_derived
from pipeline.marts.derive import derive
from pipeline.model.schema import MARTS, SLOT_COVERAGE


def rebuild_damaged(lake: Lake) -> bool:
    """Look at every derived file, and derive again what is damaged; each is named in a warning.

    Returns:
        Whether there was any.

    Raises:
        LakeError: a fact that it is derived from is damaged, or can't be read.
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
