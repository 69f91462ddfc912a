"""Spearman's rank correlation: agreement of two orders."""

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
