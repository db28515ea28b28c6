"""A run that is killed, fails or loses its power at any step that reaches the disk.

A run of everything that writes is counted first, and then broken at each of its moments, one run for
each: all of them with ``--every-step``, every 23rd otherwise. The last lines tell what was covered.
"""

import errno
import itertools
import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake import landing
from pipeline.lake.compact import compact
from pipeline.lake.files import Files
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake, LakeError
from pipeline.lake.merge import merge
from pipeline.marts.derive import derive
from pipeline.model.records import LookupBatch
from pipeline.model.schema import (
    HISTORY,
    LAKE_TABLES,
    LOOKUPS,
    OPERATION_ERRORS,
    OPERATIONS,
    REJECTS,
)
from pipeline.outputs.warehouse import publish
from tests.conftest import Figures
from tests.support.archives import rows, states
from tests.support.disks import (
    CountingDisk,
    Crash,
    CrashingDisk,
    FailingDisk,
    Platter,
    PowerlessDisk,
)
from tests.support.factories import (
    NOON,
    PARTITION,
    derived,
    landed,
    operation_id,
    record,
    scan,
    snapshot,
)

HOUR = timedelta(hours=1)
LATER = NOON + 3 * HOUR
SCANS = [
    scan(
        [record(1, updated_at=NOON + HOUR, stats={"opened": 1}), record(4), {"id": "no record"}],
        observed_at=LATER,
    ),
    scan([record(2, status="NEW_STATUS"), record(5)], observed_at=LATER + HOUR),
]
ANSWERS = LookupBatch(
    PARTITION,
    requested_at=LATER,
    operations=OPERATIONS.arrow.empty_table(),
    rejects=pa.table(
        {name: pa.array([], REJECTS.arrow.field(name).type) for name in REJECTS.names}
    ),
    lookups=pa.Table.from_pylist(
        [
            {
                "operation_id": operation_id(1),
                "subject": "errors",
                "requested_at": LATER,
                "failed": 1,
                "not_found_at": None,
            }
        ],
        schema=LOOKUPS.arrow,
    ),
    errors=pa.Table.from_pylist(
        [
            {
                "operation_id": operation_id(1),
                "code": "60301",
                "message": "no",
                "raw": '{"code": 60301}',
                "occurrences": 1,
                "observed_at": LATER,
            }
        ],
        schema=OPERATION_ERRORS.arrow,
    ),
    requests=1,
)


SHARES = (0.0, 0.5, 1.0)
Step = tuple[str, Callable[[Lake], object]]
LAKE: list[Step] = [
    ("scan 0", lambda lake: land(lake, SCANS[0])),
    ("scan 1", lambda lake: land(lake, SCANS[1])),
    ("answers", lambda lake: land_lookups(lake, ANSWERS)),
    ("merge", lambda lake: merge(lake, PARTITION)),
    ("compact", lambda lake: compact(lake, PARTITION)),
]
WAREHOUSE: list[Step] = [
    ("merge", lambda lake: merge(lake, PARTITION)),
    ("derive", lambda lake: derive(lake, PARTITION)),
    ("publish", publish),
]


