"""A few whole lives in every run of the tests; ``make simulate SEEDS=1000`` plays many."""

from pathlib import Path

import pytest

from tests.conftest import Figures
from tests.simulation.play import play

SEEDS = (105, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (102, 106, 107)))


@pytest.mark.parametrize("seed", SEEDS)
def test_life_of_faults_crashes_and_outages_keeps_every_rule(
    tmp_path: Path, seed: int, figures: Figures
):
    """R1 to R8"""
    outcome = play(seed, tmp_path)
    assert outcome.problems == []
    assert outcome.operations > 0
    assert outcome.happened["syncs"] > 5
    assert outcome.happened["kills"] + outcome.happened["power cuts"] > 0
    figures("lives simulated", 1)


@pytest.mark.slow
def test_seed_is_the_same_life_again(tmp_path: Path):
    """So that a failing seed is one command to repeat: requests, faults, breaks and all."""
    for name in ("once", "again"):
        (tmp_path / name).mkdir()
    assert play(2, tmp_path / "once") == play(2, tmp_path / "again")
