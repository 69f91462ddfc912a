"""Test of exchangeable sources, at which the unique atoms have a kink."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc


def exchangeability_p_value(counts: NDArray[np.int64]) -> float:
    """Stuart-Maxwell test of p(x1, y) = p(x2, y), jointly for all symbols of the target.

    For each y the table n[x1, x2] has marginals n_i. and n_.i; with d_i = n_i. - n_.i and
    V = diag(n_i. + n_.i) - n - n', the statistic sum_y d' V^+ d is chi-squared with
    sum_y rank V degrees of freedom where the marginals are equal.

    Args:
        counts: table n[x1, x2, y]; the sources have the same symbols in the same order.

    Returns:
        The p-value; 0 for alphabets of unequal size, 1 if the sources are always equal.

    Source:
        Stuart 1955; Maxwell 1970.
    """
    if counts.shape[0] != counts.shape[1]:
        return 0.0
    n = np.moveaxis(counts, 2, 0).astype(np.float64)
    rows, columns = n.sum(axis=2), n.sum(axis=1)
    covariance = -n - n.transpose(0, 2, 1)
    k = n.shape[1]
    covariance[:, range(k), range(k)] += rows + columns
    values, vectors = np.linalg.eigh(covariance)
    positive = values > 1e-9 * np.maximum(values[:, -1:], 1.0)
    scores = np.einsum("yij,yi->yj", vectors, rows - columns) ** 2
    statistic = float((scores[positive] / values[positive]).sum())
    return float(chdtrc(positive.sum(), statistic)) if positive.any() else 1.0