class Work:
    """Everything that writes, on a lake; it goes on where it was broken off.

    Attributes:
        done: the steps whose end was told.
    """

    def __init__(self, steps: list[Step], done: Sequence[str] = ()) -> None:
        self.done = list(done)
        self._steps = steps

    def run(self, lake: Lake, disk: CountingDisk | None = None) -> None:
        lake.open()
        for name, act in self._steps:
            if name not in self.done:
                act(lake)
                if disk and name == self._steps[-1][0]:
                    disk.finish()
                self.done.append(name)

    def acknowledged(self) -> set[tuple[Any, ...]]:
        """The states whose landing was told."""
        found: set[tuple[Any, ...]] = set()
        for number, one in enumerate(SCANS):
            if f"scan {number}" in self.done:
                found |= states(one.operations)
        return found


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a past: merged, derived, published, and one scan that waits."""
    folder = tmp_path_factory.mktemp("before")
    lake = Lake(folder / "lake").open()
    derived(lake, scan([record(1), record(2), record(3)]))
    publish(lake)
    landed(lake, scan([record(3, stats={"opened": 1})], observed_at=LATER))
    return lake.root


def copied(before: Path, folder: Path) -> Path:
    """A copy of the lake alone in a folder of its own."""
    folder.mkdir()
    return Path(shutil.copytree(before, folder / "lake"))


def content(lake: Lake) -> dict[str, Any]:
    """What an archive holds; a scan that landed twice counts once."""
    found: dict[str, Any] = snapshot(lake)
    coverage = found.pop(next(name for name in found if name.startswith("coverage")))
    for name, table in found.items():
        found[name] = [
            {k: v for k, v in row.items() if k not in ("scan_id", "scans")} for row in table
        ]
    found["coverage"] = {str({k: v for k, v in row.items() if k != "scan_id"}) for row in coverage}
    return found


def on_disk(lake: Lake) -> set[tuple[Any, ...]]:
    """Every state in history, and every one that has landed."""
    found = states(rows(lake.root, HISTORY))
    for path in lake.landed(PARTITION):
        found |= states(landing.read(path).operations)
    return found


def check_whole(lake: Lake) -> None:
    """R6: whatever a reader may open is whole."""
    for table in LAKE_TABLES:
        for path in (lake.root / table.name).rglob("*"):
            if path.is_file():
                assert path.name == "part-0.parquet"
                pq.read_table(path, partitioning=None)
    ids = rows(lake.root, OPERATIONS)["operation_id"].to_pylist()
    assert len(ids) == len(set(ids))


def check_warehouse(lake: Lake) -> None:
    """R6"""
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM delivery_daily").fetchone() == (1,)


@dataclass
class Trial:
    """One run of the work for each moment at which it may be broken.

    Attributes:
        wanted: what the lake holds after a run that nothing breaks.
        whole: the disk of that run.
        every: break at every n-th moment, and at the last.
    """

    before: Path
    folder: Path
    steps: list[Step]
    every: int

    def __post_init__(self) -> None:
        self.whole = CountingDisk()
        lake = Lake(copied(self.before, self.folder / "whole"), Files(self.whole))
        Work(self.steps).run(lake, self.whole)
        self.wanted = content(lake)
        self._past = on_disk(Lake(self.before))

    @property
    def moments(self) -> list[int]:
        return sorted({*range(1, self.whole.count + 1, self.every), self.whole.count})

    @property
    def unsynced(self) -> list[int]:
        """The moments at which history or operations were renamed, and their folder was not synced yet."""
        tables = (HISTORY.name, OPERATIONS.name)
        return [number for path, number in self.whole.renamed if path.parts[-4] in tables]

    @property
    def acts(self) -> list[int]:
        """The moments at which a step may fail: after the last there is none."""
        return sorted({*range(1, self.whole.count, self.every), self.whole.count - 1})

    def check_covered(self, disks: Sequence[CountingDisk], count: Figures, what: str) -> None:
        """Every kind of step was met, before it and after it; every single one if that was asked for."""
        came = Counter(disk.broken[0] for disk in disks)
        after = Counter(disk.broken[1] for disk in disks)
        wanted, wanted_after = self.whole.moments, self.whole.after
        assert came <= wanted
        assert len(came) > 4
        assert self.every > 1 or came == wanted
        assert self.every > 1 or after == wanted_after
        for name, times in sorted(came.items()):
            count(f"{what} before: {name}", times)
        for name, times in sorted(after.items()):
            count(f"{what} after: {name}", times)

    def fresh(self, number: int) -> Path:
        """A folder with a copy of the lake in it."""
        here = self.folder / str(number)
        copied(self.before, here)
        return here

    def break_at(self, number: int, disk: CountingDisk, here: Path) -> tuple[Work, BaseException]:
        """Break one run of the work."""
        work = Work(self.steps)
        with pytest.raises((Crash, OSError, LakeError)) as caught:
            work.run(Lake(here / "lake", Files(disk)), disk)
        assert disk.count >= number
        return work, caught.value

    def heal(self, here: Path, work: Work) -> None:
        """Look at what a broken run left, go on with it, and look again."""
        lake = Lake(here / "lake")
        check_whole(lake)
        assert self._past | work.acknowledged() <= on_disk(lake)
        Work(self.steps, work.done).run(lake)
        assert content(lake) == self.wanted
        assert [path for path in (lake.root / ".tmp").rglob("*") if path.is_file()] == []
        if self.steps is WAREHOUSE:
            check_warehouse(lake)
        shutil.rmtree(here)


@pytest.fixture(
    params=[
        pytest.param(LAKE, id="lake"),
        pytest.param(WAREHOUSE, id="warehouse", marks=pytest.mark.slow),
    ]
)
def trial(request: pytest.FixtureRequest, before: Path, tmp_path: Path, steps_to_try: int) -> Trial:
    return Trial(before, tmp_path, request.param, steps_to_try)


def test_kill_at_any_step_loses_nothing_and_the_next_run_heals(trial: Trial, figures: Figures):
    """R1, R5, R6: before and after every write, sync, rename and removal."""
    disks: list[CountingDisk] = []
    for number in trial.moments:
        here = trial.fresh(number)
        disk = CrashingDisk(number)
        work, _ = trial.break_at(number, disk, here)
        trial.heal(here, work)
        disks.append(disk)
    trial.check_covered(disks, figures, "kills")


def test_run_after_a_kill_syncs_what_was_unsynced(trial: Trial, figures: Figures):
    """R1, R5: a kill at any step, a run that heals, and then the power goes."""
    for number in sorted({*trial.moments, *trial.unsynced}):
        here = trial.fresh(number)
        platter = Platter(here)
        trial.break_at(number, CrashingDisk(number, platter), here)
        # Compacting would rewrite, and so make last, what the run before it has to.
        steps = [step for step in trial.steps if step[0] != "compact"]
        Work(steps).run(Lake(here / "lake", Files(CountingDisk(platter))))
        left = here.with_name(f"{here.name}-left")
        platter.wreck(left, lambda _: False)
        assert content(Lake(left / "lake")) == trial.wanted
        figures("kills, each followed by a run and a power cut", 1)
        shutil.rmtree(here)
        shutil.rmtree(left)


def test_power_cut_at_any_step_loses_nothing_reported_done(trial: Trial, figures: Figures):
    """R5, R6: of what was not synced, nothing, some or all comes through."""
    disks: list[CountingDisk] = []
    for number in trial.moments:
        here = trial.fresh(number)
        disk = PowerlessDisk(number, here)
        work, _ = trial.break_at(number, disk, here)
        shares = SHARES if trial.every == 1 else SHARES[number % 3 :][:1]
        for share in shares:
            lots = random.Random(number)  # noqa: S311 - no secret
            left = here.with_name(f"{here.name}-{share}")
            disk.wreck(left, lambda _, s=share, lots=lots: lots.random() < s)
            trial.heal(left, work)
        figures("disks left by power cuts, healed", len(shares))
        shutil.rmtree(here)
        disks.append(disk)
    trial.check_covered(disks, figures, "power cuts")


@pytest.mark.parametrize(
    ("number", "once"), [(errno.ENOSPC, False), (errno.EIO, True)], ids=["full", "io-error"]
)
def test_disk_failure_at_any_step_is_an_error_and_heals(
    trial: Trial, figures: Figures, number: int, once: bool
):
    """R1, R5: a disk that is full stays so; one that fails once goes on."""
    error = OSError(number, os.strerror(number))
    disks = [FailingDisk(at, error, once=once) for at in trial.acts]
    for at, disk in zip(trial.acts, disks, strict=True):
        here = trial.fresh(at)
        work, said = trial.break_at(at, disk, here)
        assert error.strerror in str(said)
        trial.heal(here, work)
    what = "full disks" if number == errno.ENOSPC else "I/O errors"
    for name, times in sorted(Counter(disk.failed for disk in disks).items()):
        figures(f"{what} at: {name}", times)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No write of this process goes beyond so many bytes of a file: whoever writes gets EFBIG."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.slow
def test_disk_failure_in_duckdb_keeps_the_old_warehouse(
    before: Path, tmp_path: Path, figures: Figures
):
    """R5, R6: DuckDB writes its file itself; wherever it is stopped, nothing of it is left."""
    lake = Lake(copied(before, tmp_path / "here"))
    whole = lake.warehouse.stat().st_size
    old = lake.warehouse.read_bytes()
    said = set()
    for size in range(0, whole, 64 * 1024):
        with largest_file(size), pytest.raises(LakeError) as caught:
            publish(lake)
        said.add(os.strerror(errno.EFBIG) in str(caught.value))
        assert "the old one stays" in str(caught.value)
        assert lake.warehouse.read_bytes() == old
        assert [path for path in (lake.root / ".tmp").rglob("*") if path.is_file()] == []
        figures("failed writes of DuckDB's", 1)
    assert said == {True}
    assert publish(lake)
    check_warehouse(lake)


def test_full_disk_within_a_parquet_file_is_the_same_error(before: Path, tmp_path: Path):
    """R5: in whatever pieces it is written."""

    class Fragmented(FailingDisk):
        in_halves = False

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    written, said = 0, set()
    for number in itertools.count(1):
        here = tmp_path / f"fragment-{number}"
        copied(before, here)
        disk = Fragmented(number, full)
        lake = Lake(here / "lake", Files(disk))
        try:
            land(lake, SCANS[0])
        except OSError as error:
            said.add(error.strerror)
        else:
            break
        written += disk.failed == "write"
        assert on_disk(lake) >= on_disk(Lake(before))
    assert written
    assert said == {full.strerror}
