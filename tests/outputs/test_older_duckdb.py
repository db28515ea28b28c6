"""The published warehouse in an older DuckDB, in an environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.model.schema import PUBLISHED
from pipeline.outputs.warehouse import AS_OF, publish
from tests.support.factories import derived, new_lake, record, scan

OLDEST = "1.4.2"
READING = """
import json, sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("SET TimeZone = 'UTC'")
found = {}
for source in json.loads(sys.argv[2]):
    rows = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM {source}").fetchall()
    found[source] = sorted(map(str, rows))
for kind in ("columns", "tables", "views", "functions"):
    query = f"SELECT count(comment) FROM duckdb_{kind}() WHERE NOT internal"
    found[kind] = connection.execute(query).fetchall()
print(json.dumps({"version": duckdb.__version__, "found": found}))
"""


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest DuckDB that the warehouse is published for."""
    folder = tmp_path_factory.mktemp("duckdb")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    install += ["--retries", "0", "--timeout", "30"]
    wanted = ["--target", str(folder), f"duckdb=={OLDEST}"]
    done = subprocess.run([*install, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"DuckDB {OLDEST} can't be installed: {done.stderr.strip()[-200:]}")
    return folder


def read(warehouse: Path, sources: list[str], packages: Path | None = None) -> dict:
    """What DuckDB finds there; the version that is installed in `packages`, or ours."""
    environment = os.environ | ({"PYTHONPATH": str(packages)} if packages else {})
    arguments = [sys.executable, "-c", READING, str(warehouse), json.dumps(sources)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_older_duckdb_reads_all_of_the_warehouse(older: Path, tmp_path: Path):
    broken = {"id": "no record"}
    lake = derived(new_lake(tmp_path), scan([record(1), record(2, status="NEW"), broken]))
    publish(lake)
    sources = [table.name for table in PUBLISHED]
    sources.append(f"{AS_OF}(TIMESTAMPTZ '2026-11-20 15:00:00Z')")
    found = read(lake.warehouse, sources, older)
    assert found["version"] == OLDEST
    assert found["found"] == read(lake.warehouse, sources)["found"]
    assert len(found["found"]["operations"]) == 2
    assert all(
        count > 0
        for ((count,),) in [found["found"][kind] for kind in ("columns", "views", "functions")]
    )
