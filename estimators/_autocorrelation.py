"""A hint where neighbouring rows of a file resemble each other: they may not be independent."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

#: Least mean correlation of neighbouring rows, and least distance from chance, of a hint.
_LEAST, _ERRORS = 0.2, 6.0


def neighbour_correlation(rows: NDArray[np.float64]) -> tuple[float, float]:
    """Mean correlation of row i with row i + 1, and its standard error for independent rows.

    `mean_i <z_i, z_(i+1)> / d` on standardised columns; its variance for independent rows is
    `tr(R^2) / (d^2 n)`, with R the correlations of the columns.

    Args:
        rows: (n, d) rows in file order, n >= 3.

    Example:
        >>> walk = np.random.default_rng(0).normal(size=(500, 3)).cumsum(axis=0)
        >>> neighbour_correlation(walk)[0] > 0.9
        True
    """
    z = _standardised(rows)
    return _neighbours(z), _chance(z)


def _standardised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean 0 and variance 1, without constant ones."""
    centred = rows - rows.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    return np.asarray(centred[:, spread > 0.0] / spread[spread > 0.0])


def _neighbours(z: NDArray[np.float64]) -> float:
    """Mean correlation of neighbouring standardised rows."""
    n, d = z.shape
    if n < 3 or not d:
        return 0.0
    return float(np.vdot(z[1:], z[:-1]) / (d * (n - 1)))


def _chance(z: NDArray[np.float64]) -> float:
    """Standard error of `_neighbours` for independent rows."""
    n, d = z.shape
    if n < 3 or not d:
        return np.inf
    product = z.T @ z if d <= n else z @ z.T  # equal sums of squares
    return float(np.sqrt((product**2).sum()) / (n * d * np.sqrt(n)))


def order_note(sides: Iterable[NDArray[np.float64]]) -> dict[str, str]:
    """The diagnostic `note` if neighbouring rows of a side resemble each other, else nothing.

    It is a hint: the interval takes rows as independent unless clusters are passed.
    """
    for side in sides:
        if len(side) < 50:
            continue
        z = _standardised(side)
        correlation = _neighbours(z)
        if correlation > _LEAST and correlation > _ERRORS * _chance(z):
            return {
                "note": f"neighbouring rows correlate by {correlation:.2f}: if rows of one image, "
                "document or sequence follow each other, pass clusters="
            }
    return {}
