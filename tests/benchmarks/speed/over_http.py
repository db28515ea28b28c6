"""What is measured over HTTP: a full load, its wall time and memory, the rate limiter, an idle sync."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.extract.planner import cut
from pipeline.extract.scan import ScanResult, scan_windows
from pipeline.model.schema import COUNT_NAMES
from pipeline.model.windows import RETENTION, midnight, windows_between
from pipeline.settings import Settings
from pipeline.sync import DUE, Range, Scope, sync
from pipeline.twilio.client import OperationsClient
from tests.benchmarks.speed.load import KINDS, NOW, VARIED, Truth, columns, truth
from tests.benchmarks.speed.process import Cost, Server, run, serving
from tests.benchmarks.speed.report import Figure, Plan, at_most, check
from tests.benchmarks.speed.server import ACCOUNT_SID, AUTH_TOKEN
from tests.support.dagster_home import dagster_home

MIB: Final = 1024**2
_CONNECTIONS: Final = 8
_LISTED: Final = 150_000
_DAGSTER_ARCHIVE: Final = "dagster-archive"
_DAYS: Final = ((NOW - RETENTION).date().isoformat(), NOW.date().isoformat())


def variables(server: Server) -> dict[str, str]:
    """The environment of a sync. What failed in operations is not asked for: the floor doesn't either."""
    return {
        "EMAIL_ARCHIVE_API_URL": server.url,
        "EMAIL_ARCHIVE_CONCURRENCY": str(_CONNECTIONS),
        "EMAIL_ARCHIVE_TRUST_CLOCK": "true",
        "EMAIL_ARCHIVE_FETCH_OPERATION_ERRORS": "false",
    }


