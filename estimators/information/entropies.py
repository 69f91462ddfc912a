"""Differential entropy: Gaussian and nearest-neighbour estimators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import polygamma, psi

from estimators._arrays import Rows, duplicates_reason
from estimators._content import canonical_order
from estimators.estimate import Estimate
from estimators.information._canonical import whiten
from estimators.information._dependence import ALARM, waves_p_value
from estimators.information._draws import draws, ties_reason
from estimators.information._neighbours import nearest
from estimators.information._normality import normality_reasons
from estimators.information._request import Request
from estimators.information.ksg import K, neighbours, too_wide, widened

#: Fewest effective rows per column for the tests of normality.
_ROWS_PER_COLUMN = 20
#: Largest change between few and many neighbours, in nats.
_MOST_DRIFT = 0.15


def gaussian_entropy(x: Rows, ask: Request) -> Estimate:
    """Unbiased entropy of a Gaussian vector.

    `H = 1/2 [ln det W - d ln 2 - sum_{i<d} psi((v - i)/2)] + d/2 ln(2 pi e)` with W the
    scatter matrix of n rows and v = n - 1; variance `1/4 sum_{i<d} psi1((v - i)/2)`. Reliable only
    if few values of a column are equal (rounded rows have no density) and the rows look Gaussian.

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
    draw = draws(ask, n)[0]
    doubts = [ties_reason(x, draw, "x"), *normality_reasons(n**0.5 * white, x, n / worth)]
    # What all other columns leave unexplained of a column is independent of them if Gaussian.
    alone = np.linalg.solve(white.T @ centred, white.T).T
    if waves_p_value(x[draw], alone[draw], apart=True) < ALARM:
        doubts.append("x is not Gaussian: a column depends on waves of another")
    if abs(ratio - 1) > 0.1 + 4 * (8 / (d * (d + 2) * worth)) ** 0.5:
        doubts.append(f"x is not Gaussian: its kurtosis is {ratio:.2f} times the Gaussian one")
    if worth < _ROWS_PER_COLUMN * d:
        doubts.append(
            f"{worth:.0f} rows are too few to test whether {d} columns are Gaussian; "
            f"{_ROWS_PER_COLUMN * d} are needed"
        )
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
    their scales. Where a density ends or bends within eps_k, the value is biased by about
    `c (k / n)^(1/d)`, which the values at the smallest and the largest k estimate; the interval
    covers the value with and without that bias. One row of each cluster is used. Not reliable where
    many values of a column are equal.

    Raises:
        ValueError: k below 1 or not below n, or rows that coincide with their k-th neighbour.

    Source:
        Kozachenko and Leonenko 1987; Kraskov et al. 2004, eq. (20).
    """
    rows = x if ask.codes is None else _one_per_cluster(x, ask.codes)
    n, d = rows.shape
    ks = neighbours(k, n)
    scale = rows.std(axis=0)
    if not scale.all():
        raise ValueError("a column of x is constant over the clusters; drop it")
    radii = nearest((rows - rows.mean(axis=0)) / scale, ks)
    if (radii == 0).any():
        row = int(np.flatnonzero((radii == 0).any(axis=1))[0])
        raise ValueError(
            f"row {row} of x coincides with its {ks[0]} nearest rows: the entropy of repeated "
            "values is not finite; use estimators.discrete for categories"
        )
    each = psi(n) - psi(np.array(ks)) + d * np.log(2.0 * radii)
    shift = float(np.log(scale).sum())
    terms = each.mean(axis=1)
    by_k = each.mean(axis=0) + shift
    value = float(by_k.mean())
    power = np.array(ks, dtype=np.float64) ** (1.0 / d)
    drift = float(by_k[-1] - by_k[0])
    rest = 0.0 if len(ks) == 1 else drift / float(power[-1] - power[0]) * float(power.mean())
    reach = ask.z * widened(float(terms.var(ddof=1)) / n, d) ** 0.5
    return ask.estimate(
        value,
        (min(value, value - rest) - reach, max(value, value - rest) + reach),
        n=len(x),
        d=d,
        method="knn",
        doubts=[
            *too_wide(d),
            duplicates_reason(rows, "x"),
            ties_reason(rows, np.arange(n), "x"),
            _clumped(each, ks),
        ],
        diagnostics={"k": ", ".join(map(str, ks)), "extrapolated": value - rest},
    )


def _one_per_cluster(x: Rows, codes: NDArray[np.int64]) -> Rows:
    """One row of each cluster, chosen by content: the same in any file order."""
    order = canonical_order(codes, x)
    return x[order[np.unique(codes[order], return_index=True)[1]]]


def _clumped(each: Rows, ks: tuple[int, ...]) -> str:
    """Message where values at several k differ as those of no density do; may be empty."""
    gap = float((each[:, -1] - each[:, 0]).mean())
    if len(ks) == 1 or abs(gap) <= _MOST_DRIFT:
        return ""
    return (
        f"the value changes by {gap:.2g} nats between k = {ks[0]} and {ks[-1]}: x has near copies, "
        "lies on fewer dimensions than columns, or needs more rows"
    )
