"""The base install works without the extras, and a command that needs one names it."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
MODULES = {
    "report": ("altair", "jinja2", "vl_convert"),
    "emulator": ("starlette", "uvicorn"),
}
COMMANDS = {"report": ["report"], "emulator": ["emulate"]}


def run_without(
    modules: tuple[str, ...], code: str, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that can't import some modules, as if they were not installed."""
    missing = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))"
    return subprocess.run(
        [sys.executable, "-c", f"{missing}\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("extra", "module"), [(extra, one) for extra, names in MODULES.items() for one in names]
)
def test_command_names_its_missing_extra(extra: str, module: str, tmp_path: Path):
    code = f"sys.argv[1:] = {COMMANDS[extra]!r}\nfrom pipeline.cli.app import main; main()"
    done = run_without((module,), code, tmp_path)
    assert done.returncode == 2
    assert f"pip install 'twilio-email-archive[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_base_install_imports_everything_but_report_and_emulator(tmp_path: Path):
    """Jinja2 stays: Dagster itself needs it."""
    modules = tuple(one for names in MODULES.values() for one in names if one != "jinja2")
    code = (
        "import pipeline.sync, pipeline.access.archive, pipeline.access.export\n"
        "import pipeline.quality.verify, pipeline.quality.status\n"
        "import assets.definitions"
    )
    done = run_without(modules, code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_extras_hold_each_optional_module():
    """Every module that a missing extra is named for is installed by that extra."""
    owners = packages_distributions()
    for extra, modules in MODULES.items():
        named = " ".join(PROJECT["optional-dependencies"][extra]).lower().replace("_", "-")
        for module in modules:
            assert any(one.lower().replace("_", "-") in named for one in owners[module]), module


def test_missing_module_of_ours_stays_a_bug(tmp_path: Path):
    code = "sys.argv[1:] = ['report']\nfrom pipeline.cli.app import main; main()"
    done = run_without(("pipeline.report.data",), code, tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
