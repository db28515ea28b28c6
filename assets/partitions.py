"""The partitions: an account's UTC day of creation, today included."""

from collections.abc import Iterable
from datetime import date
from typing import Final

import dagster as dg

from pipeline.model.records import Partition

ACCOUNT: Final = "account"
DAY: Final = "day"


def partitions(account_ids: Iterable[str], first_day: date) -> dg.MultiPartitionsDefinition:
    """All days of some accounts, from a first day on."""
    return dg.MultiPartitionsDefinition(
        {
            ACCOUNT: dg.StaticPartitionsDefinition(sorted(account_ids)),
            DAY: dg.DailyPartitionsDefinition(
                start_date=f"{first_day}", timezone="UTC", end_offset=1
            ),
        }
    )


def key_of(partition: Partition) -> dg.MultiPartitionKey:
    """Dagster's key of a partition."""
    return dg.MultiPartitionKey({ACCOUNT: partition.account_id, DAY: f"{partition.day}"})


def partition_of(context: dg.AssetExecutionContext) -> Partition:
    """The partition of a run."""
    key = context.partition_key
    assert isinstance(key, dg.MultiPartitionKey)  # noqa: S101 - for mypy: all of `partitions` are
    dimensions = key.keys_by_dimension
    return Partition(dimensions[ACCOUNT], date.fromisoformat(dimensions[DAY]))
