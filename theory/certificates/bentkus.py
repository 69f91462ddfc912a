"""Hoeffding-Bentkus: minimum of a Chernoff and a binomial tail bound, for bounded values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

# Bisection stops at this width and returns the upper end, so rounding can only raise the bound.
_WIDTH = 1e-12


def bentkus_p_value(
    means: ArrayLike, limit: float, *, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """P-value of "the mean is at least `limit`", for independent values in [low, high].

    With m the sample mean and a the limit, both scaled to [0, 1]:

        p = min( exp(-n kl(min(m, a), a)),  e P(Binomial(n, a) <= ceil(n m)) )

    Both terms are nonincreasing in a on a >= m.

    Args:
        means: array of shape (..., n); the last axis is one sample.
        limit: mean under the null hypothesis, in (low, high).
        low: smallest possible value.
        high: largest possible value.

    Returns:
        Array of shape (...), at most 1.

    Source:
        Bates et al. 2021, arXiv 2101.02703; Angelopoulos et al. 2021, arXiv 2110.01052,
        Proposition 1.

    Example:
        >>> float(bentkus_p_value([0.0] * 149, 0.02).round(4))
        0.0493
    """
    x = (np.asarray(means, dtype=np.float64) - low) / (high - low)
    return _p_value(x.sum(axis=-1), x.shape[-1], (limit - low) / (high - low))


def bentkus_upper_bound(
    means: ArrayLike, delta: float, *, low: float = 0.0, high: float = 1.0
) -> float:
    """Largest mean that `bentkus_p_value` does not reject at level delta.

    Args:
        means: array of shape (n,), one value per image.
        delta: maximum probability that the bound is below the mean, in (0, 1).
        low: smallest possible value.
        high: largest possible value.

    Returns:
        The bound, at most `high`, in the unit of `means`.

    Example:
        >>> round(bentkus_upper_bound([1.0] * 9 + [0.0] * 491, 0.05), 4)
        0.035
    """
    x = (np.asarray(means, dtype=np.float64) - low) / (high - low)
    total, n = float(x.sum()), x.size
    left, right = min(total / n, 1.0), 1.0
    while right - left > _WIDTH:
        middle = 0.5 * (left + right)
        rejected = float(_p_value(np.asarray(total), n, middle)) <= delta
        left, right = (left, middle) if rejected else (middle, right)
    return low + (high - low) * right


def _p_value(total: NDArray[np.float64], n: int, limit: float) -> NDArray[np.float64]:
    from scipy.stats import binom  # half a second to import

    if not 0.0 < limit < 1.0:
        return np.ones(np.shape(total))
    mean = np.clip(np.minimum(total / n, limit), 0.0, 1.0)
    kl = rel_entr(mean, limit) + rel_entr(1.0 - mean, 1.0 - limit)
    tail = math.e * binom.cdf(np.ceil(total), n, limit)
    return np.asarray(np.minimum(1.0, np.minimum(np.exp(-n * kl), tail)))
