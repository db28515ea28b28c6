"""What is measured on the disk alone: rescans, sizes, queries, publishing."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.emulator.world import World
from pipeline.extract.scan import observed, rejects_table
from pipeline.lake import parquet
from pipeline.lake.coverage import cover, to_table
from pipeline.lake.landing import land
from pipeline.lake.layout import DERIVE, Lake
from pipeline.merge_runner import merge_pending
from pipeline.model.records import Partition, Scan, ScanFacts
from pipeline.model.schema import (
    AGES,
    COUNTING_EVIDENCE,
    COVERAGE,
    DELIVERY_CURVE,
    DELIVERY_HOURLY,
    HISTORY,
    MARTS,
    OPERATION_SIZES,
    OPERATIONS,
    RECORD_SCHEMA,
    SIZE_CLASSES,
    SLOT_COVERAGE,
    TIMESTAMP,
    Table,
)
from pipeline.model.windows import Window, midnight
from pipeline.outputs.warehouse import publish
from tests.benchmarks.speed.load import KINDS, SEED, VARIED, with_own_counts
from tests.benchmarks.speed.load import to_table as operations_of
from tests.benchmarks.speed.report import Figure, Plan, at_most, check
from tests.benchmarks.speed.server import ACCOUNT_SID

_DAY: Final = date(2026, 11, 20)
_PARTITION: Final = Partition(ACCOUNT_SID, _DAY)
_HOUR: Final = timedelta(hours=1)
_NOTHING: Final = RECORD_SCHEMA.empty_table()
_QUERY: Final = """
SELECT status, date_trunc('hour', created_at) AS hour, count(*), sum(total), sum(delivered), sum(opened)
FROM {rows} GROUP BY ALL ORDER BY ALL
"""


def _rows(operations: int, at: datetime, *, varied: bool = False) -> pa.Table:
    """A day of so many operations, as a listing at a moment tells them: `schema.RECORD_SCHEMA`."""
    start = midnight(_DAY)
    world = World(SEED, operations * 1.2, start - timedelta(days=4))
    numbers = np.asarray(world.numbers(start, start + timedelta(days=1)))[:operations]
    pieces = [
        operations_of(world, numbers[n : n + 50_000], at) for n in range(0, len(numbers), 50_000)
    ]
    rows = pa.concat_tables(pieces)
    if varied:
        rows = with_own_counts(rows, SEED)
    return rows.append_column("extra", pa.nulls(rows.num_rows, pa.string())).cast(RECORD_SCHEMA)


def _scan(rows: pa.Table, at: datetime, day: date = _DAY) -> Scan:
    facts = ScanFacts(
        account_id=ACCOUNT_SID,
        window=Window.of_day(day),
        observed_at=at,
        completed_at=at,
        complete=True,
        pages=rows.num_rows // 1000,
        requests=rows.num_rows // 1000,
        retries=0,
        records=rows.num_rows,
        operations=rows.num_rows,
        outside=0,
        duplicates=0,
        rejects=0,
    )
    return Scan(facts, observed(rows, at), rejects_table((), at))


def _changed(rows: pa.Table, at: datetime, each: int) -> pa.Table:
    """The rows with every so many-th one opened once more, just before a moment."""
    is_changed = pa.array(np.arange(rows.num_rows) % each == 0)
    moment = pa.scalar(at - timedelta(minutes=1), TIMESTAMP)
    opened = pc.if_else(is_changed, pc.add(rows["opened"], 1), rows["opened"])
    updated = pc.if_else(is_changed, moment, rows["updated_at"])
    names = rows.schema.names
    rows = rows.set_column(names.index("opened"), "opened", opened)
    return rows.set_column(names.index("updated_at"), "updated_at", updated).cast(RECORD_SCHEMA)


def _processor(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _take_in(lake: Lake, scan: Scan) -> None:
    """As a sync does: what a merge has at hand is derived at once."""
    land(lake, scan)
    check(not merge_pending(lake, deriving=True).errors, "a day was not merged")
    check(not lake.has_work(_PARTITION, DERIVE), "a day was not derived")


def rescan(plan: Plan) -> list[Figure]:
    """A day again, 1 % of it changed, against DuckDB by hand; again without change; sizes."""
    return [figure for kind in KINDS for figure in _rescan(plan, kind)]


def _rescan(plan: Plan, kind: str) -> list[Figure]:
    first, later = midnight(_DAY) + 26 * _HOUR, midnight(_DAY) + 34 * _HOUR
    rows = _rows(plan.of(1_000_000), first, varied=kind == VARIED)
    lake = Lake(plan.folder / "rescan").open()
    _take_in(lake, _scan(rows, first))
    target = lake.part(OPERATIONS, _PARTITION)
    size = target.stat().st_size / rows.num_rows
    kept = plan.folder / "kept"
    shutil.copytree(lake.root, kept)
    changed = _changed(rows, later, 100)
    count = pc.sum(pc.not_equal(changed["opened"], rows["opened"])).as_py()
    again = _scan(changed, later)

    def both() -> tuple[float, float, float]:
        by_hand = _processor(
            lambda: _by_hand(kept, again.operations, plan.folder / "by_hand.parquet")
        )
        shutil.rmtree(lake.root)
        shutil.copytree(kept, lake.root)
        here = Lake(lake.root)
        ours = _processor(lambda: _take_in(here, again))
        check(parquet.count(here.part(HISTORY, _PARTITION)) == rows.num_rows + count, "history")
        operations = parquet.read(target, OPERATIONS.arrow)
        check(operations.num_rows == rows.num_rows, "operations")
        sums = [pc.sum(table["opened"]).as_py() for table in (operations, changed)]
        check(sums[0] == sums[1], f"sums of opened differ: {sums}")
        return by_hand, ours, ours / by_hand

    by_hand, ours, ratio = plan.median(both)
    before = _stamps(lake)
    _take_in(lake, _scan(changed, later + _HOUR))
    written = sum(
        file.stat().st_size for file, stamp in _stamps(lake).items() if before.get(file) != stamp
    )
    sizes = []
    if kind != VARIED:
        history = _history_bytes(lake, plan, rows, later)
        sizes.append(at_most("an operation in operations", size, 21, "bytes"))
        sizes.append(at_most("a further state in history", history, 10, "bytes"))
    shutil.rmtree(kept)
    shutil.rmtree(lake.root)
    (plan.folder / "by_hand.parquet").unlink()
    title = f"rescan of a day of {rows.num_rows:,}, {kind}, 1 % changed: processor time"
    made_of = f"{ours:.2f} s against {by_hand:.2f} s"
    return [
        at_most(title, ratio, 1.75, "x DuckDB by hand", made_of),
        at_most("rescan with nothing changed, operations, history and marts", written, 0, "bytes"),
        *sizes,
    ]


def _by_hand(kept: Path, seen: pa.Table, file: Path) -> None:
    """What one would write by hand: the day's file, joined with what was seen, the newer ones kept."""
    day = (
        kept
        / "operations"
        / f"account_id={ACCOUNT_SID}"
        / f"created_date={_DAY}"
        / "part-0.parquet"
    )
    names = [name for name in OPERATIONS.names if name != "operation_id"]
    chosen = ", ".join(
        f"CASE WHEN s.updated_at > k.updated_at OR k.updated_at IS NULL THEN s.{n} ELSE k.{n} END AS {n}"
        for n in names
    )
    with duckdb.connect() as connection:
        connection.register("seen", seen)
        connection.execute(
            f"COPY (SELECT operation_id, {chosen} FROM '{day}' k FULL JOIN seen s USING (operation_id) "
            f"ORDER BY operation_id) TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
        )


