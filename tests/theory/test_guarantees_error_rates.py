"""Monte Carlo of every guarantee at truths on the limit: false promises at most delta."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._guarantees import DELTA, EPSILON, SIMULATIONS, ring_one, rings

RUNS = 2000


@pytest.mark.slow
@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda each: each.__name__)
def test_no_guarantee_is_false_more_often_than_promised(simulation):
    made = list(simulation(np.random.default_rng(0), RUNS))
    assert any(each.valid for each in made)
    for each in made:
        assert each.runs == RUNS
        assert (each.wrong <= each.most) == each.valid, each


def test_the_simulated_alarm_is_the_alarm():
    changed = np.random.default_rng(1).random((12, 300)) < np.linspace(0.01, 0.2, 12)[:, None]
    fast = rings(changed, DELTA).tolist()
    assert fast == [ring_one(row, DELTA) for row in changed]
    assert set(fast) == {True, False}
    assert EPSILON < 0.05
