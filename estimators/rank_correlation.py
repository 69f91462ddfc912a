"""Spearman's rank correlation: agreement of two orders, also given a third."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
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
    rows = (np.asarray(side, dtype=np.float64)[None, :] for side in (x, y, given))
    value = float(partial_spearman_rows(*rows)[0])
    return math.nan if math.isnan(value) else value  # one object, equal to itself


def partial_spearman_rows(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> NDArray[np.float64]:
    """`partial_spearman` of every row, as of many bootstrap samples at once.

    Args:
        x: array of shape (rows, n).
        y: array of shape (rows, n).
        given: array of shape (rows, n).

    Returns:
        Array of shape (rows,); NaN where `partial_spearman` is.

    Example:
        >>> partial_spearman_rows([[1, 3, 2, 4]], [[1, 3, 2, 4]], [[1, 2, 3, 4]]).round(9)
        array([1.])
    """
    ranks = [rankdata(side, axis=1) for side in (x, y, given)]
    centred = [side - side.mean(axis=1, keepdims=True) for side in ranks]
    a, b, c = centred

    def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        size[size == 0] = np.nan
        return np.asarray((one * other).sum(axis=1) / size)

    xy, xz, yz = correlation(a, b), correlation(a, c), correlation(b, c)
    left = np.minimum(1.0 - xz**2, 1.0 - yz**2)
    defined = (left > 1e-13) & (a.shape[1] >= 4)  # False of NaN; rounding of r = 1 leaves less
    product = np.where(defined, (1.0 - xz**2) * (1.0 - yz**2), np.nan)
    return np.asarray(np.clip((xy - xz * yz) / np.sqrt(product), -1.0, 1.0))