def _stamps(lake: Lake) -> dict[Path, tuple[int, int]]:
    """Which files operations, history and marts are."""
    files = [lake.part(table, _PARTITION) for table in (OPERATIONS, HISTORY, *MARTS)]
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files if file.exists()}


def _history_bytes(lake: Lake, plan: Plan, rows: pa.Table, at: datetime) -> float:
    """Bytes of a further state: the day as it comes about and changes, seen at the policy's ages."""
    shutil.rmtree(lake.root)
    lake = Lake(lake.root).open()
    count = min(rows.num_rows, plan.of(100_000))
    sizes, states = [], []
    for hours in (*range(2, 26, 2), 26, 30, 34, 42, 50, 58, 66, 74, 98, 122, 146, 167):
        at = midnight(_DAY) + hours * _HOUR
        _take_in(lake, _scan(_rows(count, at), at))
        file = lake.part(HISTORY, _PARTITION)
        sizes.append(file.stat().st_size)
        states.append(parquet.count(file))
    operations = parquet.read(lake.part(OPERATIONS, _PARTITION), OPERATIONS.arrow)
    once = parquet.encode(operations).size
    return (sizes[-1] - once) / max(states[-1] - operations.num_rows, 1)


def query(plan: Plan) -> list[Figure]:
    """An aggregate over 30 days through the view, against the same rows in one file."""
    per_day, days = plan.of(1_000_000), 30
    at = midnight(_DAY) + timedelta(days=8)
    lake = Lake(plan.folder / "query").open()
    rows = observed(_rows(per_day, at), at)
    file = plan.folder / "flat.parquet"
    with pq.ParquetWriter(file, OPERATIONS.arrow, compression="zstd") as writer:
        for number in range(days):
            partition = Partition(ACCOUNT_SID, _DAY + timedelta(days=number))
            shift = pa.scalar(timedelta(days=number), pa.duration("us"))
            day = rows.set_column(
                rows.schema.names.index("created_at"),
                "created_at",
                pc.add(rows["created_at"], shift),
            ).cast(OPERATIONS.arrow)
            temporary = lake.temporary_file("operations", partition)
            parquet.write(
                lake, day, lake.part(OPERATIONS, partition), temporary, form=parquet.COMPACTED
            )
            writer.write_table(day, row_group_size=122_880)
    publish(lake)
    found = {}

    def timed(connection: duckdb.DuckDBPyConnection, source: str) -> float:
        began = time.perf_counter()
        found[source] = connection.execute(_QUERY.format(rows=source)).fetchall()
        return time.perf_counter() - began

    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        flat_name = f"'{file}'"
        timed(connection, "operations"), timed(connection, flat_name)

        def both() -> tuple[float, float, float]:
            flat, view = timed(connection, flat_name), timed(connection, "operations")
            return flat, view, view / flat

        flat, view, ratio = replace(plan, runs=2 * plan.runs + 1).median(both)
    check(found["operations"] == found[flat_name], "the two queries differ")
    check(sum(row[2] for row in found["operations"]) == days * rows.num_rows, "rows are missing")
    shutil.rmtree(lake.root)
    file.unlink()
    title = f"an aggregate over {days * rows.num_rows:,} operations in {days} days through the view"
    made_of = f"{1000 * view:.0f} ms against {1000 * flat:.0f} ms"
    return [at_most(title, ratio, 1.2, "x one flat file", made_of)]


