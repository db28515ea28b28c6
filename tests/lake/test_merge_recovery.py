"""merge() after kills and among damaged or missing files."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.lake.files import Disk, Files
from pipeline.lake.landing import land
from pipeline.lake.layout import DERIVE, Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.merge_runner import derive_pending, merge_pending
from pipeline.model.schema import HISTORY, OPERATIONS, Table
from pipeline.rebuild import rebuild
from tests.support.disks import Crash
from tests.support.factories import (
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    derived,
    landed,
    new_lake,
    operation_id,
    record,
    scan,
    snapshot,
)

HOUR = timedelta(hours=1)


def rows(lake: Lake, table: str) -> list[dict]:
    return snapshot(lake)[f"{table} {PARTITION}"]


@pytest.mark.parametrize("older", [HISTORY, OPERATIONS], ids=lambda table: table.name)
def test_publish_reconciles_history_and_operations_of_different_moments(
    tmp_path: Path, older: Table
):
    """R1, R2: a copy that was made during a merge may have one of them from before it."""
    first, then = (
        scan([record(n, stats={"opened": n})], observed_at=NOON + n * HOUR) for n in (1, 2)
    )
    changed = scan(
        [record(1, stats={"opened": 5}, updated_at=NOON + 3 * HOUR)], observed_at=NOON + 4 * HOUR
    )
    lake = derived(new_lake(tmp_path / "lake"), first)
    kept = shutil.copy(lake.part(older, PARTITION), tmp_path / "older.parquet")
    landed(lake, then, changed)
    merge(lake, PARTITION)
    whole = {table.name: rows(lake, table.name) for table in (HISTORY, OPERATIONS)}
    shutil.copy(kept, lake.part(older, PARTITION))
    rebuild(lake)
    assert rows(lake, "operations") == whole["operations"]
    found = rows(lake, "history")
    assert [row for row in found if row not in whole["history"]] == []
    assert [row for row in whole["operations"] if row not in found] == []
    assert len(found) == len(whole["history"])


@pytest.mark.parametrize("opened", [0, 5], ids=["as it was", "changed"])
def test_day_with_missing_history_is_an_error_and_unmerged(tmp_path: Path, opened: int):
    """R1: what is left of the day must not pass for all of it, nor what is new of it."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    shutil.rmtree(lake.part(HISTORY, PARTITION).parent)
    before = lake.part(OPERATIONS, PARTITION).read_bytes()
    again = record(1, stats={"opened": opened}, updated_at=NOON + opened * HOUR)
    landed(lake, scan([again], observed_at=NOON + 6 * HOUR))
    with pytest.raises(LakeError, match="is missing, but operations of its day exist"):
        merge(lake, PARTITION)
    _, errors = rebuild(lake)
    assert len(errors) == 1
    assert lake.pending() == {PARTITION}
    assert lake.part(OPERATIONS, PARTITION).read_bytes() == before
    assert not lake.part(HISTORY, PARTITION).exists()


def test_damaged_landed_file_stops_its_day_and_loses_nothing(tmp_path: Path):
    """R9: a foreign or damaged file is named, with what to do; nothing is removed."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    foreign = lake.landing_folder(PARTITION) / "notes.parquet"
    foreign.write_bytes(b"no parquet")
    with pytest.raises(LakeError, match=r"notes\.parquet is damaged .* moved away"):
        merge(lake, PARTITION)
    assert len(lake.landed(PARTITION)) == 2
    foreign.unlink()
    assert merge(lake, PARTITION).new == 1


def test_damaged_table_is_an_error_never_empty(tmp_path: Path):
    """R9."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    lake.part(HISTORY, PARTITION).write_bytes(b"PAR1 torn")
    landed(lake, scan([record(2)]))
    with pytest.raises(LakeError, match="move it away"):
        merge(lake, PARTITION)
    assert len(lake.landed(PARTITION)) == 1


def test_history_written_but_operations_not_is_healed_by_the_next_merge(tmp_path: Path):
    """R5: a kill between the two renames leaves the landed file, and the next merge does the rest."""
    lake = landed(new_lake(tmp_path), scan([record(1)], observed_at=NOON + HOUR))
    merge(lake, PARTITION)
    operations = lake.part(OPERATIONS, PARTITION)
    old = operations.read_bytes()
    path = land(lake, scan([record(1, stats={"opened": 1}, updated_at=NOON + HOUR)]))
    content = path.read_bytes()
    merge(lake, PARTITION)
    healed = snapshot(lake)
    operations.write_bytes(old)
    path.write_bytes(content)
    merge(lake, PARTITION)
    assert snapshot(lake) == healed


class DiesAtOperations(Disk):
    """Power goes before operations are replaced, when history is already."""

    def rename(self, source: Path, target: Path) -> None:
        if target.parts[-4] == OPERATIONS.name:
            raise Crash
        super().rename(source, target)


def test_operations_behind_history_catch_up_with_the_next_merge(
    tmp_path: Path,
):
    """R2, R5: also where the landed file of the merge that was killed was moved away since."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    later = NOON + HOUR
    landed(lake, scan([record(1, stats={"opened": 1}, updated_at=later)], observed_at=later))
    with pytest.raises(Crash):
        merge(Lake(lake.root, Files(DiesAtOperations())), PARTITION)
    (file,) = lake.landed(PARTITION)
    file.unlink()
    derive_pending(lake)
    landed(lake, scan([record(2, stats={"opened": 2}, updated_at=later)], observed_at=later))
    merge(lake, PARTITION)
    assert {row["operation_id"]: row["opened"] for row in rows(lake, "operations")} == {
        operation_id(1): 1,
        operation_id(2): 2,
    }


def test_missing_operations_come_back_from_history(tmp_path: Path):
    """R2: a scan that finds some of a day's operations is enough."""
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    lake.part(OPERATIONS, PARTITION).unlink()
    later = NOON + HOUR
    landed(lake, scan([record(2, stats={"opened": 2}, updated_at=later)], observed_at=later))
    merge(lake, PARTITION)
    assert [row["operation_id"] for row in rows(lake, "operations")] == [
        operation_id(1),
        operation_id(2),
    ]


def test_underivable_day_prevents_no_other_days_tables(tmp_path: Path):
    lake = new_lake(tmp_path)
    landed(lake, scan([record(1)]))
    landed(lake, scan([record(3)], account_id=OTHER_ACCOUNT))
    assert len(merge_pending(lake).merges) == 2
    operations = lake.part(OPERATIONS, PARTITION)
    operations.write_bytes(b"no Parquet")
    (error,) = derive_pending(lake)
    assert str(operations) in str(error)
    assert lake.with_work(DERIVE) == {PARTITION}
