"""An archive of many days and accounts, made in seconds: one day, scanned and merged, again at other dates.

Each account and day has the same operations and the same scans at the same ages.
"""

import shutil
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.emulator.world import World
from pipeline.extract.scan import observed, rejects_table
from pipeline.lake import parquet
from pipeline.lake.files import Disk, Files
from pipeline.lake.landing import land
from pipeline.lake.layout import Lake
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition, Scan, ScanFacts
from pipeline.model.schema import LAKE_TABLES, MARTS, RECORD_SCHEMA
from pipeline.model.windows import SLOT, Window, midnight
from tests.benchmarks.speed.load import SEED, to_table

FIRST_DAY: Final = date(2024, 1, 1)
OPERATIONS_A_DAY: Final = 200
SCAN_AGES: Final = (*range(1, 25), 26, 30, 34, 42, 50, 58, 66, 74, 98, 122, 146, 166, 178, 190)
"""Hours after a day's beginning when it is scanned: about as often as by the default policy, and so that each
hour gets a final scan."""


def account_id(number: int) -> str:
    """The SID of one of the accounts."""
    return f"AC{number:032x}"


def after(days: int) -> datetime:
    """A moment after the last scan of an archive of so many days."""
    return midnight(FIRST_DAY) + (SCAN_AGES[-1] + 1) * SLOT + timedelta(days=days - 1)


def make(root: Path, accounts: int, days: int) -> Lake:
    """Make an archive, unpublished; its last day is the last that has any operations.

    Args:
        root: a folder that is not there yet.
        accounts: how many accounts it has.
        days: how many days each of them has.
    """
    lake = Lake(root, Files(_Unsynced())).open()
    first = Partition(account_id(0), FIRST_DAY)
    _scan_day(lake, first)
    tables = [table for table in (*LAKE_TABLES, *MARTS) if lake.part(table, first).exists()]
    for table in tables:
        rows = parquet.read(lake.part(table, first), table.arrow)
        for number in range(1, days):
            later = Partition(first.account_id, FIRST_DAY + timedelta(days=number))
            temporary = lake.temporary_file(table.name, later)
            shifted = _shifted(rows, timedelta(days=number))
            parquet.write(lake, shifted, lake.part(table, later), temporary)
        for number in range(1, accounts):
            shutil.copytree(
                root / table.name / f"account_id={first.account_id}",
                root / table.name / f"account_id={account_id(number)}",
            )
    for partition in list(lake.partitions(tables[0].name)):
        for left in (lake.landing_folder(partition), lake.pending_lookups_file(partition).parent):
            left.mkdir(parents=True, exist_ok=True)  # as a merge leaves them, empty
    return Lake(root)


class _Unsynced(Disk):
    """A disk for an archive that need not outlive a power cut."""

    def sync_file(self, file: Path) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


def _scan_day(lake: Lake, partition: Partition) -> None:
    start = midnight(partition.day)
    world = World(SEED, OPERATIONS_A_DAY, start)
    numbers = np.asarray(world.numbers(start, start + timedelta(days=1)))
    for hours in SCAN_AGES:
        at = start + hours * SLOT
        rows = to_table(world, numbers, at)
        rows = rows.append_column("extra", pa.nulls(rows.num_rows, pa.string()))
        facts = ScanFacts(
            account_id=partition.account_id,
            window=Window.of_day(partition.day),
            observed_at=at,
            completed_at=at,
            complete=True,
            pages=1,
            requests=1,
            retries=0,
            records=rows.num_rows,
            operations=rows.num_rows,
            outside=0,
            duplicates=0,
            rejects=0,
        )
        land(lake, Scan(facts, observed(rows.cast(RECORD_SCHEMA), at), rejects_table((), at)))
    merge_pending(lake, deriving=True)


def _shifted(rows: pa.Table, later: timedelta) -> pa.Table:
    """The same rows with every time so much later."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            moved = pc.add(rows[field.name], pa.scalar(later, pa.duration("us")))
            rows = rows.set_column(place, field, moved)
    return rows