def archive_size(plan: Plan) -> list[Figure]:
    """Delivery rates over a year, and publishing against the number of compacted days."""
    few, many = 36, max(plan.of(365), 37)
    costs = {days: _publishing(plan, days) for days in (few, many)}
    ratio = costs[many][0] / costs[few][0]
    made_of = (
        f"{1000 * costs[many][0]:.0f} ms for {many} days, {1000 * costs[few][0]:.0f} ms for {few}"
    )
    return [
        at_most("delivery rate per day over a year, from the warehouse", costs[many][1], 50, "ms"),
        at_most(
            "publish after one day changed, an archive of 10 x more days", ratio, 1.5, "x", made_of
        ),
    ]


def _publishing(plan: Plan, days: int) -> tuple[float, float]:
    """Processor time of publishing after a change of one day, and milliseconds of a query of rates."""
    lake = Lake(plan.folder / f"year-{days}").open()
    first = _DAY - timedelta(days=days)
    for number in range(days):
        _mart_day(lake, first + timedelta(days=number), number)
    publish(lake)
    turns = iter(range(1000, 2000))

    def once() -> tuple[float, float]:
        _mart_day(lake, first + timedelta(days=days - 1), next(turns))
        cost = _processor(lambda: publish(lake, force=False))
        began = time.perf_counter()
        with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
            query = (
                "SELECT created_date, delivery_rate FROM delivery_daily "
                "WHERE operations > 0 ORDER BY 1"
            )
            found = connection.execute(query).fetchall()
        took = time.perf_counter() - began
        check(len(found) == days, f"{len(found)} days instead of {days}")
        check(all(0.5 < rate < 1 for _, rate in found), "rates that can't be")
        return cost, 1000 * took

    cost, took = replace(plan, runs=2 * plan.runs + 1).median(once)
    shutil.rmtree(lake.root)
    return cost, took


