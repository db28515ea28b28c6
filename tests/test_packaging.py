"""What is installed and what is pinned."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_wheel_holds_both_packages_with_their_types_sql_and_description(wheel: set[str]):
    expected = {
        str(path.relative_to(ROOT))
        for package in ("pipeline", "assets")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".sql", ".typed", ".json", ".html", ".css", ".js")
    }
    packed = {name for name in wheel if ".dist-info/" not in name}
    assert packed == expected
    assert {"pipeline/py.typed", "assets/py.typed"} <= packed


def test_wheel_holds_the_licence(wheel: set[str]):
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_source_distribution_holds_what_git_keeps(tmp_path: Path):
    """The tests come with it, and they look at the README, docs/, the notebook and .env.example."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone: only git can tell which files are the project's")
    kept = listed_by_git("--cached")
    build = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True)
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert kept - packed == set()
    assert packed - kept - listed_by_git("--others", "--exclude-standard") == {"PKG-INFO"}


def listed_by_git(*which: str) -> set[str]:
    command = ["git", "ls-files", "-z", *which]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if (ROOT / name).is_file()}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_exactly_the_projects_dependencies():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    # Names and versions, and nothing else: no address, no marker, no option.
    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!]+", line)
    ] == []
    pinned = {normal(line.partition("==")[0]) for line in lines}
    extras = PROJECT["optional-dependencies"].values()
    named = [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    names = {normal(re.split(r"[^A-Za-z0-9_.-]", one)[0]) for one in named}
    assert names - pinned == {normal(PROJECT["name"])}  # an extra may name another of ours


def test_dagster_is_bounded_and_never_pinned():
    """dagster-webserver trails dagster by a patch or two."""
    bounds = [
        one
        for one in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["ui"]]
        if one.startswith("dagster")
    ]
    assert bounds == ["dagster>=1.13,<1.14", "dagster-webserver>=1.13,<1.14"]


def test_pyproject_has_no_dagster_block():
    """It would silently win over workspace.yaml."""
    assert "dagster" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def test_changelog_begins_with_this_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", version("twilio-email-archive")]


def test_example_of_dotenv_names_real_settings():
    names = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert names
    assert set(names) <= set(Settings.variables().values())
