"""What must not leak, escape or be reached: credentials, paths, other people's files, the network."""

import base64
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from pipeline.access.query import ask
from pipeline.emulator import Clock, Faults, Options, World
from pipeline.emulator.server import create_app
from pipeline.errors import UsageError
from pipeline.lake.layout import Lake
from pipeline.model.records import Partition
from pipeline.model.schema import OPERATIONS
from pipeline.rebuild import rebuild
from pipeline.settings import Settings
from tests.support.archives import account
from tests.support.command import ROOT, run, started
from tests.support.factories import ACCOUNT, at, body, derived, new_lake, record, scan
from tests.support.https import https_server
from tests.support.scripted_api import Answer, Received, scripted

TOKEN = "tok+3n/very=secret&one"
KEY_SECRET = "key+5ecret/of=this&test"
KEY_SID = "SK" + "0" * 31 + "7"
NOW = at("2026-11-14 15:00")
WORLD = World(5, 40.0, at("2026-11-10"))
DEBUG_DAGSTER = """
telemetry: {enabled: false}
python_logs:
  python_log_level: DEBUG
  managed_python_loggers: [root]
"""


def disguises(user: str, secret: str) -> list[bytes]:
    """A secret as it might be found: plain, as HTTP Basic has it, as an address has it."""
    basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return [text.encode() for text in (secret, quote(secret, safe=""), basic, basic.rstrip("="))]


def found_in(folder: Path, wanted: list[bytes]) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(text in path.read_bytes() for text in wanted)]


def options(*, faults: Faults | None = None) -> Options:
    return Options(auth_token=TOKEN, api_key_sid=KEY_SID, api_key_secret=KEY_SECRET, faults=faults)


# Credentials.


