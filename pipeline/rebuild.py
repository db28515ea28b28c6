"""Derive everything again from the stored facts, and publish."""

from collections.abc import Iterable

from pipeline.lake.accounts import known_as
from pipeline.lake.day import connect
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import rebuild_derived, rebuild_operations
from pipeline.lake.migration import up_to_date
from pipeline.marts.derive import derive, mark_outdated
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition
from pipeline.outputs.warehouse import publish


def rebuild(lake: Lake, names: Iterable[str] = ()) -> tuple[int, tuple[LakeError, ...]]:
    """Take every day's history and operations together, derive it anew, and publish.

    Args:
        lake: the archive; one of an older version is brought to this version's format.
        names: only the accounts with these SIDs or names; all if empty. All of them are published.

    Returns:
        How many days were derived, and what could not be merged or derived: it is left as it is.

    Raises:
        LakeError: the warehouse can't be built.
        UsageError: there is no account of that name.
    """
    wanted = {one.sid for one in known_as(lake, names)}
    up_to_date(lake)

    def is_wanted(partition: Partition) -> bool:
        return partition.account_id in wanted

    errors = list(merge_pending(lake, only=is_wanted).errors)
    mark_outdated(lake)
    derived = 0
    with connect(lake) as connection:
        # Also of operations: a day whose history is missing is to be told.
        stored = {*lake.partitions("history"), *lake.partitions("operations")}
        for partition in sorted(filter(is_wanted, stored)):
            try:
                rebuild_operations(lake, partition)
                derive(lake, partition, connection)
                derived += 1
            except LakeError as error:
                errors.append(error)
    for partition in sorted(filter(is_wanted, lake.partitions("coverage"))):
        try:
            rebuild_derived(lake, partition)
        except LakeError as error:
            errors.append(error)
    publish(lake)
    told = {str(error): error for error in errors}
    return derived, tuple(told.values())
