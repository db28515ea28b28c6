"""The command as a user meets it: real processes, their output, their exit codes."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.cli.app import app
from pipeline.emulator import Emulator, Options, World
from pipeline.lake.layout import Lake
from pipeline.model.windows import retained_days
from pipeline.settings import Settings
from tests.support.archives import account
from tests.support.command import on_terminal, run
from tests.support.factories import ACCOUNT, at, body, derived, new_lake, record, scan
from tests.support.scripted_api import Answer, scripted

NOW = at("2026-11-14 15:00")
TOKEN = "tok-3n-very-secret"
STAMP = re.compile(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z ")
COMMANDS = [
    command.name or (command.callback and command.callback.__name__)
    for command in app.registered_commands
]


def credentials(emulator: Emulator) -> dict[str, str]:
    """The variables that lead to an emulated account."""
    return {
        "TWILIO_ACCOUNT_SID": emulator.options.account_sid,
        "TWILIO_AUTH_TOKEN": emulator.options.auth_token,
        "EMAIL_ARCHIVE_API_URL": emulator.url,
    }


# Help.


@pytest.mark.parametrize(
    "command",
    ["", *COMMANDS, "accounts", "accounts retire", "accounts resume", "config", "config show"],
)
def test_help_is_whole_at_80_columns_and_shows_an_example(command: str, tmp_path: Path):
    done = run(*command.split(), "--help", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    assert "Example: email-archive " in done.stdout
    assert f"email-archive {command}" in " ".join(done.stdout.split())
    lines = done.stdout.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("...")]
    for internal in ("%Y", "list[", "range>", "<path>", "<str>", "for ever"):
        assert internal not in done.stdout.replace("QUERY <str>", "").replace("NAME <str>", "")
    assert ("DATE is a day" in " ".join(done.stdout.split())) == ("DATE" in done.stdout)


def test_commands_are_these():
    names = [
        "init",
        "sync",
        "sql",
        "export",
        "report",
        "publish",
        "status",
        "verify",
        "repair",
        "emulate",
        "demo",
    ]
    assert names == COMMANDS


def test_version(tmp_path: Path):
    assert run("--version", cwd=tmp_path).stdout.startswith("email-archive 0.")


@pytest.mark.parametrize("arguments", [["nonsense"], ["sync", "--nonsense"], ["sql"]])
def test_wrong_use_exits_with_2(arguments: list[str], tmp_path: Path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# Sync.


def test_sync_says_what_it_did_in_one_line(tmp_path: Path):
    world = World(5, 300.0, at("2026-11-10"))
    with account(world, NOW, tmp_path, fetch_operation_errors=False) as (_, settings):
        done = run("sync", cwd=tmp_path, **settings.environment())
        number = len(world.existing(NOW))
        assert done.returncode == 0, done.stderr
        (summary,) = done.stdout.splitlines()
        assert STAMP.sub("", summary).startswith(
            f"{settings.account_sid}: {number} operations seen: {number} new, 0 changed, 0 unchanged; "
            "0 rejects; 8 requests, 0 retries; "
        )
        lines = done.stderr.splitlines()
        assert all(STAMP.match(line) for line in [summary, *lines])
        told = [STAMP.sub("", line) for line in lines]
        assert len([line for line in told if line.startswith("scanned 2026-11-")]) == 8
        assert len([line for line in told if line.startswith("merged AC")]) == 5


def test_sync_logs_no_day_without_changes(tmp_path: Path):
    world = World(5, 20.0, at("2026-11-12"))
    with account(world, NOW, tmp_path, fetch_operation_errors=False) as (_, settings):
        assert "merged AC" in run("sync", cwd=tmp_path, **settings.environment()).stderr
        again = run("sync", "--all", cwd=tmp_path, **settings.environment())
    assert again.stderr.count("scanned") == 8
    assert "merged" not in again.stderr


def test_terminal_shows_the_step_of_a_sync(tmp_path: Path):
    """No step is shown as done while the next one works."""
    with account(World(5, 300.0, at("2026-11-10")), NOW, tmp_path) as (_, settings):
        code, text = on_terminal("sync", cwd=tmp_path, COLUMNS="80", **settings.environment())
    assert code == 0
    shown = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    frames = [line for line in shown if re.match("[\u2800-\u28ff]", line) and " new, " not in line]
    assert max(map(len, frames)) <= 80
    assert any("listing" in frame and "/8 windows" in frame for frame in frames)
    assert any("deriving and publishing" in frame for frame in frames)
    assert not [frame for frame in frames if "8/8 windows" in frame]
    assert not STAMP.search(text)


def test_sync_as_json(tmp_path: Path):
    with account(World(5, 300.0, at("2026-11-10")), NOW, tmp_path) as (_, settings):
        done = run("sync", "--json", cwd=tmp_path, **settings.environment())
    figures = json.loads(done.stdout)
    assert (figures["windows"], figures["failed_windows"], figures["errors"]) == (8, [], [])
    assert figures["new"] == figures["operations_seen"] > 1000
    assert figures["now"] == "2026-11-14T15:00:00Z"


def test_sync_reads_dotenv_and_writes_to_data_by_default(tmp_path: Path):
    with account(World(5, 20.0, at("2026-11-10")), NOW, tmp_path) as (_, settings):
        lines = (f"{name}={value}" for name, value in settings.environment().items())
        wanted = [line for line in lines if not line.startswith("EMAIL_ARCHIVE_DATA")]
        (tmp_path / ".env").write_text("\n".join(wanted))
        done = run("sync", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "warehouse.duckdb").exists()


def test_sync_without_settings_is_one_message_and_exit_2(tmp_path: Path):
    done = run("sync", cwd=tmp_path)
    assert done.returncode == 2
    assert STAMP.sub("", done.stderr) == (
        "ERROR TWILIO_ACCOUNT_SID is not set. "
        "Set it in the environment or in a .env file in the folder where you run this. "
        "`email-archive init` asks for the credentials and writes that file.\n"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(b'{"errors": [{"code": 20003, "message": "Authenticate"}]}', 401),
            "20003: Authenticate",
        ),
        (Answer(b"<html>Log in</html>"), "EMAIL_ARCHIVE_API_URL"),
        (Answer(b"<html>Not found</html>", 404), "EMAIL_ARCHIVE_API_URL"),
        (Answer(b'{"messages": []}'), "messages"),
        (Answer(b'{"operations": [', 200), "operations"),
    ],
)
def test_url_without_an_api_is_one_message_and_exit_1(tmp_path: Path, answer: Answer, message: str):
    """R9, R11"""
    with scripted([answer]) as server:
        done = run(
            "sync",
            cwd=tmp_path,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            EMAIL_ARCHIVE_API_URL=server.url,
            EMAIL_ARCHIVE_RETRY_ATTEMPTS="1",
        )
    assert done.returncode == 1
    assert STAMP.sub("", done.stderr).startswith("ERROR GET /v1/Emails/Operations")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_failed_window_is_named_with_exit_1(tmp_path: Path):
    day = retained_days(at("2026-11-20 14:00"))[3]

    def answer(request):
        failing = request.query.get("startDate", "").startswith(f"{day}T23:59:59")
        return Answer(b"", 400) if failing else Answer(body([]))

    with scripted(answer) as server:
        done = run(
            "sync",
            cwd=tmp_path,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            EMAIL_ARCHIVE_API_URL=server.url,
        )
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if "failed and stays due" in line]
    assert len(failed) == 1
    assert "2026-11-17T00:00:00Z/2026-11-18T00:00:00Z" in failed[0]
    assert STAMP.sub("", done.stdout).startswith(f"{ACCOUNT}: 0 operations seen")


def test_debug_shows_requests_and_tracebacks_and_no_credentials(tmp_path: Path):
    """R11"""
    with scripted([Answer(body([])), Answer(b"", 401)]) as server:
        done = run(
            "--debug",
            "sync",
            cwd=tmp_path,
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            EMAIL_ARCHIVE_API_URL=server.url,
        )
    assert done.returncode == 1
    assert "GET /v1/Emails/Operations: 200" in done.stderr
    assert "Traceback" in done.stderr
    shown = done.stdout + done.stderr
    assert TOKEN not in shown
    assert "Basic " not in shown


def test_lake_of_a_newer_version_is_one_message(tmp_path: Path):
    lake = new_lake(tmp_path)
    (lake.root / "lake.json").write_text('{"format": 99}')
    for command in (["status"], ["sql", "FROM operations"], ["publish"]):
        done = run(*command, "--data", str(lake.root), cwd=tmp_path)
        assert done.returncode != 0
        assert "newer" in done.stderr
        assert "Traceback" not in done.stderr


# Dates and folders.


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "--since", "yesterday"],
        ["status", "--at", "2026-13-01"],
        ["export", "--table", "x", "--until", "1"],
        ["export", "--table", "x", "--since", "0001-01-01T00:00+14:00"],
    ],
)
def test_malformed_date_says_in_words_what_is_expected(arguments: list[str], tmp_path: Path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"Error: Invalid value for '{arguments[-2]}': expected a day, as 2026-09-01, or a time, as "
        f"2026-09-01T14:30 (UTC); got '{arguments[-1]}'"
    )


@pytest.mark.parametrize("below", ["", "/data"])
def test_file_in_place_of_the_folder_is_named(below: str, tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    for command in (["status"], ["publish"], ["sql", "SELECT 1"]):
        done = run(*command, "--data", f"file{below}", cwd=tmp_path)
        assert done.returncode == 2
        assert "expected a folder; file is a file" in done.stderr


def test_range_in_which_the_api_has_nothing_exits_with_2(tmp_path: Path):
    with account(World(5, 20.0, at("2026-11-10")), NOW, tmp_path) as (emulator, settings):
        for range_, message in (
            (
                ["2026-11-01", "--until", "2026-11-07T14:00"],
                "those before 2026-11-07T14:00:00Z are",
            ),
            (["2026-11-14T15:30"], "2026-11-14T15:30:00Z is in the API's future"),
        ):
            done = run("sync", "--since", *range_, cwd=tmp_path, **settings.environment())
            assert (done.returncode, done.stdout) == (2, "")
            assert message in done.stderr
            assert "It is 2026-11-14T15:00:00Z there" in done.stderr
        assert not [one for one in emulator.requests if "startDate" in one.query]
        offset = ("sync", "--since", "2026-11-14T16:30+02:00")
        done = run(*offset, cwd=tmp_path, **settings.environment())
        assert done.returncode == 0
        assert "scanned 2026-11-14T14:30:00Z/" in done.stderr


# Status and publish.


def test_status_shows_what_the_archive_holds(archive: tuple[Emulator, Settings], tmp_path: Path):
    emulator, settings = archive
    number = len(emulator.world.existing(NOW))
    at_now = ("--at", "2026-11-14T15:00:00Z", "--data", str(settings.data))
    done = run("status", "--json", *at_now, cwd=tmp_path)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["now"], found["ok"]) == ("2026-11-14T15:00:00Z", True)
    (one,) = found["accounts"]
    assert one["account_id"] == settings.account_sid
    assert (one["operations"], one["states"], one["rejects"], one["scans"]) == (
        number,
        number,
        0,
        8,
    )
    assert (one["first_day"], one["last_day"], one["days"]) == ("2026-11-07", "2026-11-14", 8)
    assert one["last_scan_at"] == "2026-11-14T15:00:00Z"
    assert (one["at_risk"], one["gaps"], one["lost"]) == ([], 0, [])
    picture = run("status", *at_now, cwd=tmp_path)
    assert f"{number:,}" in picture.stdout
    # Saturday until 15:00; a week ago, up to 15:00, was past its deadline before the archive began.
    lines = {line[2:11]: line[12:37].strip() for line in picture.stdout.splitlines()}
    assert lines["Sat 11-14"].startswith("o" * 16)
    assert "-" * 16 + "#" * 8 in picture.stdout


def test_status_warns_of_slots_at_risk_and_lost(archive: tuple[Emulator, Settings], tmp_path: Path):
    """The archive has been off since; what was scanned shortly before its deadline is safe."""
    _, settings = archive
    data = ("--data", str(settings.data))
    risky = run("status", "--at", "2026-11-21T13:30Z", *data, cwd=tmp_path)
    assert risky.returncode == 1
    assert re.search(
        r"at risk 2026-11-14 14:00 to .* hours, the first with 0.5 h left", risky.stdout
    )
    lost = run("status", "--json", "--at", "2026-11-25T00:00", *data, cwd=tmp_path)
    assert lost.returncode == 1
    (one,) = json.loads(lost.stdout)["accounts"]
    # The hour under way when the archive stopped, and all since whose deadline has passed.
    assert [slot["slot"] for slot in one["lost"]][:2] == [
        "2026-11-14T15:00:00Z",
        "2026-11-14T16:00:00Z",
    ]
    assert one["lost"][-1]["slot"] == "2026-11-18T00:00:00Z"
    assert one["gaps"] == len(one["lost"]) == 82


def test_status_as_of_earlier_calls_no_scan_a_future_one(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    _, settings = archive
    at_then = ("--at", "2026-11-14T08:00Z", "--data", str(settings.data))
    done = run("status", "--json", *at_then, cwd=tmp_path, EMAIL_ARCHIVE_TRUST_CLOCK="false")
    assert done.returncode == 0
    assert json.loads(done.stdout)["accounts"][0]["future_scans"] == 0


def test_publish_rebuilds_what_is_derived(tmp_path: Path):
    lake = derived(new_lake(tmp_path), scan([record(1)]))
    moved = lake.root.rename(tmp_path / "moved")
    done = run("publish", "--data", "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(moved / "warehouse.duckdb") in done.stdout
    asked = run(
        "sql",
        "SELECT total FROM delivery_daily",
        "--format",
        "csv",
        "--data",
        "moved",
        cwd=tmp_path,
    )
    assert asked.stdout == "total\n1\n"


def test_options_of_the_emulator_have_no_secret_in_their_repr():
    """R11"""
    shown = repr(Options(auth_token=TOKEN, api_key_secret="hush"))
    assert TOKEN not in shown
    assert "hush" not in shown


# Verify.


def test_verify_names_the_missing_and_the_command_to_fetch_it(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    emulator, settings = archive
    data = shutil.copytree(settings.data, tmp_path / "archive")
    environment = credentials(emulator)
    here = ("--data", str(data))
    equal = run("verify", *here, cwd=tmp_path, **environment)
    assert equal.returncode == 0, equal.stderr
    assert equal.stdout.splitlines()[-1].endswith("of them current in the archive, none missing")

    day = next(iter(Lake(data).partitions("history")))
    for table in ("history", "operations", "coverage"):
        shutil.rmtree(data / table / f"account_id={day.account_id}" / f"created_date={day.day}")
    missing = run("verify", "--since", f"{day.day}", *here, cwd=tmp_path, **environment)
    assert missing.returncode == 1
    first = missing.stdout.index("missing 2026-11-10T")
    assert "comms_operation_" in missing.stdout[first:].splitlines()[0]
    advice = re.search(r"email-archive (sync .+) fetches them", missing.stdout)
    assert advice
    assert run(*advice[1].split(), *here, cwd=tmp_path, **environment).returncode == 0

    healed = run("verify", "--json", *here, cwd=tmp_path, **environment)
    assert healed.returncode == 0
    assert json.loads(healed.stdout)["missing"] == 0


def test_verify_refuses_a_range_ending_before_it_begins(
    archive: tuple[Emulator, Settings], tmp_path: Path
):
    range_ = ("--since", "2026-11-12", "--until", "2026-11-11")
    done = run("verify", *range_, cwd=tmp_path, **credentials(archive[0]))
    assert done.returncode == 2
    assert re.search(r"expected --since before --until; got \S+Z and \S+Z", done.stderr)
