"""Pending lookups: the operations to be looked up by id. Each merge of a day writes its own."""

import logging
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.lake import parquet
from pipeline.lake.day import Day, open_day
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.statements import statement
from pipeline.model.records import Partition, PendingLookup
from pipeline.model.schema import LOOKUPS, OPERATIONS, PENDING_LOOKUPS, TIMESTAMP
from pipeline.model.windows import midnight

log = logging.getLogger(__name__)


def write_pending_lookups(day: Day) -> None:
    """Write a day's pending lookups; remove the file if there are none."""
    day.view(OPERATIONS)
    day.view(LOOKUPS)
    rows = day.select(statement("pending_lookups"), PENDING_LOOKUPS)
    target = day.lake.pending_lookups_file(day.partition)
    if not rows.num_rows:
        if target.exists():
            day.lake.files.remove(target)
        return
    known = parquet.read_derived(target, PENDING_LOOKUPS.arrow)
    parquet.write_if_changed(day.lake, known, rows, target, day.temporary(PENDING_LOOKUPS))


def read_pending_lookups(
    lake: Lake, account_id: str, *, errors: bool = True, states_before: datetime | None = None
) -> list[PendingLookup]:
    """The pending lookups of an account.

    A file that can't be read is derived again. If that fails too, the day is skipped; merging it reports the
    error.

    Args:
        lake: the archive.
        account_id: the account.
        errors: whether to include lookups of errors.
        states_before: include lookups of states only for operations created before this moment. Files without
            any are not opened.
    """
    found: list[PendingLookup] = []
    for partition in sorted(p for p in lake.with_pending_lookups() if p.account_id == account_id):
        if not errors and states_before and midnight(partition.day) >= states_before:
            continue
        rows = _read(lake, partition)
        if rows is None:
            continue
        if not errors:
            rows = rows.filter(pc.equal(rows["subject"], "operation"))
        if states_before:
            is_early = pc.less(rows["created_at"], pa.scalar(states_before, TIMESTAMP))
            rows = rows.filter(pc.or_(pc.equal(rows["subject"], "errors"), is_early))
        found += [PendingLookup(partition, **row) for row in rows.to_pylist()]
    return found


def _read(lake: Lake, partition: Partition) -> pa.Table | None:
    file = lake.pending_lookups_file(partition)
    if (rows := parquet.read_derived(file, PENDING_LOOKUPS.arrow)) is not None:
        return rows
    try:
        with (
            lake.locked(partition),
            open_day(lake, partition) as day,
        ):
            write_pending_lookups(day)
    except LakeError as error:
        log.warning("the pending lookups of %s can't be read: %s", partition, error)
        return None
    return parquet.read(file, PENDING_LOOKUPS.arrow)
