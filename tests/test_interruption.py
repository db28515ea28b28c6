"""SIGTERM and Ctrl-C: a run ends within seconds and leaves a whole archive, wherever it is."""

import ctypes
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from pipeline.emulator import World
from pipeline.lake import engine
from pipeline.lake.files import Files
from pipeline.lake.layout import LANDED_SUFFIX, Lake
from pipeline.merge_runner import MergeRunner, merge_now_or_later
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS
from pipeline.outputs.warehouse import publish
from tests.support.archives import account, rows, sync_all, unlike_truth
from tests.support.command import started
from tests.support.factories import ACCOUNT, at, body, derived, new_lake, record, scan
from tests.support.scripted_api import Answer, Received, ScriptedApi, scripted

PATIENCE = 30
"""Seconds: it is promised within 5, which a machine that is busy with other tests need not keep. Nothing of
what hangs here ends by itself in that time."""
TOLD = pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
ENDLESS = (
    "SELECT count(*) FROM range(1000000000) a, range(100000) b WHERE a.range % 7 = b.range % 3"
)
FIRST_DAY = "2026-11-20"


@contextmanager
def api(hanging: Answer) -> Iterator[tuple[ScriptedApi, threading.Event]]:
    """An API that answers the clock and its newest day at once, and everything else as `hanging`."""
    hangs = threading.Event()

    def answer(received: Received) -> Answer:
        begin = received.query.get("startDate", "")
        if not begin:
            return Answer(body([]))
        if begin.startswith("2026-11-19T23:59:59"):
            return Answer(body([record(1, created_at=at("2026-11-20 12:00"))]))
        hangs.set()
        return hanging

    with scripted(answer) as server:
        yield server, hangs


def settings(server: ScriptedApi) -> dict[str, str]:
    return {
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": "token",
        "EMAIL_ARCHIVE_API_URL": server.url,
        "EMAIL_ARCHIVE_CONCURRENCY": "2",
    }


def tell_another_thread(process: "subprocess.Popen[str]", told: signal.Signals) -> None:
    """Send a signal as the system may: to a thread that is not the main one, which goes on waiting."""
    tasks = Path(f"/proc/{process.pid}/task")
    main = tasks / f"{process.pid}" / "status"
    looks = [""]
    while len(looks) < 6 or len(set(looks[-5:])) > 1:  # it did something meanwhile
        assert len(looks) < 1000, "the main thread never waits"
        looks.append(main.read_text().partition("voluntary_ctxt_switches")[2])
        time.sleep(0.02)
    blocks_nothing = (
        "SigBlk:\t0000000000000000"  # memory allocators have threads that block all signals
    )
    others = (task for task in tasks.iterdir() if task.name != f"{process.pid}")
    thread = next(int(t.name) for t in others if blocks_nothing in (t / "status").read_text())
    assert ctypes.CDLL(None).tgkill(process.pid, thread, told) == 0


def stop(process: "subprocess.Popen[str]", told: signal.Signals) -> str:
    """What a process says that is told to stop, and does."""
    process.send_signal(told)
    return ended(process, told)


def ended(process: "subprocess.Popen[str]", told: signal.Signals) -> str:
    """What a process says that was told to stop, and does."""
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + told
    # A signal that comes in an object's __del__ is ignored there; then a thread ends the process.
    assert "Traceback" not in errors or "Exception ignored" in errors
    return errors


def kept(data: Path) -> list[Path]:
    """Files that say what was scanned: landed, or merged already."""
    landed = (data / "landing").rglob(f"*{LANDED_SUFFIX}")
    return [*landed, *(data / "coverage").rglob("*.parquet")]


def read_until(terminal: int, wanted: bytes) -> None:
    """Read what a terminal shows, until it has shown this."""
    shown = b""
    while wanted not in shown:
        shown += os.read(terminal, 65536)


def wait_for_scan(data: Path) -> None:
    """Until a scan of the newest day is kept."""
    while not kept(data):
        time.sleep(0.01)


@TOLD
@pytest.mark.parametrize(
    "hanging",
    [
        pytest.param(
            Answer(b"{", headers={"Content-Length": "9"}, stalls=True), id="in an answer that hangs"
        ),
        pytest.param(
            Answer(b"", status=429, headers={"Retry-After": "60"}),
            id="in a wait that was asked for",
        ),
    ],
)
def test_signalled_run_drops_open_scans_and_keeps_what_landed(
    told: signal.Signals, hanging: Answer, tmp_path: Path
):
    """R5: the scan that was complete is in the archive, the others stay due."""
    with api(hanging) as (server, hangs):
        process = started("sync", "--all", cwd=tmp_path, **settings(server))
        hangs.wait(30)
        wait_for_scan(tmp_path / "data")
        errors = stop(process, told)
    assert errors.splitlines()[-1].endswith(f"Z stopped by {told.name}")
    lake = Lake(tmp_path / "data")
    assert {path.parent.name for path in kept(lake.root)} == {"created_date=2026-11-20"}
    assert [path for path in (lake.root / ".tmp").rglob("*") if path.is_file()] == []


def test_run_ends_in_time_if_another_thread_gets_the_signal(tmp_path: Path):
    """R5: so may the system choose; and one that comes just before the main thread waits wakes it no more."""
    with api(Answer(b"{", headers={"Content-Length": "9"}, stalls=True)) as (server, hangs):
        process = started("sync", "--all", cwd=tmp_path, **settings(server))
        hangs.wait(30)
        wait_for_scan(tmp_path / "data")
        tell_another_thread(process, signal.SIGTERM)
        assert ended(process, signal.SIGTERM).splitlines()[-1].endswith("Z stopped by SIGTERM")


