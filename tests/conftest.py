"""What all tests share: how Hypothesis runs, and an environment without this machine's settings."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

from pipeline.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The same examples in every run, so that a failure is due to a change and not to chance. No time limits,
# since machines differ, and no explanations of failures, which take longer than the tests.
settings.register_profile(
    "repeatable",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
# Many, and others each time: pytest tests/properties --hypothesis-profile=thorough --timeout 0
settings.register_profile(
    "thorough",
    settings.get_profile("repeatable"),
    derandomize=False,
    max_examples=5_000,
    print_blob=True,
)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Turn fsync off.

    A process that is killed loses nothing of the page cache, and power cuts are tested with a disk that keeps
    only what was synced.
    """
    os.fsync = lambda _: None


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests wait for servers and processes to begin."""
    return (os.cpu_count() or 1) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--every-step``: break runs at every step, not at every 23rd."""
    parser.addoption("--every-step", action="store_true", help="break runs at every step")


@pytest.fixture
def steps_to_try(request: pytest.FixtureRequest) -> int:
    """Break a run at every n-th step."""
    return 1 if request.config.getoption("--every-step") else 23


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's settings from the environment."""
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)


Figures = Callable[[str, int], None]
"""Counts what a test has done, as ``figures("kills survived", 30)``."""


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """The figures of docs/reliability.md: sums over all tests, printed at the end of the run.

    Counts of ``kills before: write`` and ``kills before: rename`` are summed on one line.
    """

    def count(name: str, times: int) -> None:
        record_property(f"figure: {name}", times)

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, of all processes that tests ran in."""
    sums: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                sums += Counter(_figures(report))
    if sums:
        terminalreporter.section("figures")
        for title in sorted({name.partition(": ")[0] for name in sums}):
            kinds = {n.partition(": ")[2]: sums[n] for n in sums if n.partition(": ")[0] == title}
            listed = ", ".join(f"{kind} {times:,}" for kind, times in sorted(kinds.items()) if kind)
            terminalreporter.line(f"{title}: {sum(kinds.values()):,} {listed and f'({listed})'}")


def _figures(report: pytest.TestReport) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, times in report.user_properties:
        if name.startswith("figure: "):
            found[name.removeprefix("figure: ")] += int(str(times))
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """Debian's Chromium, started once by each worker that looks at pages."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on this machine: Debian's package `chromium` has it")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most workers need no browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()
