"""How a program uses its process: what is not imported, and that it still works when it is."""

import subprocess
import sys
from pathlib import Path

from pipeline.emulator import World
from tests.support.archives import account
from tests.support.command import ROOT
from tests.support.factories import at

START = at("2026-11-10")


def printed(program: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment or None,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_sync_imports_no_pandas(tmp_path: Path):
    """It takes longer than a sync with nothing due, and 40 MB."""
    program = """
import sys
from pipeline.cli.app import app
app(["sync", "--json"], standalone_mode=False)
print(sorted(name for name in sys.modules if name.split(".")[0] == "pandas"))
"""
    with account(World(3, 100.0, START), at("2026-11-12"), tmp_path) as (emulator, settings):
        told = printed(
            program,
            TWILIO_ACCOUNT_SID=settings.account_sid,
            TWILIO_AUTH_TOKEN=emulator.options.auth_token,
            EMAIL_ARCHIVE_API_URL=emulator.url,
            EMAIL_ARCHIVE_TRUST_CLOCK="true",
            EMAIL_ARCHIVE_DATA=str(tmp_path),
        )
    assert '"new": ' in told
    assert told.splitlines()[-1] == "[]"


def test_data_frames_are_made_on_request():
    program = """
import sys
from pipeline import process
process.prepare()
import pyarrow as pa
table = pa.table({"a": pa.array([1, 2])})
assert "pandas" not in sys.modules
print(table.to_pandas()["a"].sum())
import pandas as pd
print(pa.array(pd.Series([1, None], dtype="Int64")).null_count)
"""
    assert printed(program).split() == ["3", "1"]


def test_imported_pandas_stays():
    program = """
import pandas as pd
from pipeline import process
process.prepare()
import pyarrow as pa
print(pa.array(pd.Series([1, None], dtype="Int64")).null_count)
"""
    assert printed(program).split() == ["1"]


def test_prepared_program_uses_the_system_allocator():
    program = """
from pipeline import process
process.prepare()
import pyarrow as pa
print(pa.default_memory_pool().backend_name)
"""
    assert printed(program).split() == ["system"]
