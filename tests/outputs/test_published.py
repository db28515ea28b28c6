"""The warehouse while another program writes to it: what readers see, and what publishing does about it."""

import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from pipeline.access import query
from pipeline.access.export import export
from pipeline.lake.files import Files
from pipeline.lake.layout import Lake
from pipeline.outputs.published import write_ahead_log
from pipeline.outputs.warehouse import publish
from pipeline.quality.anomalies import latest_anomalies
from pipeline.quality.status import status
from pipeline.report.data import read_accounts
from tests.support.cases import some
from tests.support.disks import CountingDisk, Crash, CrashingDisk
from tests.support.factories import NOON, derived, new_lake, record, scan

CLIENT = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    connection.execute(line)
    print(flush=True)
"""
EMPTY = "DELETE FROM delivery_daily"
WRITES = [
    pytest.param("CREATE TABLE notes AS SELECT 1 AS note", id="ddl"),
    pytest.param(EMPTY, id="delete"),
    pytest.param("DROP TABLE delivery_daily", id="drop"),
]


class Client:
    """Another program with a connection for writing, such as a graphical one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._wait()

    def execute(self, statement: str) -> None:
        self._send(f"{statement}\n")
        self._wait()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _wait(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == "\n"


@contextmanager
def client(lake: Lake) -> Iterator[Client]:
    """A client of the warehouse, which closes its connection at the end."""
    lake.warehouse.chmod(0o600)  # as its owner may
    arguments = [sys.executable, "-c", CLIENT, str(lake.warehouse)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Client(process)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = derived(new_lake(tmp_path), scan([record(1), record(2)]))
    publish(lake)
    return lake


def exported(lake: Lake) -> int:
    sink = io.BytesIO()
    export(lake, "delivery_daily", "csv", sink)
    return len(sink.getvalue().splitlines()) - 1


def days(lake: Lake) -> list[tuple]:
    """What any program reads."""
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        return connection.execute("SELECT operations FROM delivery_daily").fetchall()


def tables(lake: Lake) -> set[str]:
    with duckdb.connect(str(lake.warehouse), read_only=True) as connection:
        return {name for (name,) in connection.execute("SHOW TABLES").fetchall()}


READERS: dict[str, Callable[[Lake], object]] = {
    "sql": lambda lake: query.ask(lake, "SELECT operations FROM delivery_daily").num_rows,
    "export": exported,
    "report": lambda lake: len(read_accounts(lake)[0]),
    "status": lambda lake: len(status(lake, NOON).accounts),
    "anomalies": lambda lake: len(latest_anomalies(lake)) + 1,
}


@pytest.fixture(params=some(READERS, 2))
def read(request: pytest.FixtureRequest) -> Callable[[Lake], object]:
    return READERS[request.param]


def test_log_of_a_killed_client_disturbs_no_reader(lake: Lake, read: Callable[[Lake], object]):
    """R6"""
    with client(lake) as other:
        other.execute(EMPTY)
        other.kill()
    assert write_ahead_log(lake.warehouse).exists()
    assert read(lake) == 1


def test_client_with_the_warehouse_open_for_writing_locks_no_reader_out(
    lake: Lake, read: Callable[[Lake], object], caplog: pytest.LogCaptureFixture
):
    """R6"""
    with client(lake):
        assert read(lake) == 1
    assert f"another program opened {lake.warehouse} for writing" in caplog.text


def test_client_writing_after_publishing_disturbs_no_reader(
    lake: Lake, read: Callable[[Lake], object]
):
    """R6: its log appears beside a file that it is not of."""
    with client(lake) as other:
        assert publish(lake, force=False)
        other.execute(EMPTY)
        assert write_ahead_log(lake.warehouse).exists()
        assert read(lake) == 1


@pytest.mark.parametrize("force", some([False, True], 1))
@pytest.mark.parametrize("write", WRITES)
def test_publishing_removes_the_log_of_a_killed_client(
    lake: Lake, caplog: pytest.LogCaptureFixture, write: str, force: bool
):
    """R6: also where nothing else changed; any program can read the warehouse then."""
    before = tables(lake)
    with client(lake) as other:
        other.execute(write)
        other.kill()
    assert publish(lake, force=force)
    assert not write_ahead_log(lake.warehouse).exists()
    assert days(lake) == [(2,)]
    assert tables(lake) == before
    assert f"another program wrote to {lake.warehouse}" in caplog.text


def test_deleted_warehouse_is_published_without_the_log_it_left(lake: Lake):
    with client(lake) as other:
        other.execute(EMPTY)
        other.kill()
    lake.warehouse.unlink()
    assert publish(lake, force=False)
    assert days(lake) == [(2,)]


def test_log_of_an_open_client_is_removed_by_the_next_publish(lake: Lake):
    """R6: one that any program would refuse to read the warehouse with, until then."""
    with client(lake) as other:
        publish(lake)
        other.execute(EMPTY)
        with pytest.raises(duckdb.IOException, match="WAL does not match"):
            days(lake)
        assert publish(lake, force=False)
        assert days(lake) == [(2,)]
    assert days(lake) == [(2,)]


def test_what_a_client_wrote_is_replaced_where_nothing_else_changed(
    lake: Lake, caplog: pytest.LogCaptureFixture
):
    with client(lake) as other:
        other.execute(EMPTY)
    assert days(lake) == []
    assert publish(lake, force=False)
    assert days(lake) == [(2,)]
    assert "Open it read-only there, or write to a copy" in caplog.text


def test_client_only_reading_causes_no_publish(lake: Lake, caplog: pytest.LogCaptureFixture):
    with client(lake) as other:
        other.execute("FROM delivery_daily")
    with duckdb.connect(str(lake.warehouse), read_only=True):
        assert publish(lake, force=False) is False
    derived(lake, scan([record(3)]))
    assert publish(lake, force=False)
    assert "another program" not in caplog.text


def test_killed_publish_leaves_a_readable_warehouse(lake: Lake, tmp_path: Path):
    """R5, R6: at each of its last steps, beside the log of another program."""
    with client(lake) as other:
        other.execute("CREATE TABLE notes AS SELECT 1 AS note")
        other.kill()
    whole = CountingDisk()
    publish(Lake(Path(shutil.copytree(lake.root, tmp_path / "whole")), Files(whole)))
    for number in range(whole.count - 10, whole.count + 1):
        here = Lake(Path(shutil.copytree(lake.root, tmp_path / f"{number}")))
        with pytest.raises(Crash):
            publish(Lake(here.root, Files(CrashingDisk(number))))
        assert days(here) == [(2,)]
        publish(here, force=False)
        assert days(here) == [(2,)]
        assert "notes" not in tables(here)
        assert not write_ahead_log(here.warehouse).exists()


def test_published_warehouse_is_read_only(lake: Lake):
    """So that a client which could write to it is told at once; root may all the same."""
    assert lake.warehouse.stat().st_mode & 0o222 == 0
