"""Files that can't be read: a refusal or failure of the system is told as that, and never as damage."""

import errno
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from pipeline.access import query
from pipeline.access.archive import Archive
from pipeline.emulator import World
from pipeline.errors import ArchiveError
from pipeline.lake import faults, landing, parquet
from pipeline.lake.faults import DamagedError, UnreadableError
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.merge_runner import derive_pending
from pipeline.model.records import Partition
from pipeline.model.schema import COVERAGE, HISTORY, MARTS, OPERATIONS, SLOT_COVERAGE, Table
from pipeline.model.windows import Window
from pipeline.oserrors import KNOWN, explain
from pipeline.outputs.warehouse import publish
from pipeline.quality.status import status
from tests.support.archives import account, rows, sync_all
from tests.support.cases import some
from tests.support.command import run
from tests.support.factories import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER_ACCOUNT,
    PARTITION,
    at,
    derived,
    landed,
    new_lake,
    record,
    scan,
)
from tests.support.users import as_nobody, give_to_nobody, needs_root, take_from_nobody

SYSTEM = [
    errno.EACCES,
    errno.EIO,
    errno.ESTALE,
    errno.ENOENT,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EMFILE,
]
PART = Path("/srv/archive/operations/part-0.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that is published, of which something waits to be merged, and a copy of it."""
    lake = derived(new_lake(tmp_path_factory.mktemp("made")), scan([record(1), record(2)]))
    publish(lake)
    landed(lake, scan([record(3)], observed_at=NOON + timedelta(hours=3)))
    shutil.copytree(lake.root, lake.root.with_name("copy"))
    return lake.root


@pytest.fixture
def lake(made: Path) -> Lake:
    """The archive as it was made, where it was made: its warehouse knows its own path."""
    shutil.rmtree(made)
    shutil.copytree(made.with_name("copy"), made)
    return Lake(made)


def first_landed(lake: Lake) -> Path:
    return lake.landed(PARTITION)[0]


READERS: dict[str, Callable[[Lake], object]] = {
    "rows": lambda lake: parquet.read(lake.part(OPERATIONS, PARTITION), OPERATIONS.arrow),
    "count": lambda lake: parquet.count(lake.part(OPERATIONS, PARTITION)),
    "landed": lambda lake: landing.read(first_landed(lake)),
    "merge": lambda lake: merge(lake, PARTITION),
    "sql": lambda lake: query.ask(lake, "FROM operations"),
    "notebook": lambda lake: Archive(lake.root).operations(),
}


def refused(lake: Lake, read: Callable[[Lake], object]) -> str:
    """What nobody is told."""

    def work() -> str:
        try:
            read(lake)
        except ArchiveError as error:
            return str(error)
        return "not refused"

    return as_nobody(work)


@needs_root
@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_file_of_another_user_is_named_with_its_owner(lake: Lake, read: Callable[[Lake], object]):
    """R9: as one sync by root leaves them."""
    files = [lake.part(OPERATIONS, PARTITION), first_landed(lake)]
    give_to_nobody(lake.root)
    take_from_nobody(*files)
    said = refused(lake, read)
    assert "can't read" in said
    assert (
        "Permission denied. It belongs to root and has the mode 0600, and this runs as nobody"
        in said
    )
    assert any(str(file) in said for file in files)
    assert "damaged" not in said


@needs_root
@pytest.mark.parametrize("read", [READERS["rows"], READERS["merge"]])
def test_folder_of_another_user_is_named_with_its_owner(lake: Lake, read: Callable[[Lake], object]):
    folder = lake.part(OPERATIONS, PARTITION).parent
    give_to_nobody(lake.root)
    take_from_nobody(folder)
    said = refused(lake, read)
    assert f"{folder} belongs to root and has the mode 0700, and this runs as nobody" in said
    assert "damaged" not in said


@needs_root
def test_publish_names_a_coverage_file_of_another_user(lake: Lake):
    file = lake.part(COVERAGE, PARTITION)
    derived(lake)
    give_to_nobody(lake.root)
    take_from_nobody(file)
    said = refused(lake, publish)
    assert f"can't read {file}: Permission denied. It belongs to root" in said
    assert "damaged" not in said


@needs_root
@pytest.mark.parametrize("name", [".locks", ".tmp", ".pending"])
def test_hidden_folder_of_another_user_is_named_with_its_owner(lake: Lake, name: str):
    give_to_nobody(lake.root)
    take_from_nobody(lake.root / name, *(lake.root / name).rglob("*"))
    said = refused(lake, READERS["merge"])
    assert "belongs to root" in said


@needs_root
def test_day_of_another_user_keeps_no_other_from_the_archive(tmp_path: Path):
    """R1, R12: the sync says so, does the rest, and does that day once it may."""
    now, world = at("2026-11-14 15:00"), World(5, 20.0, at("2026-11-12"))
    with account(world, now, tmp_path / "data") as (emulator, settings):
        sync_all(settings, publishing=True)
        day = "created_date=2026-11-13"
        give_to_nobody(tmp_path / "data")
        mine = [path for path in settings.data.rglob("*") if day in path.parts]
        take_from_nobody(*mine)
        emulator.clock.step(timedelta(hours=3))
        before = rows(settings.data, COVERAGE).num_rows
        report = as_nobody(lambda: sync_all(settings, publishing=True).summary())
        assert report["published"] is False
        failures = [*(f["error"] for f in report["failed_windows"]), *report["errors"]]
        assert failures
        assert all("belongs to root" in failure for failure in failures)
        assert rows(settings.data, COVERAGE).num_rows > before
        give_to_nobody(tmp_path / "data")
        healed = as_nobody(lambda: sync_all(settings, publishing=True).summary())
        assert (healed["failed_windows"], healed["errors"], healed["published"]) == ([], [], True)


@pytest.mark.parametrize("number", SYSTEM)
def test_failure_of_the_system_is_no_damage_of_the_file(number: int):
    """EIO, ESTALE and the like: as Python and Arrow tell them, and as DuckDB does."""
    said = os.strerror(number)
    found = faults.of_file(PART, OSError(number, f"Failed to open local file '{PART}'"))
    assert isinstance(found, UnreadableError)
    assert str(found).startswith(f"can't read {PART}: {said}")
    for what in ("Cannot open file", "Could not read from file"):
        error = duckdb.IOException(f'IO Error: {what} "{PART}": {said}\n\nLINE 11: FROM')
        assert str(faults.of_query(error)).startswith(f"can't read {PART}: {said}")
    assert "damaged" not in str(found)


def test_full_disk_is_a_failed_write():
    error = duckdb.IOException(f'IO Error: Could not write file "{PART}": No space left on device')
    assert str(faults.of_query(error)) == f"can't write {PART}: No space left on device. Make room"


@pytest.mark.parametrize("error", [OSError("Corrupt snappy data"), ValueError("no metadata")])
def test_what_no_system_says_is_damage(error: Exception):
    assert isinstance(faults.of_file(PART, error), DamagedError)


def test_wrong_query_is_no_file_failure():
    assert (
        faults.of_query(duckdb.BinderException("Binder Error: no column Permission denied")) is None
    )


def test_folder_in_the_place_of_a_file_is_named(lake: Lake):
    part = lake.part(OPERATIONS, PARTITION)
    part.unlink()
    part.mkdir()
    for name in ("rows", "count", "sql"):
        with pytest.raises(ArchiveError, match=r"part-0.parquet: Is a directory\. It is a folder"):
            READERS[name](lake)


def test_file_in_the_place_of_a_folder_is_named(lake: Lake):
    folder = lake.part(OPERATIONS, PARTITION).parent
    folder.rename(folder.with_name("aside"))
    folder.touch()
    with pytest.raises(LakeError, match=r"part-0.parquet: Not a directory\. A file is where"):
        parquet.read(lake.part(OPERATIONS, PARTITION), OPERATIONS.arrow)


def test_every_known_failure_names_its_file():
    for number in KNOWN:
        assert str(PART) in explain(OSError(number, os.strerror(number)), PART)


def test_command_says_what_to_do_about_a_refusal(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lake.json").mkdir()
    done = run("sql", "SELECT 1", "--data", "data", cwd=tmp_path)
    assert done.returncode == 1
    assert "lake.json: Is a directory. It is a folder and should be a file" in done.stderr


# Damage.


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = content[:4] + b"\xff" * (len(content) - 200) + content[-196:]
    path.write_bytes({"cut": content[:-9], "other": b"PAR1 not really", "middle": middle}[how])


@pytest.mark.parametrize("how", some(["cut", "other"], 1))
@pytest.mark.parametrize("table", [SLOT_COVERAGE, *MARTS], ids=lambda table: table.name)
def test_damaged_derived_file_is_derived_again(
    table: Table, how: str, lake: Lake, caplog: pytest.LogCaptureFixture
):
    part = lake.part(table, PARTITION)
    whole = part.read_bytes()
    damage(part, how)
    publish(lake, force=False)
    assert part.read_bytes() == whole
    assert f"{part} can't be read and is derived again" in caplog.text
    assert publish(lake, force=False) is False


@pytest.mark.parametrize("name", ["published.json", "marts.json", "rows.duckdb"])
def test_damaged_note_is_made_again(name: str, lake: Lake):
    derive_pending(lake)
    note = lake.derived(name)
    note.chmod(0o600)
    note.write_bytes(b"\xff{not really")
    publish(lake)
    status(lake, NOON)
    derived(lake)
    assert query.ask(lake, "FROM delivery_daily").num_rows == 1


def test_damaged_warehouse_is_published_again(lake: Lake):
    lake.warehouse.chmod(0o600)
    lake.warehouse.write_bytes(b"not really")
    with pytest.raises(ArchiveError, match="the warehouse is damaged: `email-archive publish`"):
        query.ask(lake, "FROM delivery_daily")
    assert publish(lake, force=False)
    assert query.ask(lake, "FROM delivery_daily").num_rows == 1


def test_damaged_kept_table_is_named_and_left_alone(lake: Lake):
    part = lake.part(COVERAGE, PARTITION)
    damage(part, "other")
    left = part.read_bytes()
    lake.part(SLOT_COVERAGE, PARTITION).unlink()
    with pytest.raises(LakeError, match=r"part-0\.parquet"):
        publish(lake)
    assert part.read_bytes() == left


@pytest.mark.parametrize("how", some(["cut", "other"], 1))
@pytest.mark.parametrize(
    "table", [COVERAGE, SLOT_COVERAGE, OPERATIONS, HISTORY], ids=lambda table: table.name
)
def test_status_names_a_damaged_file_and_shows_the_rest(table: Table, how: str, lake: Lake):
    other = Window.of_day(DAY - timedelta(days=1))
    derived(lake, scan([], window=other))
    now = NOON + timedelta(hours=5)
    whole = status(lake, now)
    damage(lake.part(table, PARTITION), how)
    found = status(lake, now)
    assert not found.ok
    assert [str(lake.part(table, PARTITION)) in fault for fault in found.unreadable] == [True]
    (account,) = found.accounts
    assert {slot.slot.date() for slot in account.slots} >= {other.day}
    assert set(account.slots) <= set(whole.accounts[0].slots)
    assert found.as_json()["unreadable_files"] == list(found.unreadable)


def test_status_of_an_account_names_no_damaged_file_of_another(lake: Lake):
    """R12"""
    derived(lake, scan([record(1)], account_id=OTHER_ACCOUNT))
    damage(lake.part(OPERATIONS, Partition(OTHER_ACCOUNT, DAY)), "cut")
    now = NOON + timedelta(hours=5)
    assert len(status(lake, now).unreadable) == 1
    assert status(lake, now, names=[ACCOUNT]).unreadable == ()


def test_command_status_names_a_damaged_file(lake: Lake):
    part = lake.part(HISTORY, PARTITION)
    damage(part, "cut")
    shown = run("status", "--data", str(lake.root), "--at", f"{NOON:%Y-%m-%dT%H:%M}", cwd=lake.root)
    assert shown.returncode == 1
    assert f"unreadable {part} is damaged or not a file of this archive" in shown.stdout
    assert "at 2026-11-20 14:00:00 UTC" in shown.stdout
