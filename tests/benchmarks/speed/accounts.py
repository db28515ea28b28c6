"""What many days of several accounts cost: the delivery curve, the report and the status of an archive."""

import shutil
import sys
from typing import Final

from pipeline.lake.layout import Lake
from pipeline.outputs.warehouse import publish
from tests.benchmarks.speed.many_days import after, make
from tests.benchmarks.speed.process import Cost, run
from tests.benchmarks.speed.report import Figure, Plan, at_most, check

_ACCOUNTS: Final = 10
_DAYS: Final = 1_000
_CURVE: Final = "SELECT count(*), sum(delivered), max(scan_after_minutes) FROM delivery_curve"
_STATUS: Final = """
import sys
from datetime import datetime
from pathlib import Path
from pipeline.lake.layout import Lake
from pipeline.quality.status import status
found = status(Lake(Path(sys.argv[1])), datetime.fromisoformat(sys.argv[2]))
print(sum(account.operations for account in found.accounts))
"""


def accounts(plan: Plan) -> list[Figure]:
    """Processor time of ten accounts against that of one, status's wall time, and the peak of memory."""
    days = plan.of(_DAYS)
    one, ten = (_costs(plan, number, days) for number in (1, _ACCOUNTS))
    size = f"{_ACCOUNTS} accounts of {days:,} days"
    figures = []
    for name, title in (("report", "report"), ("curve", "all of delivery_curve")):
        made_of = f"{ten[name].cpu:.1f} s against {one[name].cpu:.1f} s"
        ratio = ten[name].cpu / one[name].cpu
        measure = f"{title}, {size}, processor time"
        figures.append(at_most(measure, ratio, 12, "x one account", made_of))
    figures.append(at_most(f"status, {size}, wall time", ten["status"].wall, 5, "s"))
    memory = max(cost.memory for cost in ten.values()) / 1024**2
    figures.append(at_most("peak memory of these three", memory, 1_000, "MiB"))
    return figures


def _costs(plan: Plan, number: int, days: int) -> dict[str, Cost]:
    lake = make(plan.folder / f"accounts-{number}", number, days)
    publish(lake)
    command = [sys.executable, "-m", "pipeline.cli"]
    data = ["--data", lake.root]
    costs = {
        "report": run([*command, "report", *data]),
        "curve": run([*command, "sql", "--format", "csv", *data, _CURVE]),
        "status": run([sys.executable, "-c", _STATUS, lake.root, f"{after(days)}"]),
    }
    _check(lake, number, costs)
    shutil.rmtree(lake.root)
    return costs


def _check(lake: Lake, number: int, costs: dict[str, Cost]) -> None:
    page = (lake.root / "report.html").read_text(encoding="utf-8")
    check("<section" in page, "the report has no account")
    days = sum(1 for _ in lake.partitions("operations"))
    rows = int(costs["curve"].output.split("\n")[1].partition(",")[0])
    check(rows > 0 and rows % days == 0, f"{rows} rows of {days} equal days")
    operations = int(costs["status"].output)
    check(operations > 0 and operations % days == 0, f"{operations} operations of {days} days")
    check(days % number == 0, f"{days} days of {number} accounts")
