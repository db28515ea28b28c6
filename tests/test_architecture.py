"""Imports go one way, modules say what belongs in them, SQL lies in its own files."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.structure import LEVELS, MODULES, ROOT, drawn, imports, name_of, package_of, tree

HEAVY = {
    "altair",
    "dagster",
    "duckdb",
    "httpx2",
    "jinja2",
    "msgspec",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic_settings",
    "starlette",
    "tenacity",
    "truststore",
    "urllib3",
    "uvicorn",
    "vl_convert",
}


def level(package: str) -> int:
    found = [number for number, packages in enumerate(LEVELS) if package in packages]
    assert found, f"{package} is new: give it a level"
    return found[0]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_packages_import_only_from_below():
    upward = set()
    for path in MODULES:
        here = package_of(name_of(path))
        if here is None:
            continue  # `pipeline` itself names what users take
        for one in imports(path):
            there = package_of(one)
            if there is None or there == here or (level(here) == level(there) == 0):
                continue
            if level(there) >= level(here):
                upward.add(f"{name_of(path)} -> {one}")
    assert upward == set()


def test_drawn_structure_is_todays():
    """In the Graphviz picture, the title of each arrow is what it connects."""
    picture = (ROOT / "docs" / "images" / "packages.svg").read_text()
    arrows = re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", picture)
    assert set(arrows) == drawn(), "run make structure"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("pipeline")], ids=ids)
def test_pipeline_knows_nothing_of_dagster_and_assets(path: Path):
    assert not {one for one in imports(path) if one.split(".")[0] in ("dagster", "assets")}


def test_assets_know_neither_the_emulator_nor_the_command():
    known = {
        one
        for path in MODULES
        for one in imports(path)
        if package_of(name_of(path)) == "assets" and package_of(one) in ("emulator", "cli")
    }
    assert known == set()


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_every_module_says_what_belongs_there(path: Path):
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_sql_lies_in_sql_files(path: Path):
    """SQL in Python is one line at most; longer SQL is in .sql files."""
    words = ("SELECT ", "CREATE ", "COPY ", "INSERT ", "WITH ", "UPDATE ", "DELETE ")
    texts = [
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [text for text in texts if text.lstrip().startswith(words) and "\n" in text.strip()]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.sql")), ids=ids)
def test_every_sql_file_begins_with_its_grain(path: Path):
    assert path.read_text().startswith("-- Grain: ")


def test_every_connection_says_where_it_spills():
    """DuckDB's own choice would be the folder that the process happens to be in."""
    calls = [
        line.strip()
        for path in (ROOT / "pipeline").rglob("*.py")
        for line in path.read_text().splitlines()
        if "engine.connect(" in line
    ]
    assert len(calls) > 5
    assert [call for call in calls if "spill=" not in call] == []


def test_nothing_but_settings_reads_the_environment():
    readers = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers == set()


def test_machine_clock_is_read_only_for_durations_and_defaults():
    """R10: `now` is an argument everywhere; only the guard and the emulator's default read the clock."""
    readers = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "today", "utcnow")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date")
    }
    assert readers <= {"pipeline.cli.emulator", "pipeline.extract.api_clock"}


def modules_after(statement: str) -> set[str]:
    """The top-level modules that are loaded after a statement, in a fresh interpreter."""
    program = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {module.split(".")[0] for module in json.loads(done.stdout)}


@pytest.mark.parametrize("statement", ["import pipeline", "import pipeline.cli.app"])
def test_importing_the_command_loads_nothing_heavy(statement: str):
    assert modules_after(statement) & HEAVY == set()


def test_importing_the_pipeline_never_loads_dagster():
    names = [name_of(path) for path in MODULES if name_of(path).startswith("pipeline")]
    assert "dagster" not in modules_after(f"import {', '.join(names)}")


def test_no_module_is_over_600_lines():
    long = {ids(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > 600}
    assert long == {}


def test_test_names_are_short_and_differ():
    """A second test of the same name in a module would replace the first."""
    wrong = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        wrong += [name for name in names if len(name) > 70 or "_that_" in name]
        wrong += [name for name in names if names.count(name) > 1]
    assert wrong == []
