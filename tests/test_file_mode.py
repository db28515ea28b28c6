"""Who may read an archive: EMAIL_ARCHIVE_FILE_MODE, kept by whatever writes."""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.access import query
from pipeline.access.archive import Archive
from pipeline.access.export import export
from pipeline.emulator import World
from pipeline.lake.layout import Lake
from pipeline.quality.status import status
from pipeline.rebuild import rebuild
from pipeline.report.write import report
from tests.support.archives import account, sync_all
from tests.support.cases import some
from tests.support.command import run
from tests.support.factories import at
from tests.support.users import NOBODY, as_nobody, needs_root, reachable

NOW = at("2026-11-14 15:00")
WORLD = World(5, 20.0, at("2026-11-13"))
PRIVATE = (0o600, 0o700)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(data: Path) -> dict[str, int]:
    """The mode of everything in an archive; its databases without being read-only."""
    found = {}
    for path in (data, *data.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.suffix == ".duckdb":
            assert mode & 0o222 == 0
            mode |= 0o200
        found[str(path.relative_to(data))] = mode
    return found


def unlike(data: Path, file_mode: int, folder_mode: int) -> dict[str, str]:
    return {
        name: oct(mode)
        for name, mode in modes(data).items()
        if mode != (folder_mode if (data / name).is_dir() else file_mode)
    }


@pytest.mark.parametrize(
    ("setting", "file_mode", "folder_mode", "mask"),
    some([("0640", 0o640, 0o750, 0o077), (None, *PRIVATE, 0), ("0644", 0o644, 0o755, 0)], 1),
)
def test_every_file_and_folder_has_the_set_mode(
    setting: str | None, file_mode: int, folder_mode: int, mask: int, tmp_path: Path
):
    """R11: whatever the umask: tables, warehouse, report, exports, locks, markers and what is hidden."""
    data = tmp_path / "archive"
    with umask(mask), account(WORLD, NOW, data, file_mode=setting) as (emulator, settings):
        assert sync_all(settings, publishing=True).ok
        emulator.clock.set(at("2026-11-22 12:00"))
        assert sync_all(settings, publishing=True).ok
        lake = Lake.of(settings)
        rebuild(lake)
        report(lake)
        export(lake, "operations", "csv", data / "operations.csv")
    assert unlike(data, file_mode, folder_mode) == {}
    assert {"warehouse.duckdb", "report.html", ".locks/warehouse.lock"} <= modes(data).keys()


def test_existing_archive_gets_the_set_mode(tmp_path: Path):
    data = tmp_path / "archive"
    with account(WORLD, NOW, data) as (_, private):
        sync_all(private, publishing=True)
        report(Lake(data), accounts=[private.account_sid])
        (data / "not ours").mkdir(mode=0o700)
        for setting, file_mode, folder_mode in (("0640", 0o640, 0o750), ("0600", *PRIVATE)):
            sync_all(private.model_copy(update={"file_mode": setting}), publishing=True)
            (data / "not ours").chmod(folder_mode)
            assert unlike(data, file_mode, folder_mode) == {}


def test_existing_files_keep_their_mode_without_a_setting(tmp_path: Path):
    data = tmp_path / "archive"
    with account(WORLD, NOW, data) as (_, settings):
        sync_all(settings, publishing=True)
        (data / "lake.json").chmod(0o644)
        sync_all(settings, publishing=True)
    assert stat.S_IMODE((data / "lake.json").stat().st_mode) == 0o644


def test_command_keeps_the_mode_of_the_environment(tmp_path: Path):
    with account(WORLD, NOW, tmp_path / "archive") as (_, settings):
        sync_all(settings, publishing=True)
    done = run(
        "publish", cwd=tmp_path, EMAIL_ARCHIVE_DATA="archive", EMAIL_ARCHIVE_FILE_MODE="0644"
    )
    assert done.returncode == 0, done.stderr
    assert unlike(tmp_path / "archive", 0o644, 0o755) == {}


@needs_root
def test_group_reads_all_and_writes_nothing(tmp_path: Path):
    """With the setgid bit on the archive's folder, whatever is made in it is the group's."""
    data = tmp_path / "archive"
    data.mkdir()
    reachable(data)
    group = pwd.getpwnam(NOBODY).pw_gid
    os.chown(data, 0, group)
    data.chmod(0o2750)
    with account(WORLD, NOW, data, file_mode="0640") as (_, settings):
        assert sync_all(settings, publishing=True).ok
        assert sync_all(settings, publishing=True).ok
    lake = Lake(data)
    assert {path.stat().st_gid for path in data.rglob("*")} == {group}
    folders = [path for path in data.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & stat.S_ISGID for path in folders} == {stat.S_ISGID}

    def read() -> tuple[int, int, int]:
        rows = query.ask(lake, "FROM operations").num_rows
        return rows, len(Archive(data).operations()), status(lake, NOW).accounts[0].operations

    found = as_nobody(read)
    assert found[0] > 0
    assert len(set(found)) == 1
    with pytest.raises(PermissionError):
        as_nobody((data / "operations" / "x").touch)
