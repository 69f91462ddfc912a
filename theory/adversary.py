"""An optimiser that searches for a violation of a claim, and a shrinker that simplifies it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from estimators.extras import require

#: Evaluations per coordinate of one Nelder-Mead run, before the next start.
PER_COORDINATE = 25

Objective = Callable[[NDArray[np.float64]], float]


def minimise(
    objective: Objective, dimension: int, evaluations: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Minimise an objective with a limited number of evaluations.

    Nelder-Mead runs start alternately at a random point and near the best point so far. NaN
    counts as minus infinity, so an objective that is undefined somewhere is reported.

    Args:
        objective: function of a vector of shape (dimension,).
        dimension: at least 1.
        evaluations: budget, at least 1; the last step of a run may exceed it.
        rng: generator of the starting points.

    Returns:
        Best vector, shape (dimension,), and its value.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> best, value = minimise(lambda v: float(v @ v), 2, 400, rng)
        >>> value < 1e-6
        True
    """
    from scipy.optimize import minimize  # slow to import

    best, lowest, used = np.zeros(dimension), math.inf, 0

    def record_best(vector: NDArray[np.float64]) -> float:
        nonlocal best, lowest, used
        used += 1
        value = float(objective(vector))
        value = -math.inf if math.isnan(value) else value
        if value < lowest:
            best, lowest = np.array(vector, dtype=np.float64), value
        return max(value, -1e300)  # Nelder-Mead computes differences of values

    fresh = True
    while used < evaluations:
        scale = float(rng.choice([0.3, 1.0, 3.0]) if fresh else rng.choice([0.01, 0.1]))
        budget = min(evaluations - used, PER_COORDINATE * (dimension + 2))
        start = (0.0 if fresh else best) + scale * rng.standard_normal(dimension)
        fresh = not fresh
        minimize(
            record_best,
            start,
            method="Nelder-Mead",
            options={"maxfev": budget, "xatol": 1e-10, "fatol": 1e-14},
        )
    return best, lowest


def shrink(
    vector: NDArray[np.float64], breaks: Callable[[NDArray[np.float64]], bool]
) -> NDArray[np.float64]:
    """Simplify a vector that violates a claim, with Hypothesis.

    Each coordinate is set to 0, rounded to 0, 1 or 2 decimals, or left unchanged. Hypothesis
    searches for the simplest such choice for which `breaks` still holds.

    Example:
        >>> shrink(np.array([1.2345, -0.3]), lambda v: v[0] > 0.9)
        array([1., 0.])
    """
    require("shrinking a counterexample", "hypothesis", "theory")
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample

    def rounded(levels: list[int]) -> NDArray[np.float64]:
        """The vector with each coordinate rounded to its level."""
        by_level = [0.0 * vector, *(np.round(vector, digits) for digits in (0, 1, 2)), vector]
        return np.array([by_level[min(level, 4)][i] for i, level in enumerate(levels)])

    size = vector.size
    try:
        levels = find(
            st.lists(st.integers(0, 9), min_size=size, max_size=size),
            lambda levels: bool(breaks(rounded(levels))),
            settings=settings(
                max_examples=300,
                database=None,
                deadline=None,
                derandomize=True,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        return vector
    return rounded(levels) + 0.0
