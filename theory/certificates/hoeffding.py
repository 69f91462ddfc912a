"""Hoeffding: mean(m) + (b - a) sqrt(log(1/delta) / (2 n)), for any values in [a, b]."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def hoeffding_upper_bound(
    means: ArrayLike, delta: float, *, low: float = 0.0, high: float = 1.0
) -> float:
    """Upper confidence bound on the mean of independent values in [low, high].

    For paired differences of correctness, in [-1, 1], it is the paired Hoeffding bound.

    Args:
        means: array of shape (n,), one value per image.
        delta: maximum probability that the bound is below the mean, in (0, 1).
        low: smallest possible value.
        high: largest possible value.

    Returns:
        The bound, at most `high`, in the unit of `means`.

    Source:
        Hoeffding 1963, Theorem 2.

    Example:
        >>> round(hoeffding_upper_bound([0.0] * 14_979, 0.05, low=-1.0, high=1.0), 6)
        0.02
    """
    x = np.asarray(means, dtype=np.float64)
    width = (high - low) * math.sqrt(-math.log(delta) / (2.0 * x.size))
    return min(high, float(x.mean()) + width)


def hoeffding_p_value(
    means: ArrayLike, limit: float, *, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """P-value of "the mean is at least `limit`": exp(-2 n ((limit - mean)/(high - low))^2).

    Args:
        means: array of shape (..., n); the last axis is one sample.
        limit: mean under the null hypothesis.
        low: smallest possible value.
        high: largest possible value.

    Returns:
        Array of shape (...).

    Example:
        >>> float(hoeffding_p_value([0.5] * 10, 0.5))
        1.0
    """
    x = np.asarray(means, dtype=np.float64)
    gap = np.maximum(limit - x.mean(axis=-1), 0.0) / (high - low)
    return np.asarray(np.exp(-2.0 * x.shape[-1] * gap**2))
