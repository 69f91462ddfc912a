"""Redundancy under I_min and MMI, in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators._pmf import entropy_of

Floats = NDArray[np.float64]


def information(pair: Floats) -> float:
    """I(X; Y) of a joint p(x, y), clipped at zero.

    Example:
        >>> round(float(information(np.array([[0.5, 0.0], [0.0, 0.5]])) / np.log(2)), 6)
        1.0
    """
    value = entropy_of(pair.sum(1)) + entropy_of(pair.sum(0)) - entropy_of(pair)
    return max(value, 0.0)


def specific_information(pair: Floats) -> Floats:
    """I(X; Y=y) = sum_x p(x|y) log(p(y|x) / p(y)) for each y of a joint p(x, y).

    Source:
        Williams & Beer 2010, arXiv 1004.2515, equation 2.
    """
    x, y = pair.sum(1, keepdims=True), pair.sum(0, keepdims=True)
    seen = pair > 0.0
    ratio = np.where(seen, pair, 1.0) / np.where(seen, x * y, 1.0)
    return np.asarray((pair / np.where(y > 0.0, y, 1.0) * np.log(ratio)).sum(0))


def imin(*pairs: Floats) -> float:
    """I_min = sum_y p(y) min_i I(X_i; Y=y), for the joints p(x_i, y) of any number of sources.

    Source:
        Williams & Beer 2010, arXiv 1004.2515, equation 3.
    """
    least = np.min([specific_information(pair) for pair in pairs], axis=0)
    return float(pairs[0].sum(0) @ least)


def redundancy_imin(p: Floats) -> float:
    """I_min of the two sources of p[x1, x2, y]."""
    return imin(p.sum(1), p.sum(0))


def redundancy_mmi(p: Floats) -> float:
    """min(I(X1; Y), I(X2; Y)).

    Source:
        Barrett 2015, arXiv 1411.2832, section III.
    """
    return min(information(p.sum(1)), information(p.sum(0)))
