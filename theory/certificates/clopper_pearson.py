"""Clopper-Pearson: exact bound on a rate, for one binary value per image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv

from theory._validate import check_count, check_fraction


def clopper_pearson_upper_bound(failures: int, n: int, delta: float) -> float:
    """The (1 - delta) quantile of Beta(k + 1, n - k); 1 if every trial failed.

    Where SciPy finds no quantile, at a delta such as 1e-300, the bound is 1, which always holds.

    Args:
        failures: k, from 0 to n.
        n: independent trials, at least 1.
        delta: maximum probability that the bound is below the rate, in (0, 1).

    Returns:
        Upper bound on the rate, in (0, 1].

    Raises:
        TypeError: counts that are not integers.
        ValueError: k not in 0..n, or delta outside (0, 1).

    Source:
        Clopper & Pearson 1934.

    Example:
        >>> round(clopper_pearson_upper_bound(9, 500, 0.05), 4)
        0.0312
    """
    check_count(failures, "failures", least=0)
    if failures > check_count(n, "n"):
        raise ValueError(f"failures must lie in 0..n with n >= 1, got {failures} of {n}")
    check_fraction(delta, "delta")
    bound = 1.0 if failures == n else float(betainccinv(failures + 1, n - failures, delta))
    return 1.0 if math.isnan(bound) else bound


def clopper_pearson_p_value(values: ArrayLike, limit: float) -> NDArray[np.float64]:
    """P-value of "the rate is at least `limit`": P(Binomial(n, limit) <= k).

    Args:
        values: array of shape (..., n) of zeros and ones; the last axis is one sample.
        limit: rate under the null hypothesis, in (0, 1).

    Returns:
        Array of shape (...).

    Example:
        >>> float(clopper_pearson_p_value([0.0] * 149, 0.02).round(4))
        0.0493
    """
    from scipy.stats import binom  # half a second to import

    x = np.asarray(values, dtype=np.float64)
    return np.asarray(binom.cdf(np.rint(x.sum(axis=-1)), x.shape[-1], limit))
