"""Empirical Bernstein: a bound whose width scales with the sample standard deviation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def bernstein_upper_bound(
    means: ArrayLike, delta: float, *, low: float = 0.0, high: float = 1.0
) -> float:
    """Upper confidence bound on the mean of independent values in [low, high].

    mean + sqrt(2 V log(2/delta) / n) + 7 (high - low) log(2/delta) / (3 (n - 1)), with V the
    unbiased sample variance. For a single value the bound is `high`.

    Args:
        means: array of shape (n,), one value per image.
        delta: maximum probability that the bound is below the mean, in (0, 1).
        low: smallest possible value.
        high: largest possible value.

    Returns:
        The bound, at most `high`, in the unit of `means`.

    Source:
        Maurer & Pontil 2009, arXiv 0907.3740, Theorem 4.

    Example:
        >>> round(bernstein_upper_bound([1.0] * 9 + [0.0] * 491, 0.05), 3)
        0.051
    """
    x = np.asarray(means, dtype=np.float64)
    if x.size < 2:
        return high
    log_risk = math.log(2.0 / delta)
    spread = math.sqrt(2.0 * float(x.var(ddof=1)) * log_risk / x.size)
    tail = 7.0 * (high - low) * log_risk / (3.0 * (x.size - 1))
    return min(high, float(x.mean()) + spread + tail)


def bernstein_p_value(
    means: ArrayLike, limit: float, *, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """P-value of "the mean is at least `limit`": the delta at which the bound equals `limit`.

    The bound is quadratic in sqrt(log(2/p)); the equation is solved in closed form.

    Args:
        means: array of shape (..., n); the last axis is one sample.
        limit: mean under the null hypothesis.
        low: smallest possible value.
        high: largest possible value.

    Returns:
        Array of shape (...), at most 1.

    Example:
        >>> bool(bernstein_p_value([1.0] * 9 + [0.0] * 491, 0.0515) < 0.05)
        True
    """
    x = np.asarray(means, dtype=np.float64)
    n = x.shape[-1]
    if n < 2:
        return np.ones(x.shape[:-1])
    gap = np.maximum(limit - x.mean(axis=-1), 0.0)
    square = 7.0 * (high - low) / (3.0 * (n - 1))
    linear = np.sqrt(2.0 * x.var(axis=-1, ddof=1) / n)
    root = (np.sqrt(linear**2 + 4.0 * square * gap) - linear) / (2.0 * square)
    return np.asarray(np.minimum(1.0, 2.0 * np.exp(-(root**2))))
