"""The log as machines read it: one object a line, with what was done to what, and for how long."""

import json
from pathlib import Path
from typing import Any

from pipeline.emulator import Faults, Options, World
from tests.support.archives import account
from tests.support.command import run
from tests.support.factories import at

WORLD = World(5, 60.0, at("2026-11-10"))
NOW = at("2026-11-14 15:00")


def events(text: str) -> dict[str, list[dict[str, Any]]]:
    """The events of a log, by what happened; a line that is no JSON is an error."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines():
        event = json.loads(line)
        found.setdefault(event.get("event", ""), []).append(event)
    return found


def test_every_scan_merge_and_publish_is_one_line_of_json(tmp_path: Path):
    with account(WORLD, NOW, tmp_path, fetch_operation_errors=False) as (_, settings):
        done = run("--log-format", "json", "sync", cwd=tmp_path, **settings.environment())
    assert done.returncode == 0
    found = events(done.stderr)
    about = {"level": "INFO", "account_id": settings.account_sid}
    assert len(found["scan"]) == len(found["merge"]) == 8
    for one in found["scan"]:
        assert one.items() >= {**about, "complete": True, "pages": 1, "retries": 0}.items()
        assert one["window"].startswith("2026-11-")
        assert [len(request_id) for request_id in one["request_ids"]] == [34]
    for one in found["merge"]:
        assert one.items() >= {**about, "changed": 0, "new_rejects": 0}.items()
    assert sum(one["new"] for one in found["merge"]) == len(WORLD.existing(NOW))
    (published,), (synced,) = found["publish"], found["sync"]
    assert published["warehouse"].endswith("warehouse.duckdb")
    assert synced["new"] == len(WORLD.existing(NOW))
    told = [one for name in ("scan", "merge", "publish", "sync") for one in found[name]]
    assert all(one["seconds"] > 0 and one["time"].endswith("+00:00") for one in told)


def test_retries_and_failures_name_the_window_and_the_servers_request(tmp_path: Path):
    faults = Faults(1, {"500": 0.5})
    # The smallest pages: a window is given up at once, and not tried again with smaller ones.
    fields = {"retry_attempts": 2, "fetch_operation_errors": False, "page_size": 50}
    with account(WORLD, NOW, tmp_path, options=Options(faults=faults), **fields) as (_, settings):
        done = run("--log-format", "json", "sync", cwd=tmp_path, **settings.environment())
    assert done.returncode == 1
    found = events(done.stderr)
    assert {one["status"] for one in found["retry"]} == {500}
    assert {one["level"] for one in found["scan_failed"]} == {"WARNING"}
    assert all(one["window"].startswith("2026-11-") for one in found["scan_failed"])
    complaints = [one["message"] for one in found[""] if one["level"] == "ERROR"]
    assert complaints
    assert all("failed and stays due" in one for one in complaints)


def test_fatal_error_is_logged_as_json(tmp_path: Path):
    done = run("--log-format", "json", "sync", cwd=tmp_path)
    assert done.returncode == 2
    (error,) = events(done.stderr)[""]
    assert error["message"].startswith("TWILIO_ACCOUNT_SID is not set.")


def test_debug_log_is_json_too_and_has_every_request(tmp_path: Path):
    with account(WORLD, NOW, tmp_path, fetch_operation_errors=False) as (emulator, settings):
        arguments = ("--debug", "--log-format", "json", "sync")
        done = run(*arguments, cwd=tmp_path, **settings.environment())
    assert done.returncode == 0
    requests = events(done.stderr)["request"]
    assert len(requests) == len(emulator.requests) == 9
    assert {one["status"] for one in requests} == {200}
