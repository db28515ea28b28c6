"""Which files are the lake's, and who may read them."""

from pathlib import Path

import pytest

from pipeline.lake.layout import LakeError
from pipeline.lake.merge import merge
from pipeline.model.schema import OPERATIONS
from tests.support.factories import PARTITION, landed, new_lake, record, scan


def test_lake_of_a_newer_version_is_refused(tmp_path: Path):
    lake = new_lake(tmp_path)
    (lake.root / "lake.json").write_text('{"format": 99}')
    for use in (lake.open, lake.must_exist):
        with pytest.raises(LakeError, match="format 99, written by a newer version"):
            use()


def test_folder_of_no_day_is_no_partition(tmp_path: Path):
    lake = new_lake(tmp_path)
    (
        lake.root / "operations" / f"account_id={PARTITION.account_id}" / "created_date=2026-99-99"
    ).mkdir(parents=True)
    assert list(lake.partitions("operations")) == []


def test_foreign_files_among_the_tables_are_found(tmp_path: Path):
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    assert lake.foreign_files() == []
    foreign = lake.part(OPERATIONS, PARTITION).with_name("part-1.parquet")
    foreign.write_bytes(b"x")
    assert lake.foreign_files() == [foreign]


def test_files_are_private_and_temporaries_out_of_readers_sight(tmp_path: Path):
    """R6: temporary files never end in .parquet and never lie where a reader's glob finds them."""
    lake = landed(new_lake(tmp_path), scan([record(1)]))
    merge(lake, PARTITION)
    for path in lake.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    temporary = lake.temporary_file("operations", PARTITION)
    assert temporary.relative_to(lake.root).parts[0] == ".tmp"
    assert temporary.suffix != ".parquet"
