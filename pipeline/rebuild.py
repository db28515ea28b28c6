"""Derive everything again from the stored facts, and publish."""

from pipeline.lake.day import connect
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import rebuild_derived, rebuild_operations
from pipeline.lake.migration import up_to_date
from pipeline.marts.derive import derive, mark_outdated
from pipeline.merge_runner import merge_pending
from pipeline.outputs.warehouse import publish


def rebuild(lake: Lake) -> tuple[int, tuple[LakeError, ...]]:
    """Take every day's history and operations together, derive it anew, and publish.

    Args:
        lake: the archive; one of an older version is brought to this version's format.

    Returns:
        How many days were derived, and what could not be merged or derived: it is left as it is.

    Raises:
        LakeError: the warehouse can't be built.
    """
    up_to_date(lake)
    errors = list(merge_pending(lake).errors)
    mark_outdated(lake)
    derived = 0
    with connect(lake) as connection:
        # Also of operations: a day whose history is missing is to be told.
        for partition in sorted({*lake.partitions("history"), *lake.partitions("operations")}):
            try:
                rebuild_operations(lake, partition)
                derive(lake, partition, connection)
                derived += 1
            except LakeError as error:
                errors.append(error)
    for partition in sorted(lake.partitions("coverage")):
        try:
            rebuild_derived(lake, partition)
        except LakeError as error:
            errors.append(error)
    publish(lake)
    told = {str(error): error for error in errors}
    return derived, tuple(told.values())
