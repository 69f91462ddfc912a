"""Spearman's rank correlation: agreement of two orders, also given a third."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's correlation of the ranks; ties get their mean rank. NaN if a side is constant.

    Args:
        x: array of shape (n,).
        y: array of shape (n,).

    Source:
        Spearman 1904, American Journal of Psychology 15.

    Example:
        >>> round(spearman([1.0, 2.0, 3.0], [0.0, 0.2, 0.1]), 9)
        0.5
    """
    a, b = rankdata(x), rankdata(y)
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Rank correlation of x and y that their ranks in `given` do not explain.

    `(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))` with Spearman's r and z = `given`. NaN if
    a side is constant, or orders the n entries exactly as `given` does or in reverse, and of fewer
    than four entries, where it could be nothing but 1 or -1.

    Args:
        x: array of shape (n,).
        y: array of shape (n,).
        given: array of shape (n,).

    Source:
        Kendall and Gibbons 1990, Rank Correlation Methods, 5th ed., chapter 8.

    Example:
        >>> round(partial_spearman([1, 3, 2, 4], [1, 3, 2, 4], [1, 2, 3, 4]), 9)
        1.0
        >>> partial_spearman([1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 4])
        nan
    """
    xy, xz, yz = spearman(x, y), spearman(x, given), spearman(y, given)
    left = 1.0 - xz**2, 1.0 - yz**2
    if np.size(x) < 4 or not min(left) > 1e-13:  # also NaN; rounding of r = 1 leaves less
        return math.nan
    return float(np.clip((xy - xz * yz) / math.sqrt(left[0] * left[1]), -1.0, 1.0))