def _mart_day(lake: Lake, day: date, luck: int) -> None:
    """A day as it lies in an archive that scans by the policy: marts at 1,000,000 operations, coverage.

    What operations and history hold is left out: publishing never reads it.
    """
    partition = Partition(ACCOUNT_SID, day)
    hours = [midnight(day) + n * _HOUR for n in range(24)]
    whole = 41_667 + (luck * 37) % 1000
    factors = {"rated_delivered": 0.95, "delivered": 0.95, "rated_opened": 0.3, "opened": 0.3}
    asked = [*range(2, 26, 2), 26, 30, 34, 42, 50, 58, 66, 74, 98, 122, 146, 167]
    scans = [_scan(_NOTHING, midnight(day) + n * _HOUR, day).facts for n in asked]
    coverage = pa.Table.from_pylist(
        [
            {
                "scan_id": f"{facts.observed_at:%Y%m%dT%H%M%SZ}",
                "window_start": facts.window.start,
                "window_end": facts.window.end,
                **{name: getattr(facts, name) for name in COVERAGE.names[3:]},
            }
            for facts in scans
        ],
        schema=COVERAGE.arrow,
    )
    keys: dict[Table, list[dict[str, Any]]] = {
        DELIVERY_HOURLY: [
            {"hour": hour, "status": status}
            for hour in hours
            for status in ("COMPLETED", "PROCESSING", "SCHEDULED")
        ],
        COUNTING_EVIDENCE: [
            {"models": models, "example": "comms_operation_01h9krwprkeee8fzqspvwy6nq8"}
            for models in ("cumulative", "cumulative opened_apart")
        ],
        OPERATION_SIZES: [{"size_class": name, "smallest": least} for name, least in SIZE_CLASSES],
        DELIVERY_CURVE: [{"hour": h, "age_minutes": age} for h in hours for _, age in AGES],
    }
    tables = {COVERAGE: coverage, SLOT_COVERAGE: to_table(cover(day, coverage))}
    for mart, rows in keys.items():
        counts = {
            column.name: int(whole * factors.get(column.name, 1))
            for column in mart.columns
            if column.name not in rows[0]
        }
        tables[mart] = pa.Table.from_pylist([row | counts for row in rows], schema=mart.arrow)
    for table, found in tables.items():
        temporary = lake.temporary_file(table.name, partition)
        form = parquet.COMPACTED if table is COVERAGE or table is SLOT_COVERAGE else parquet.OPEN
        parquet.write(lake, found, lake.part(table, partition), temporary, form=form)