def ours(server: Server, data: Path) -> Cost:
    """A full load into an empty archive, from start-up to the published warehouse."""
    shutil.rmtree(data, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline.cli", "sync", "--data", data, "--json"]
    return run(command, variables(server))


def floor(server: Server, file: Path, connections: int) -> Cost:
    """The same pages by the floor."""
    return run(
        [sys.executable, "-m", "tests.benchmarks.speed.floor", server.url, file, str(connections)]
    )


def check_archive(data: Path, expected: Truth) -> None:
    """Counts, uniqueness and sums against the truth."""
    files = sorted(map(str, (data / "operations").rglob("*.parquet")))
    found = ds.dataset(files).to_table(columns=["operation_id", *COUNT_NAMES])
    check(found.num_rows == expected.operations, f"{found.num_rows} of {expected.operations} rows")
    check(pc.count_distinct(found["operation_id"]).as_py() == found.num_rows, "ids come twice")
    sums = {name: pc.sum(found[name]).as_py() for name in COUNT_NAMES}
    check(sums == expected.sums, f"expected sums {expected.sums}, got {sums}")


def check_floor(file: Path, expected: Truth) -> None:
    """The floor has to do the work that it is compared for."""
    found = pq.read_table(file, columns=["id", "delivered"])
    check(found.num_rows == expected.operations, "the floor lacks rows")
    check(pc.sum(found["delivered"]).as_py() == expected.sums["delivered"], "the floor lacks sums")


def load(plan: Plan) -> list[Figure]:
    """Processor time and memory of full loads, of both kinds; wall time of one with 100 ms latency."""
    return [
        *(
            figure
            for size, most in ((1_000_000, 2), (200_000, 2.5))
            for kind in KINDS
            for figure in _full_load(plan, plan.of(size), kind, most)
        ),
        _slow_load(plan),
    ]


def _full_load(plan: Plan, operations: int, kind: str, most: float) -> list[Figure]:
    varied = kind == VARIED
    expected = truth(columns(operations, varied=varied))
    data, file = plan.folder / "archive", plan.folder / "floor.parquet"
    with serving(operations, varied=varied) as server:
        ours(server, data), floor(server, file, 1)  # the server compresses its pages

        def processor() -> tuple[float, float, float, float]:
            least, whole = floor(server, file, 1), ours(server, data)
            check_floor(file, expected)
            check_archive(data, expected)
            return least.cpu, whole.cpu, whole.cpu / least.cpu, whole.memory / MIB

        least, whole, ratio, memory = plan.median(processor)
    title = f"full load of {operations:,} operations, {kind}"
    made_of = f"{whole:.2f} s against {least:.2f} s"
    return [
        at_most(f"{title}: processor time", ratio, most, "x the floor", made_of),
        at_most("the same, peak memory", memory, 400, "MiB"),
    ]


def _slow_load(plan: Plan) -> Figure:
    operations = plan.of(1_000_000)
    expected = truth(columns(operations))
    data, file = plan.folder / "archive", plan.folder / "floor.parquet"
    with serving(operations) as server:
        floor(server, file, _CONNECTIONS), ours(server, data)
        server.set(latency=0.1)

        def wall() -> tuple[float, float, float]:
            least, whole = floor(server, file, _CONNECTIONS), ours(server, data)
            check_archive(data, expected)
            return least.wall, whole.wall, whole.wall / least.wall

        least, whole, ratio = plan.median(wall)
    title = f"full load of {operations:,} operations, wall time at 100 ms latency"
    made_of = f"{whole:.1f} s against {least:.1f} s"
    return at_most(title, ratio, 1.25, "x the floor", made_of)


def memory(plan: Plan) -> list[Figure]:
    """Peak memory of a load five times as large."""
    operations = plan.of(5_000_000)
    data = plan.folder / "archive"
    with serving(operations) as server:
        peak = ours(server, data).memory / MIB
    check_archive(data, truth(columns(operations)))
    shutil.rmtree(data)
    return [at_most(f"full load of {operations:,} operations, peak memory", peak, 400, "MiB")]


def pace(plan: Plan) -> list[Figure]:
    """The rate limiter against every fixed concurrency, under a limit, and with refusals at random."""
    operations = plan.of(_LISTED)
    figures = []
    with serving(operations) as server:
        for latency, each in ((0.0, 0.0), (0.05, 0.0), (0.3, 0.0), (0.08, 0.00032)):
            server.set(latency=latency, each=each)
            if not latency:
                _throughput(server, plan, _CONNECTIONS)  # the server compresses its pages
            # Where this process is what is waited for, one run differs from another by a tenth.
            several = replace(plan, runs=1 if latency else 5 * plan.runs)
            counts = (2, 4, _CONNECTIONS) if latency else (1, 2, 4, _CONNECTIONS)
            *fixed, found = several.median(partial(_throughputs, server, plan, counts))
            share = 100 * found / max(fixed)
            full = f", {1000 * (latency + 1000 * each):.0f} ms for a full page" if each else ""
            figures.append(
                Figure(
                    f"concurrency that grows, at {1000 * latency:.0f} ms latency{full}",
                    f"{share:.0f} % of the best fixed concurrency ({found:.0f} requests/s)",
                    "at least 85 %",
                    holds=share >= 85,
                )
            )
        server.set(limit=20)
        used = 100 * _throughput(server, plan, _CONNECTIONS, page_size=250) / 20
        asked = server.asked()
        lost = 100 * asked.get("429", 0) / asked["requests"]
        server.set(latency=0.2)
        calm = _throughput(server, plan, _CONNECTIONS, page_size=250)
        server.set(latency=0.2, refused=0.02)
        refused = _throughput(server, plan, _CONNECTIONS, page_size=250)
    figures += [
        Figure(
            "of a limit of 20 requests a second",
            f"{used:.0f} % are used",
            "at least 90 %",
            holds=used >= 90,
        ),
        at_most("requests lost to it", lost, 5, "%"),
        at_most(
            "with 2 % of 429 at random, 200 ms latency", calm / refused, 2, "x the time without"
        ),
    ]
    return figures


def _throughputs(server: Server, plan: Plan, counts: Sequence[int]) -> tuple[float, ...]:
    """Requests per second of some fixed concurrencies, and of one that grows."""
    fixed = [_throughput(server, plan, count, warm=True) for count in counts]
    return *fixed, _throughput(server, plan, _CONNECTIONS)


def _throughput(
    server: Server, plan: Plan, concurrency: int, *, page_size: int = 1000, warm: bool = False
) -> float:
    """Pages per second of listing everything in many windows as a sync lists.

    With `warm` so many requests are under way from the beginning as concurrency allows.
    """
    settings = Settings(
        account_sid=ACCOUNT_SID,
        auth_token=AUTH_TOKEN,
        api_url=server.url,
        concurrency=concurrency,
        page_size=page_size,
    )
    windows = [
        part for day in windows_between(NOW - RETENTION, NOW) for part in cut(day, plan.of(12))
    ]
    with OperationsClient(settings) as client:
        for _ in range(concurrency if warm else 1):
            client.clock()
        began = time.perf_counter()
        outcomes = list(scan_windows(client, ACCOUNT_SID, windows, concurrency=concurrency))
        took = time.perf_counter() - began
    scans = [one.scan.facts for one in outcomes if isinstance(one, ScanResult)]
    check(len(scans) == len(outcomes), "a window failed")
    complete = [scan for scan in scans if scan.complete]
    check(sum(scan.operations for scan in complete) == plan.of(_LISTED), "operations are missing")
    return sum(scan.pages for scan in scans) / took


def idle(plan: Plan) -> list[Figure]:
    """A sync with nothing due against one that scans a day; what Dagster takes on top of a sync."""
    operations = plan.of(400_000)
    data = plan.folder / "archive"
    with serving(operations) as server:
        _in_dagster(server, plan.folder)  # makes Dagster's own storage, which is not a run's

        def processor() -> tuple[float, float, float, float]:
            plain, whole = ours(server, data).cpu, _in_dagster(server, plan.folder)
            nothing, empty = _dagster_alone(server, plan.folder)
            return plain, whole, whole - plain, empty - nothing

        plain, in_dagster, share, alone = plan.median(processor)
        settings = Settings(
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            api_url=server.url,
            data=data,
            fetch_operation_errors=False,
            trust_clock=True,
        )
        day = midnight(NOW.date()) - timedelta(days=2)
        scanning = plan.median(lambda: (_timed(settings, Range(day, day + timedelta(days=1))),))[0]
        _timed(settings, DUE)
        server.set()
        nothing = plan.median(lambda: (_timed(settings, DUE),))[0]
        requests = server.asked()["requests"] / plan.runs
    return [
        at_most(
            "sync with nothing due, in-process time",
            nothing / scanning, 0.1, "of one that scans a day",
            f"{1000 * nothing:.0f} ms against {1000 * scanning:.0f} ms",
        ),
        at_most("its requests", requests, 1, "request"),
        at_most(
            f"Dagster's share of syncs of 8 days, {operations:,} operations, processor time",
            share, 3, "s", f"{in_dagster:.1f} s against {plain:.1f} s",
        ),
        Figure(
            "for comparison, jobs of the same assets, days and checks that do nothing, above its imports",
            f"{alone:.3g} s",
        ),
    ]  # fmt: skip


def _timed(settings: Settings, scope: Scope) -> float:
    began = time.perf_counter()
    report = sync(settings, scope=scope)
    took = time.perf_counter() - began
    check(report.ok, "the sync failed")
    return took


def _in_dagster(server: Server, folder: Path) -> float:
    """Processor time of the job `sync` over 8 days, in process."""
    shutil.rmtree(folder / _DAGSTER_ARCHIVE, ignore_errors=True)
    command = [sys.executable, "-m", "assets.run", *_DAYS]
    return run(command, _in_home(server, folder)).cpu


def _dagster_alone(server: Server, folder: Path) -> tuple[float, float]:
    """Processor time of importing what the archive needs, and of a job in which nothing is done."""
    needed = run([sys.executable, "-c", "import pipeline.cli.progress"]).cpu
    command = [sys.executable, "-m", "tests.benchmarks.speed.empty_job", *_DAYS]
    return needed, run(command, _in_home(server, folder)).cpu


def _in_home(server: Server, folder: Path) -> dict[str, str]:
    """The environment of a Dagster run with a storage of its own."""
    data = str(folder / _DAGSTER_ARCHIVE)
    return variables(server) | {"EMAIL_ARCHIVE_DATA": data} | dagster_home(folder / "dagster")


def start(plan: Plan) -> list[Figure]:
    """`email-archive --help` against an interpreter that does nothing."""
    command = Path(sys.executable).with_name("email-archive")

    def processor() -> tuple[float, float, float]:
        nothing = run([sys.executable, "-c", "pass"]).cpu
        helped = run([command, "--help"]).cpu
        return nothing, helped, helped / nothing

    few = Plan(plan.scale, 3 * plan.runs, plan.folder)
    nothing, helped, ratio = few.median(processor)
    made_of = f"{1000 * helped:.0f} ms against {1000 * nothing:.0f} ms"
    return [at_most("email-archive --help", ratio, 12, "x python -c pass", made_of)]
