"""Readers in other processes while syncs go on: no torn file, no duplicate, no lock (R6)."""

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pipeline.access.archive import Archive
from pipeline.emulator import World
from tests.support.archives import account, sync_all
from tests.support.factories import at

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["pipeline.access.archive", "duckdb", "pandas.io.parquet"])

START = at("2026-11-10")
Counted = tuple[int, int]


def by_plain_pandas(data: Path) -> Counted:
    ids = pd.read_parquet(data / "operations", columns=["operation_id"])["operation_id"]
    return len(ids), ids.nunique()


def by_archive(data: Path) -> Counted:
    ids = Archive(data).operations(columns=["operation_id"])["operation_id"]
    return len(ids), ids.nunique()


def by_duckdb_on_parquet(data: Path) -> Counted:
    query = "SELECT count(*), count(DISTINCT operation_id) FROM read_parquet(?, hive_partitioning = true)"
    with duckdb.connect() as connection:
        found = connection.execute(query, [f"{data}/operations/**/*.parquet"]).fetchone()
    assert found
    return found[0], found[1]


def by_warehouse(data: Path) -> Counted:
    with duckdb.connect(data / "warehouse.duckdb", read_only=True) as connection:
        found = connection.execute(
            "SELECT count(*), count(DISTINCT operation_id) FROM operations"
        ).fetchone()
        derived = connection.execute("SELECT sum(operations) FROM delivery_daily").fetchone()
    assert found
    assert derived
    assert derived[0] > 0
    return found[0], found[1]


READERS = [by_plain_pandas, by_archive, by_duckdb_on_parquet, by_warehouse]


def read_until(
    stop: Event, reads: "Queue[list[Counted] | str]", read: Callable[[Path], Counted], data: Path
) -> None:
    """Read again and again; report what each read found, or the first error."""
    found: list[Counted] = []
    try:
        while not stop.is_set():
            found.append(read(data))
    except BaseException as error:
        reads.put(repr(error))
        raise
    reads.put(found)


@pytest.mark.slow
@pytest.mark.parametrize("read", READERS)
def test_readers_meet_nothing_but_whole_states(tmp_path: Path, read: Callable[[Path], Counted]):
    """R6"""
    with account(World(12, 400.0, START), at("2026-11-13"), tmp_path) as (emulator, settings):
        sync_all(settings, publishing=True)
        stop, reads = context.Event(), context.Queue()
        reader = context.Process(target=read_until, args=(stop, reads, read, tmp_path))
        reader.start()
        for _ in range(5):
            emulator.clock.step(timedelta(hours=4))
            assert sync_all(settings, publishing=True).ok
        stop.set()
        found = reads.get(timeout=60)
        reader.join()
        expected = len(emulator.world.existing(emulator.clock.now()))
    assert isinstance(found, list), found
    assert len(found) > 2
    assert all(rows == distinct for rows, distinct in found)
    counts = [rows for rows, _ in found]
    assert counts == sorted(counts)
    assert read(tmp_path) == (expected, expected)
