"""Conditional mutual information: partial correlations, and nearest neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import psi

from estimators._arrays import Rows, duplicates_reason
from estimators.estimate import Estimate
from estimators.information._canonical import canonical
from estimators.information._neighbours import counts_within, nearest, standardised
from estimators.information._request import Request
from estimators.information.copula import normal_scores
from estimators.information.ksg import K, drift_reason, neighbours, too_wide, widened
from estimators.information.spiked import of_pair


def gaussian_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """I(X;Y|Z) of jointly Gaussian variables: `gaussian_pair` of the residuals on z.

    The canonical correlations of the residuals are the partial ones; regression on z costs d_z
    degrees of freedom.

    Raises:
        ValueError: n - 1 < d_x + d_y + d_z.
    """
    left_x, left_y = _residuals(z, x, y)
    pair = canonical(left_x, left_y, ask.codes, lost=z.shape[1])
    return of_pair(pair, ask, method="gaussian (unbiased and spiked)", front={})


def copula_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """`gaussian_conditional` of the normal scores of every column."""
    estimate = gaussian_conditional(normal_scores(x), normal_scores(y), normal_scores(z), ask)
    return replace(estimate, method="copula")


def knn_conditional(
    x: Rows, y: Rows, z: Rows, ask: Request, *, k: int | tuple[int, ...] = K
) -> Estimate:
    """I(X;Y|Z) from k nearest neighbours in the joint space; mean over several k.

    `I = psi(k) - mean[psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)]`, counting rows strictly
    nearer than the k-th neighbour in Chebyshev distance on standardised columns.

    Raises:
        ValueError: k below 1 or not below n.

    Source:
        Frenzel and Pompe 2007, Partial mutual information for coupling analysis of multivariate
        time series, Phys. Rev. Lett. 99, 204101.
    """
    ks = neighbours(k, len(x))
    a, b, c = (standardised(rows) for rows in (x, y, z))
    each = _local(a, b, c, ks)
    by_k = each.mean(axis=0)
    columns = x.shape[1] + y.shape[1] + z.shape[1]
    terms = each.mean(axis=1)
    value = float(terms.mean())
    return ask.estimate(
        value,
        widened(ask.variance_of_mean(terms)),
        n=len(x),
        d=columns,
        method="knn",
        doubts=[
            *too_wide(columns),
            *(duplicates_reason(rows, name) for rows, name in ((x, "x"), (y, "y"), (z, "z"))),
            *drift_reason(float(by_k[0]), float(by_k[-1]), f"k = {ks[0]} and {ks[-1]}"),
        ],
        diagnostics={"k": ", ".join(map(str, ks))},
    )


def _residuals(z: Rows, *sides: Rows) -> list[Rows]:
    """Residuals of every side after least-squares regression on z and a constant."""
    design = np.c_[np.ones(len(z)), z]
    basis = np.linalg.qr(design)[0]
    left = [side - basis @ (basis.T @ side) for side in sides]
    for side, rest in zip(sides, left, strict=True):
        if (rest.std(axis=0) < 1e-7 * side.std(axis=0)).any():
            raise ValueError("a column of x or y is a linear function of z; drop it")
    return left


def _local(a: Rows, b: Rows, c: Rows, ks: tuple[int, ...]) -> NDArray[np.float64]:
    radii = nearest(np.concatenate([a, b, c], axis=1), ks)
    counts = [
        counts_within(np.concatenate(sides, axis=1), radii, strict=True)
        for sides in ((a, c), (b, c), (c,))
    ]
    of_xz, of_yz, of_z = (psi(count + 1) for count in counts)
    return np.asarray(psi(np.array(ks)) - of_xz - of_yz + of_z)
