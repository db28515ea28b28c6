"""A few whole lives in every run of the tests; ``make simulate SEEDS=1000`` plays many."""

from pathlib import Path

import pytest

from tests.simulation.play import play

SEEDS = (101, 102, 103, 105)


@pytest.mark.parametrize("seed", SEEDS)
def test_life_of_faults_crashes_and_outages_keeps_every_rule(tmp_path: Path, seed: int):
    """R1 to R8"""
    outcome = play(seed, tmp_path)
    assert outcome.problems == []
    assert outcome.operations > 0
    assert outcome.happened["syncs"] > 5
    assert outcome.happened["crashes"] + outcome.happened["power cuts"] > 0