@pytest.mark.parametrize("log_format", ["text", pytest.param("json", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "credentials", ["token", *(pytest.param(n, marks=pytest.mark.slow) for n in ("key", "wrong"))]
)
def test_full_run_with_all_logging_leaves_no_credential_behind(
    credentials: str, log_format: str, tmp_path: Path
):
    """R11: no log line, traceback, output or file of a run has one, in whatever disguise."""
    user, secret = (KEY_SID, KEY_SECRET) if credentials == "key" else (ACCOUNT, TOKEN)
    given_secret = "another/" + secret if credentials == "wrong" else secret
    faults = Faults(3, {"500": 0.1, "truncated": 0.1, "reset": 0.1})
    with account(WORLD, NOW, tmp_path / "data", options=options(faults=faults)) as (emulator, _):
        sid = emulator.options.account_sid
        user = user if credentials == "key" else sid
        environment = {
            "TWILIO_ACCOUNT_SID": sid,
            "EMAIL_ARCHIVE_API_URL": emulator.url,
            **({"TWILIO_API_KEY_SID": KEY_SID} if credentials == "key" else {}),
            (
                "TWILIO_API_KEY_SECRET" if credentials == "key" else "TWILIO_AUTH_TOKEN"
            ): given_secret,
        }
        said = b""
        for command in (["sync"], ["verify"], ["status"], ["publish"]):
            arguments = ("--debug", "--log-format", log_format, *command)
            done = run(*arguments, cwd=tmp_path, **environment)
            said += (done.stdout + done.stderr).encode()
    assert b"GET /v1/Emails/Operations" in said
    assert (b"401 20003" in said) == (credentials == "wrong")
    wanted = disguises(user, given_secret)
    assert [text for text in wanted if text in said] == []
    assert found_in(tmp_path, wanted) == []


@pytest.mark.slow
def test_dagster_run_with_all_logging_leaves_no_credential_behind(tmp_path: Path):
    """R11: events, run configs, captured output and compute logs of a lasting instance at DEBUG."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(DEBUG_DAGSTER)
    faults = Faults(3, {"500": 0.1, "truncated": 0.1, "unknown-field": 0.2, "malformed": 0.1})
    with account(WORLD, NOW, tmp_path / "data", options=options(faults=faults)) as (_, settings):
        keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "assets.run", "2026-11-10", "2026-11-14"],
            cwd=tmp_path,
            env=keep
            | settings.environment()
            | {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(home)},
            capture_output=True,
            timeout=120,
            check=False,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said.decode()
    assert b"GET /v1/Emails/Operations: 200" in said  # of the client itself, at its most talkative
    wanted = disguises(settings.account_sid, TOKEN)
    assert [text for text in wanted if text in said] == []
    assert found_in(tmp_path, wanted) == []


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (200, "<html>Authorization: {}</html>"),
        (403, '{{"authorization": "{}"}}'),
        (503, "<html>Authorization: {}</html>"),
    ],
)
def test_echoed_request_brings_no_credential_into_output(status: int, shown: str, tmp_path: Path):
    """R11: a proxy's page for developers may show every header of the request."""

    def answer(request: Received) -> Answer:
        if request.path.endswith("/Operations") and request.query.get("startDate"):
            return Answer(body([record(1, created_at=at("2026-11-20 12:00"), stats=FAILED)]))
        if not request.query and request.path.endswith("/Errors"):
            return Answer(shown.format(request.headers["Authorization"]).encode(), status)
        return Answer(body([]))

    with scripted(answer) as server:
        done = run(
            *("--debug", "sync"),
            cwd=tmp_path,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            EMAIL_ARCHIVE_API_URL=server.url,
            EMAIL_ARCHIVE_RETRY_ATTEMPTS="1",
        )
    wanted = disguises(ACCOUNT, TOKEN)
    said = (done.stdout + done.stderr).encode()
    assert [text for text in wanted if text in said] == []
    if status != 200:
        assert b"***" in said
        assert found_in(tmp_path, wanted) == []


def test_no_process_title_has_a_credential(tmp_path: Path):
    """R11: whoever lists processes sees the command, and no secret as an argument of it."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(_: Received) -> Answer:
        asked.set()
        go_on.wait(30)
        return Answer(body([]))

    with scripted(answer) as server:
        environment = {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "EMAIL_ARCHIVE_API_URL": server.url,
        }
        process = started("sync", cwd=tmp_path, **environment)
        asked.wait(30)
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        go_on.set()
        process.communicate(timeout=60)
    assert b"sync" in title
    assert [text for text in disguises(ACCOUNT, TOKEN) if text in title] == []


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PYTHONHTTPSVERIFY": "0"},
        {"CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
        {"SSL_CERT_FILE": ""},
        {"NODE_TLS_REJECT_UNAUTHORIZED": "0", "GIT_SSL_NO_VERIFY": "1"},
    ],
)
def test_no_foreign_variable_turns_tls_verification_off(
    environment: Mapping[str, str], tmp_path: Path
):
    """R11: credentials are never sent to a server that nobody vouches for."""
    with https_server(tmp_path) as (url, _):
        done = run(
            "sync",
            cwd=tmp_path,
            **environment,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            EMAIL_ARCHIVE_API_URL=url,
            EMAIL_ARCHIVE_RETRY_ATTEMPTS="1",
        )
    assert done.returncode == 1
    assert "its certificate is not trusted" in done.stderr


# The lake.


@given(account_id=st.text() | st.from_regex(r"AC[0-9a-fA-F./\\\n]{30,34}"), day=st.dates())
def test_no_account_leads_out_of_the_lake(account_id: str, day: date):
    """An account is a SID, and nothing else becomes a part of a path."""
    lake = Lake(Path("/srv/lake"))
    partition = Partition(account_id, day)
    places = (
        lambda: lake.part(OPERATIONS, partition),
        lambda: lake.landing_folder(partition),
        lambda: lake.partition_lock(partition),
        lambda: lake.temporary_file("history", partition),
    )
    for place in places:
        if re.fullmatch(r"AC[0-9a-f]{32}", account_id):
            assert place().resolve().is_relative_to("/srv/lake")
        else:
            with pytest.raises(UsageError, match="expected an account SID"):
                place()


def test_settings_refuse_an_account_without_a_sid():
    for account_id in ("../../etc", f"{ACCOUNT}/..", f"{ACCOUNT}\n", f"{ACCOUNT[:-1]}."):
        with pytest.raises(UsageError, match="TWILIO_ACCOUNT_SID is malformed"):
            Settings.load(account_sid=account_id, auth_token=TOKEN)


FAILED = {"total": 9, "failed": 2}
HOSTILE = "x'; DROP TABLE operations; --\" || (SELECT 1) $$ ${sums} {0} %s"


def test_data_never_becomes_sql(tmp_path: Path):
    """An id, a status, a field or an error that looks like SQL is a text like any other."""
    hostile = record(1, status=HOSTILE, **{HOSTILE: HOSTILE}) | {"id": HOSTILE}
    lake = derived(new_lake(tmp_path), scan([hostile, record(2)]))
    rebuild(lake)
    query = "SELECT operation_id, status FROM operations WHERE operation_id LIKE 'x%'"
    assert ask(lake, query).to_pylist() == [{"operation_id": HOSTILE, "status": HOSTILE}]
    statuses = ask(lake, "SELECT DISTINCT status FROM delivery_hourly ORDER BY ALL")
    assert statuses["status"].to_pylist() == ["COMPLETED", HOSTILE]
    assert ask(lake, "SELECT count(*) AS n FROM history").to_pylist() == [{"n": 2}]


# The emulator, and Dagster's pages.


@pytest.mark.parametrize("host", ["10.0.0.9", "192.168.1.4", "203.0.113.7", "2001:db8::1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_emulator_is_controlled_from_its_own_machine_alone(host: str, method: str):
    app = create_app(WORLD, Clock(NOW), Options())
    client = TestClient(app, client=(host, 40000))
    answer = client.request(method, "/emulator/clock", content=b'{"now": "2026-11-20T00:00:00Z"}')
    assert answer.status_code == 403
    here = TestClient(app, client=("127.0.0.1", 40000)).get("/emulator/clock")
    assert here.json()["now"].startswith("2026-11-14T15:00:00")


def test_make_binds_dagsters_pages_to_this_machine():
    commands = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "dagster dev" in line
    ]
    assert commands
    assert all("-h 127.0.0.1" in line for line in commands)
