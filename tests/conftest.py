"""What all tests share: how Hypothesis runs, and an environment without this machine's settings."""

import pytest
from hypothesis import Phase, settings

from pipeline.settings import Settings

# The same examples in every run, so that a failure is the change's and not the day's; no time limits,
# since machines differ; and no explaining, which takes longer than all the rest.
settings.register_profile(
    "repeatable",
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--every-step``: break runs at every step, not at every fifth."""
    parser.addoption("--every-step", action="store_true", help="break runs at every step")


@pytest.fixture
def steps_to_try(request: pytest.FixtureRequest) -> int:
    """Break a run at every n-th step."""
    return 1 if request.config.getoption("--every-step") else 5


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say what they need: nothing comes from the environment that they run in."""
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