@TOLD
def test_run_waiting_for_a_lock_can_be_stopped(told: signal.Signals, tmp_path: Path):
    """R5: what landed before is merged by the next run, which equals the truth."""
    world = World(3, 100.0, at("2026-11-18"))
    with account(world, at("2026-11-20 12:00"), tmp_path / "data") as (emulator, archive):
        lake = Lake(archive.data).open()
        busy = Partition(archive.account_sid, at("2026-11-19").date())
        with Files().locked(lake.partition_lock(busy), "a day"):
            process = started("sync", "--all", cwd=tmp_path, **archive.environment())
            assert process.stderr is not None
            for line in process.stderr:
                if "waiting for" in line:
                    break
            stop(process, told)
        assert sync_all(archive).ok
        assert unlike_truth(emulator, archive.data, at("2026-11-18"), [emulator.clock.now()]) == []
        assert rows(archive.data, OPERATIONS).num_rows == len(world.existing(emulator.clock.now()))


@TOLD
def test_signalled_dagster_run_ends_at_once_and_is_the_last(told: signal.Signals, tmp_path: Path):
    """R5: nor does it go on with the next day."""
    home = tmp_path / "home"
    home.mkdir()
    with api(Answer(b"{", headers={"Content-Length": "9"}, stalls=True)) as (server, hangs):
        days = ("2026-11-18", "2026-11-20")
        environment = {
            "DAGSTER_HOME": str(home),
            "EMAIL_ARCHIVE_DATA": str(tmp_path / "data"),
            **settings(server),
        }
        process = started(*days, cwd=tmp_path, module="assets.run", **environment)
        hangs.wait(60)
        wait_for_scan(tmp_path / "data")
        process.send_signal(told)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "stopped: landed scans are in the archive" in errors
    assert len(list(Lake(tmp_path / "data").partitions("operations"))) == 1
    with dg.DagsterInstance.from_config(str(home)) as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]


def test_run_within_a_long_query_ends_in_time(tmp_path: Path):
    """DuckDB makes an exception of its own of a signal, or goes on for a while."""
    data = tmp_path / "data"
    with account(World(3, 20.0, at("2026-11-18")), at("2026-11-20 12:00"), data) as (_, archive):
        assert sync_all(archive, publishing=True).ok
    process = started("sql", ENDLESS, "--data", str(data), cwd=tmp_path)
    while "duckdb" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    time.sleep(0.5)
    assert stop(process, signal.SIGTERM).splitlines()[-1] == "stopped by SIGTERM"


def test_long_query_at_the_prompt_ends_in_time(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    publish(lake)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "sql", "--data", str(lake.root)],
        cwd=tmp_path,
        env={"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    read_until(ours, b"sql>")
    os.write(ours, f"{ENDLESS};\r".encode())
    read_until(ours, b"\x1b[?2004l")  # the prompt gives the terminal back
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    finally:
        process.kill()
        os.close(ours)


@TOLD
def test_command_whose_output_nobody_reads_ends_in_time(told: signal.Signals, tmp_path: Path):
    """Whatever holds the main thread up, and its output's lock with it."""
    data = tmp_path / "data"
    with account(World(3, 20.0, at("2026-11-18")), at("2026-11-20 12:00"), data) as (_, archive):
        assert sync_all(archive, publishing=True).ok
    query = "SELECT repeat('x', 1000) AS r FROM range(100000)"
    process = started("sql", query, "-f", "csv", "--data", str(data), cwd=tmp_path)
    with process:
        assert process.stdout is not None
        assert process.stdout.read(1) == "r"
        process.send_signal(told)
        assert process.wait(PATIENCE) == 128 + told
        process.stdout.close()


@TOLD
def test_second_signal_disturbs_nothing(told: signal.Signals, tmp_path: Path):
    with api(Answer(b"{", headers={"Content-Length": "9"}, stalls=True)) as (server, hangs):
        process = started("sync", cwd=tmp_path, **settings(server))
        hangs.wait(30)
        process.send_signal(told)
        assert stop(process, told).splitlines()[-1].endswith(f"Z stopped by {told.name}")


class _ToldError(BaseException):
    """What a signal's handler raises here."""


def _raise(*_: object) -> None:
    raise _ToldError


def test_signal_during_a_merge_ends_the_run():
    """R5: DuckDB drops what the handler raised, and a run that took its error for the day's would go on."""

    class Endless(MergeRunner):
        def merge(self, _: Partition) -> None:
            with engine.connect() as connection:
                # With more it waits for the others, who hear of nothing.
                connection.execute("SET threads = 1")
                told.start()
                connection.execute(ENDLESS)

    day = Partition(ACCOUNT, at("2026-11-20").date())
    before = signal.signal(signal.SIGUSR1, _raise)
    told = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with pytest.raises(RuntimeError, match="interrupted"):
            merge_now_or_later(Endless(Lake(Path()), None, deriving=False), day)
    finally:
        told.join()
        signal.signal(signal.SIGUSR1, before)


def test_stop_is_logged_as_json(tmp_path: Path):
    with api(Answer(b"{", headers={"Content-Length": "9"}, stalls=True)) as (server, hangs):
        process = started("--log-format", "json", "sync", cwd=tmp_path, **settings(server))
        hangs.wait(30)
        errors = stop(process, signal.SIGTERM)
    last = json.loads(errors.splitlines()[-1])
    assert (last["level"], last["message"]) == ("ERROR", "stopped by SIGTERM")


def test_emulator_ends_on_a_signal(tmp_path: Path):
    process = started("emulate", "--port", "0", cwd=tmp_path)
    assert process.stdout is not None
    next(process.stdout)
    stop(process, signal.SIGTERM)
