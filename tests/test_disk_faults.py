"""A run that is killed, fails or loses its power at any step that reaches the disk.

A run of everything that writes is counted first, and then broken at each of its moments, one run for
each: all of them with ``--every-step``, every fifth otherwise.
"""

import errno
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.facts import Answers
from pipeline.lake import landing
from pipeline.lake.files import Files
from pipeline.lake.fold import fold
from pipeline.lake.landing import land, land_answers
from pipeline.lake.layout import Lake
from pipeline.lake.seal import seal
from pipeline.marts.summarize import summarize
from pipeline.schema import HISTORY, LAKE_TABLES, LOOKUPS, OPERATION_ERRORS, OPERATIONS, REJECTS
from pipeline.warehouse import publish
from tests.support.archives import rows, states
from tests.support.disks import CountingDisk, Crash, CrashingDisk, FailingDisk, PowerlessDisk
from tests.support.factories import (
    NOON,
    PARTITION,
    landed,
    operation_id,
    record,
    scan,
    snapshot,
    summarized,
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
ANSWERS = Answers(
    PARTITION,
    asked_at=LATER,
    operations=OPERATIONS.arrow.empty_table(),
    rejects=pa.table(
        {name: pa.array([], REJECTS.arrow.field(name).type) for name in REJECTS.names}
    ),
    lookups=pa.Table.from_pylist(
        [
            {
                "operation_id": operation_id(1),
                "subject": "errors",
                "asked_at": LATER,
                "failed": 1,
                "gone_at": None,
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


Step = tuple[str, Callable[[Lake], object]]
LAKE: list[Step] = [
    ("scan 0", lambda lake: land(lake, SCANS[0])),
    ("scan 1", lambda lake: land(lake, SCANS[1])),
    ("answers", lambda lake: land_answers(lake, ANSWERS)),
    ("fold", lambda lake: fold(lake, PARTITION)),
    ("seal", lambda lake: seal(lake, PARTITION)),
]
WAREHOUSE: list[Step] = [
    ("fold", lambda lake: fold(lake, PARTITION)),
    ("summarize", lambda lake: summarize(lake, PARTITION)),
    ("publish", publish),
]


class Work:
    """Everything that writes, on a lake; it goes on where it was broken off.

    Attributes:
        done: the steps whose end was told.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.done: list[str] = []
        self._steps = steps

    def run(self, lake: Lake) -> None:
        lake.open()
        for name, act in self._steps:
            if name not in self.done:
                act(lake)
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
    """A lake with a past: folded, summarized, published, and one scan that waits."""
    folder = tmp_path_factory.mktemp("before")
    lake = Lake(folder / "lake").open()
    summarized(lake, scan([record(1), record(2), record(3)]))
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


class Trial:
    """One run of the work for each moment at which it may be broken.

    Attributes:
        wanted: what the lake holds after a run that nothing breaks.
        moments: of that run.
    """

    def __init__(self, before: Path, folder: Path, steps: list[Step]) -> None:
        self._before, self._folder, self._steps = before, folder, steps
        self._past = on_disk(Lake(before))
        whole = CountingDisk()
        lake = Lake(copied(before, folder / "whole"), Files(whole))
        Work(steps).run(lake)
        self.wanted, self.moments, self.count = content(lake), whole.moments, whole.count

    def broken_at(self, number: int, disk: CountingDisk, here: Path) -> Iterator[BaseException]:
        """Break one run; then look at what is left, after the block, and heal it."""
        work = Work(self._steps)
        with pytest.raises((Crash, OSError)) as caught:
            work.run(Lake(here / "lake", Files(disk)))
        if isinstance(disk, PowerlessDisk):
            lots = random.Random(number)  # noqa: S311 - no secret
            share = (0.0, 0.5, 1.0)[number % 3]
            left = here.with_name(f"{here.name}-left")
            disk.wreck(left, lambda _: lots.random() < share)
            here = left
        lake = Lake(here / "lake")
        check_whole(lake)
        assert self._past | work.acknowledged() <= on_disk(lake)
        yield caught.value
        work.run(lake)
        assert content(lake) == self.wanted
        assert [path for path in (lake.root / ".tmp").rglob("*") if path.is_file()] == []
        if "publish" in work.done:
            check_warehouse(lake)

    def break_all(
        self, disk: Callable[[int, Path], CountingDisk], every: int
    ) -> Iterator[BaseException]:
        """Break a run at every n-th moment, each on a fresh copy; give what it ended with."""
        for number in range(1, self.count + 1, every):
            here = self._folder / str(number)
            copied(self._before, here)
            yield from self.broken_at(number, disk(number, here), here)
            for used in self._folder.glob(f"{number}*"):
                shutil.rmtree(used)


@pytest.fixture(params=[LAKE, WAREHOUSE], ids=["lake", "warehouse"])
def trial(request: pytest.FixtureRequest, before: Path, tmp_path: Path) -> Trial:
    return Trial(before, tmp_path, request.param)


def test_run_that_is_killed_at_any_step_loses_nothing_and_the_next_one_heals(
    trial: Trial, steps_to_try: int
):
    """R1, R5, R6"""
    broken = trial.break_all(lambda n, _: CrashingDisk(n), every=steps_to_try)
    crashes = Counter(str(error) for error in broken)
    assert crashes.total() > 10
    assert len(crashes) > 3
    assert crashes <= trial.moments
    assert steps_to_try > 1 or crashes == trial.moments


def test_power_that_fails_at_any_step_takes_nothing_that_was_told_to_be_done(
    trial: Trial, steps_to_try: int
):
    """R5, R6: of what was not synced, nothing, some or all comes through."""
    cuts = list(trial.break_all(PowerlessDisk, every=steps_to_try))
    assert len(cuts) >= trial.count // steps_to_try


def test_full_disk_at_any_step_is_a_clear_error_and_the_next_run_heals(
    trial: Trial, steps_to_try: int
):
    """R5"""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = list(trial.break_all(lambda n, _: FailingDisk(n, full), every=steps_to_try))
    assert errors
    assert all("No space left on device" in str(error) for error in errors)


def test_full_disk_in_the_midst_of_a_parquet_file_is_the_same_error(before: Path, tmp_path: Path):
    """R5: in whatever pieces it is written."""

    class Fragmented(FailingDisk):
        in_halves = False

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    trial = Trial(before, tmp_path, LAKE[:1])
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
    assert trial.count < number
