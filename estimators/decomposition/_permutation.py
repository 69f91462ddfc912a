"""Permutation p-values of PID atoms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.decomposition._solved import TOLERANCE, Solved
from estimators.decomposition.result import ATOMS

Floats = NDArray[np.float64]


def permutation_p_values(
    table: NDArray[np.int64],
    observed: Floats,
    measure: str,
    permutations: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """p-values of plug-in atoms and total; the target is permuted against both sources."""
    from scipy.stats import random_table  # slow to import

    sources, target = table.sum(axis=2).ravel(), table.sum(axis=(0, 1))
    seen, answers = sources > 0, target > 0
    drawn = np.zeros((permutations, sources.size, target.size))
    rows = random_table(sources[seen], target[answers]).rvs(permutations, random_state=rng)
    drawn[np.ix_(range(permutations), seen, answers)] = rows.reshape(permutations, seen.sum(), -1)
    tolerance = TOLERANCE / float(table.sum())
    p = drawn.reshape(permutations, *table.shape) / table.sum()
    null = Solved.of(p, measure, tolerance).atoms
    null = np.column_stack([null, null.sum(axis=1)])
    values = np.append(observed, observed.sum())
    slack = np.array([tolerance] * 4 + [1e-12])  # the total needs no solver
    above = 1 + (null >= values - slack).sum(axis=0)
    return dict(zip((*ATOMS, "total"), (above / (1.0 + permutations)).tolist(), strict=True))
