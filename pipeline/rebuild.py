"""Derive all derived files again from history, operations and coverage, and publish."""

from collections.abc import Iterable

from pipeline.lake.accounts import accounts_named
from pipeline.lake.day import connect
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import rebuild_derived, rebuild_operations
from pipeline.lake.migration import up_to_date
from pipeline.marts.derive import derive, mark_outdated
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition
from pipeline.outputs.warehouse import publish


def rebuild(lake: Lake, names: Iterable[str] = ()) -> tuple[int, tuple[LakeError, ...]]:
    """Make every day's history and operations consistent, derive its tables again, and publish.

    Args:
        lake: the archive; one of an older version is brought to this version's format.
        names: only the accounts with these SIDs or names; all if empty. All of them are published.

    Returns:
        The number of days derived, and the errors of days that could not be merged or derived.

    Raises:
        LakeError: the warehouse can't be built.
        UsageError: there is no account of that name.
    """
    wanted = {one.sid for one in accounts_named(lake, names)}
    up_to_date(lake)

    def is_wanted(partition: Partition) -> bool:
        return partition.account_id in wanted

    errors = list(merge_pending(lake, only=is_wanted).errors)
    mark_outdated(lake)
    derived = 0
    with connect(lake) as connection:
        # Days with operations but no history are included, so that their error is reported.
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
    distinct = {str(error): error for error in errors}
    return derived, tuple(distinct.values())
