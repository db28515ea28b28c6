"""Whole archives: an emulated account, syncs of it, and what an archive then holds."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.emulator import Clock, Emulator, Options, World, running
from pipeline.emulator.truth import differences
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.model.schema import HISTORY, OPERATIONS, Table
from pipeline.settings import Settings
from pipeline.sync import EVERYTHING, sync
from pipeline.sync_report import SyncReport


@contextmanager
def account(
    world: World, now: datetime, data: Path, *, options: Options | None = None, **fields: Any
) -> Iterator[tuple[Emulator, Settings]]:
    """An emulated account whose clock stands at `now`, and the settings that archive it in `data`."""
    with running(world, clock=Clock(now), options=options) as emulator:
        yield emulator, settings_for(emulator, data, **fields)


def sync_all(settings: Settings, *, publishing: bool = False) -> SyncReport:
    """Scan everything that the API may still know, due or not. Publishing takes twice as long as the rest."""
    return sync(settings, scope=EVERYTHING, publishing=publishing)


def settings_for(emulator: Emulator, data: Path, **fields: Any) -> Settings:
    """Settings that archive an emulated account. Its clock is trusted: it is any, and goes at any pace."""
    return Settings(
        account_sid=emulator.options.account_sid,
        auth_token=emulator.options.auth_token,
        api_url=emulator.url,
        data=data,
        **({"trust_clock": True} | fields),
    )


def rows(data: Path, table: Table) -> pa.Table:
    """Every row of a table of the lake."""
    lake = Lake(data)
    parts = [lake.part(table, partition) for partition in lake.partitions(table.name)]
    return pa.concat_tables(
        [table.arrow.empty_table(), *(parquet.read(part, table.arrow) for part in parts)]
    )


def unlike_truth(
    emulator: Emulator, data: Path, first: datetime, observed: Iterable[datetime]
) -> list[str]:
    """What the archive has otherwise than the world, after scans of everything at these moments."""
    return differences(emulator.world, rows(data, OPERATIONS), first, list(observed))


def states(table: pa.Table) -> set[tuple[Any, ...]]:
    """The distinct states of operations or history, without the moments when they were seen."""
    columns = [name for name in HISTORY.names if name not in ("observed_at", "looked_up_at")]
    return {tuple(row.values()) for row in table.select(columns).to_pylist()}
