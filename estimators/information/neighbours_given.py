"""Conditional mutual information from nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.special import psi

from estimators._arrays import Rows, duplicates_reason
from estimators.estimate import Estimate
from estimators.information._draws import draws, halves
from estimators.information._near import unresolved_reason
from estimators.information._neighbours import counts_within, nearest, standardised
from estimators.information._request import Request
from estimators.information.ksg import (
    K,
    drift_reason,
    has_ties,
    mean_terms,
    neighbours,
    too_wide,
    variance_of_mean,
    widened,
)


def knn_conditional(
    x: Rows, y: Rows, z: Rows, ask: Request, *, k: int | tuple[int, ...] = K
) -> Estimate:
    """I(X;Y|Z) from k nearest neighbours in the joint space; mean over several k.

    `I = psi(k) - mean[psi(n_xz + 1) + psi(n_yz + 1) - psi(n_z + 1)]`, counting rows strictly
    nearer than the k-th neighbour in Chebyshev distance on standardised columns. Where more than
    k rows lie within the radius, as at repeated rows, rows at most as far are counted.

    The bias falls with n like a power between `n^(-1/d)` and `n^(-2/d)`, d the number of
    columns; from the change between half of the rows and all, the interval extends over both.
    With clusters, the rows of a cluster are drawn one at a time and the results averaged.

    Raises:
        ValueError: k below 1 or not below n / 2.

    Source:
        Frenzel and Pompe 2007, Partial mutual information for coupling analysis of multivariate
        time series, Phys. Rev. Lett. 99, 204101. Ties: Mesner and Shalizi 2021, Conditional
        mutual information estimation for mixed, discrete and continuous data, IEEE Trans. Inf.
        Theory 67.
    """
    rows = draws(ask, len(x))
    ks = neighbours(k, len(rows[0]) // 2)
    a, b, c = (standardised(side) for side in (x, y, z))
    each = mean_terms(lambda draw: _local(a[draw], b[draw], c[draw], ks), rows)
    by_k, terms = each.mean(axis=0), each.mean(axis=1)
    value = float(terms.mean())
    slope = value - float(
        np.mean(
            [
                mean_terms(lambda draw: _local(a[draw], b[draw], c[draw], ks), half).mean()
                for _, half in halves(rows, ask.seed)
            ]
        )
    )
    columns = x.shape[1] + y.shape[1] + z.shape[1]
    ends = [value, *(value + slope / (2.0 ** (rate / columns) - 1.0) for rate in (1.0, 2.0))]
    reach = ask.z * (widened(variance_of_mean(terms), columns) + slope**2) ** 0.5
    return ask.information(
        value,
        (min(ends) - reach, max(ends) + reach),
        n=len(x),
        d=columns,
        method="knn",
        doubts=[
            *too_wide(columns),
            *(
                duplicates_reason(side[rows[0]], name)
                for side, name in ((x, "x"), (y, "y"), (z, "z"))
            ),
            unresolved_reason(a[rows[0]], b[rows[0]], value, c[rows[0]]),
            *drift_reason(float(by_k[0]), float(by_k[-1]), f"k = {ks[0]} and {ks[-1]}"),
        ],
        diagnostics={"k": ", ".join(map(str, ks))},
    )


def _local(a: Rows, b: Rows, c: Rows, ks: tuple[int, ...]) -> Rows:
    """(n, len(ks)) local terms."""
    joint = np.concatenate([a, b, c], axis=1)
    sides = [np.concatenate(pair, axis=1) for pair in ((a, c), (b, c), (c,))]
    radii = nearest(joint, ks)
    near = [psi(counts_within(side, radii, strict=True) + 1) for side in sides]
    terms = np.asarray(psi(np.array(ks)) - near[0] - near[1] + near[2])
    if has_ties(a) and has_ties(b):
        within = counts_within(joint, radii, strict=False) + 1
        most = [psi(counts_within(side, radii, strict=False) + 1) for side in sides]
        of_ties = psi(within) - most[0] - most[1] + most[2]
        terms = np.where(within > np.array(ks) + 1, of_ties, terms)
    return terms
