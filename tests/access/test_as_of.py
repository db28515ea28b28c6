"""The operations as they were known at a moment: in the notebook, and in SQL."""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import Archive
from pipeline.access.query import query_result
from pipeline.emulator import World
from pipeline.errors import UsageError
from pipeline.lake import parquet
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import AS_OF_MEANING, COUNT_NAMES, HISTORY, OPERATIONS
from pipeline.model.windows import RETENTION, slot_start
from pipeline.outputs.warehouse import publish
from pipeline.sync import sync
from tests.support.archives import account
from tests.support.factories import ACCOUNT, NOON, OTHER_ACCOUNT, at, new_lake, operation_id
from tests.support.states import as_known, distinct, newest

HOUR = timedelta(hours=1)
SPAN = timedelta(days=12)
MOMENTS = st.timedeltas(timedelta(0), SPAN).map(lambda after: NOON + after)


def state(chance: random.Random, number: int) -> dict[str, Any]:
    """A state with few different times and counts, so that ties of every kind come about."""
    created = NOON + timedelta(minutes=10 * number)
    seen = chance.choice([1, 2, 3, 24, 167, 168, 169, 200]) * HOUR
    looked_up = (
        chance.choice([0, 1, 30]) * HOUR if seen >= RETENTION and chance.random() < 0.6 else None
    )
    return {
        "operation_id": operation_id(number),
        "status": chance.choice(["COMPLETED", "PROCESSING"]),
        **{name: chance.choice([None, 0, 1]) for name in COUNT_NAMES},
        "created_at": created,
        "updated_at": created + chance.randint(0, 2) * HOUR,
        "observed_at": slot_start(created) + seen,
        "extra": chance.choice([None, "{}"]),
        "looked_up_at": None if looked_up is None else slot_start(created) + seen + looked_up,
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, list[dict]]]:
    """Histories of two accounts with stale, late and tied states, and their rows."""
    lake = new_lake(tmp_path_factory.mktemp("as_of"))
    chance = random.Random(7)  # noqa: S311 - repeatable, and no secret
    histories = {}
    for account_id in (ACCOUNT, OTHER_ACCOUNT):
        partition = Partition(account_id, NOON.date())
        rows = [state(chance, number) for number in range(30) for _ in range(chance.randint(1, 9))]
        history = distinct(rows)
        for kept, what in ((HISTORY, history), (OPERATIONS, newest(history))):
            table = pa.Table.from_pylist(what, schema=kept.arrow)
            temporary = lake.temporary_file(kept.name, partition)
            parquet.write(lake, table, lake.part(kept, partition), temporary)
        histories[account_id] = history
    publish(lake)
    return lake, histories


def brute(histories: dict[str, list[dict]], moment: datetime) -> list[dict]:
    return [
        {"account_id": account_id, "created_date": NOON.date()} | row
        for account_id, rows in sorted(histories.items())
        for row in newest(as_known(row, moment) for row in rows if row["observed_at"] <= moment)
    ]


@given(MOMENTS)
@example(NOON + timedelta(hours=1))
@example(NOON + RETENTION)
@example(NOON + SPAN)
def test_as_of_is_the_newest_state_seen_by_then(archive, moment: datetime):
    """R3, by comparing every state with every other."""
    lake, histories = archive
    expected = brute(histories, moment)
    frame = Archive(lake.root).operations(as_of=moment)
    assert pa.Table.from_pandas(frame, preserve_index=False).to_pylist() == expected
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        query = f"FROM operations_as_of('{moment.isoformat()}') ORDER BY account_id, operation_id"
        assert connection.sql(query).to_arrow_table().to_pylist() == expected


def test_as_of_the_end_is_what_is_known_now(archive):
    """R2: operations are the newest states of the whole history."""
    lake, _ = archive
    now = Archive(lake.root).operations()
    assert Archive(lake.root).operations(as_of=NOON + SPAN).equals(now)


def test_before_the_first_scan_nothing_was_known(archive):
    lake, _ = archive
    frame = Archive(lake.root).operations(as_of="2026-11-20T12:59:59Z", columns=["status"])
    assert (len(frame), list(frame.columns)) == (0, ["status"])
    with pytest.raises(UsageError, match="as_of"):
        Archive(lake.root).operations(as_of="yesterday")


def test_macro_has_the_columns_of_operations_and_a_description(archive):
    lake, _ = archive
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        described = connection.execute("DESCRIBE FROM operations_as_of('2026-11-21')").fetchall()
        query = "SELECT comment FROM duckdb_functions() WHERE function_name = 'operations_as_of'"
        assert connection.execute(query).fetchall() == [(AS_OF_MEANING,)]
    assert [row[0] for row in described] == [column.name for column in OPERATIONS.published]


@pytest.mark.parametrize("table", ["operations", "history", "operations_as_of('2026-11-30')"])
def test_query_of_an_account_sees_its_rows_alone(archive, table: str):
    lake, _ = archive
    query = f"SELECT DISTINCT account_id FROM {table} ORDER BY ALL"
    for accounts, expected in ([OTHER_ACCOUNT], [OTHER_ACCOUNT]), ([], [ACCOUNT, OTHER_ACCOUNT]):
        with query_result(lake, query, accounts) as result:
            assert [row[0] for row in result.fetchall()] == sorted(expected)


def test_synced_archive_remembers_what_it_knew_at_each_sync(tmp_path: Path):
    """Against the archive itself: its operations after each sync, asked for later."""
    world = World(5, 60.0, at("2026-11-01"))
    remembered = []
    with account(world, at("2026-11-10 06:00"), tmp_path) as (emulator, settings):
        for _ in range(4):
            sync(settings, publishing=False)
            remembered.append((emulator.clock.now(), Archive(tmp_path).operations()))
            emulator.clock.step(timedelta(hours=9))
    archive = Archive(tmp_path)
    assert len({len(frame) for _, frame in remembered}) == 4
    for moment, frame in remembered:
        assert archive.operations(as_of=moment).equals(frame)
