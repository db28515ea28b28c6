"""The figures of a run: how much was tried."""

from collections import Counter

import pytest

FIGURES = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = Counter()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Counter[str]:
    """What the checks saw."""
    return request.config.stash[FIGURES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was tried, where it was tried in this process."""
    found = config.stash.get(FIGURES, Counter())
    if found:
        lost = found["records"] - found["rows"] - found["rejects"]
        terminalreporter.write_line(
            f"answers: {found['inputs']:,} checked: {found['accepted']:,} accepted "
            f"({found['fast']:,} pages the fast way), "
            f"{found['refused']:,} refused with documented errors\n"
            f"records: {found['records']:,} seen: {found['rows']:,} rows, "
            f"{found['rejects']:,} rejects, {lost:,} lost"
        )
