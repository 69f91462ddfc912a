"""Differential entropy: Gaussian and nearest-neighbour estimators."""

from __future__ import annotations

import numpy as np
from scipy.special import polygamma, psi

from estimators._arrays import Rows, duplicates_reason
from estimators.estimate import Estimate
from estimators.information._canonical import whiten
from estimators.information._neighbours import nearest
from estimators.information._request import Request
from estimators.information.ksg import K, drift_reason, neighbours, too_wide, widened


def gaussian_entropy(x: Rows, ask: Request) -> Estimate:
    """Unbiased entropy of a Gaussian vector.

    `H = 1/2 [ln det W - d ln 2 - sum_{i<d} psi((v - i)/2)] + d/2 ln(2 pi e)` with W the
    scatter matrix of n rows and v = n - 1; variance `1/4 sum_{i<d} psi1((v - i)/2)`.

    Raises:
        ValueError: n - 1 < d, or columns that are linear combinations of others.

    Source:
        Misra, Singh and Demchuk 2005, Estimation of the entropy of a multivariate normal
        distribution, J. Multivariate Anal. 92.
    """
    n, d = x.shape
    if n - 1 < d:
        raise ValueError(f"{n} rows are too few for the Gaussian entropy of {d} columns")
    white = whiten(x, "x")
    centred = x - x.mean(axis=0)
    log_det = 2.0 * float(np.linalg.slogdet(white.T @ centred).logabsdet)
    worth = n / ask.effect(centred)
    v = worth - 1.0
    if v < d:
        raise ValueError(f"{n} rows in clusters are worth {worth:.0f}, too few for {d} columns")
    halves = (v - np.arange(d)) / 2
    # Dependent rows: rescale the scatter to v degrees of freedom.
    scaled = log_det + d * float(np.log(v / (n - 1.0)))
    value = 0.5 * (scaled - d * np.log(2.0) - float(psi(halves).sum()))
    value += 0.5 * d * float(np.log(2.0 * np.pi * np.e))
    norms = n * (white**2).sum(axis=1)
    ratio = float((norms**2).mean()) / (d * (d + 2))
    doubts = []
    if abs(ratio - 1) > 0.1 + 4 * (8 / (d * (d + 2) * worth)) ** 0.5:
        doubts.append(f"x is not Gaussian: its kurtosis is {ratio:.2f} times the Gaussian one")
    return ask.estimate(
        float(value),
        0.25 * float(polygamma(1, halves).sum()),
        n=n,
        d=d,
        method="gaussian (unbiased)",
        doubts=doubts,
        diagnostics={"design_effect": n / worth},
    )


def knn_entropy(x: Rows, ask: Request, *, k: int | tuple[int, ...] = K) -> Estimate:
    """Entropy from k nearest neighbours in the Chebyshev distance; mean over several k.

    `H = psi(n) - psi(k) + d mean[ln(2 eps_k)]`, on standardised columns, plus the logs of
    their scales.

    Raises:
        ValueError: k below 1 or not below n, or rows that coincide with their k-th neighbour.

    Source:
        Kozachenko and Leonenko 1987; Kraskov et al. 2004, eq. (20).
    """
    n, d = x.shape
    ks = neighbours(k, n)
    scale = x.std(axis=0)
    radii = nearest((x - x.mean(axis=0)) / scale, ks)
    if (radii == 0).any():
        row = int(np.flatnonzero((radii == 0).any(axis=1))[0])
        raise ValueError(
            f"row {row} of x coincides with its {ks[0]} nearest rows: the entropy of repeated "
            "values is not finite; use estimators.discrete for categories"
        )
    each = psi(n) - psi(np.array(ks)) + d * np.log(2.0 * radii)
    shift = float(np.log(scale).sum())
    terms = each.mean(axis=1)
    by_k = each.mean(axis=0)
    value = float(terms.mean()) + shift
    return ask.estimate(
        value,
        widened(ask.variance_of_mean(terms)),
        n=n,
        d=d,
        method="knn",
        doubts=[
            *too_wide(d),
            duplicates_reason(x, "x"),
            *drift_reason(float(by_k[0]), float(by_k[-1]), f"k = {ks[0]} and {ks[-1]}"),
        ],
        diagnostics={"k": ", ".join(map(str, ks))},
    )
