"""Mutual information of continuous rows and labels, from nearest neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import psi

from estimators._arrays import Rows, duplicates_reason
from estimators.estimate import Estimate
from estimators.information._draws import Indices, draws, halves
from estimators.information._neighbours import counts_within, nearest, standardised
from estimators.information._null import p_value
from estimators.information._request import Request
from estimators.information.ksg import drift_reason, too_wide, variance_of_mean, widened

Codes = NDArray[np.int64]
#: Largest share of rows without a second row of their label.
_MOST_ALONE = 0.01


def mixed_ksg(x: Rows, labels: Codes, ask: Request, *, k: int = 5) -> Estimate:
    """Mutual information of continuous x and discrete y, from neighbours within a class.

    `I = psi(n) + psi(k) - mean[psi(n_y) + psi(m)]`: n_y rows have the row's label, and m rows of
    any label (including the row) lie nearer than its k-th neighbour of that label. In a class of
    k or fewer rows all others are neighbours; labels that occur once are omitted. Where more than
    k rows of the label lie within the radius, as at repeated rows, the rows that are at most as
    far are counted, of the label and of any.

    At borders of classes the value is biased down, by `n^(-1/d)` in d columns; smooth densities
    give `n^(-2/d)`. From the change I - I_half between half of the rows and all, the interval
    extends over both rates. It lies between 0 and the entropy of the labels. With clusters, the
    rows of a cluster are drawn one at a time and the results averaged.

    Args:
        x: (n, p) rows.
        labels: (n,) codes 0, 1, ...
        ask: level, clusters, permutations.
        k: number of neighbours.

    Raises:
        ValueError: k below 1, or no label occurs twice.

    Source:
        Ross 2014, Mutual information between discrete and continuous data sets, PLoS ONE 9. Ties:
        Gao et al. 2017, NIPS 30.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    scaled, rows = standardised(x), draws(ask, len(x))

    def mean_terms(codes: Codes, drawn: list[Indices], k: int) -> NDArray[np.float64]:
        return np.asarray(sum(_terms(scaled[draw], codes[draw], k) for draw in drawn) / len(drawn))

    def mean(codes: Codes, drawn: list[Indices], k: int) -> float:
        terms = mean_terms(codes, drawn, k)
        return float(np.nanmean(terms)) if not np.isnan(terms).all() else float("nan")

    terms = mean_terms(labels, rows, k)
    value, wide = mean(labels, rows, k), mean(labels, rows, 3 * k)
    if np.isnan(value):
        raise ValueError("no label occurs twice: y looks continuous; pass it as (n, 1) floats")
    slope = value - float(np.mean([mean(labels, half, k) for _, half in halves(rows, ask.seed)]))
    slope = value if np.isnan(slope) else slope
    variance = variance_of_mean(terms[~np.isnan(terms)])
    reach = ask.z * (widened(variance, x.shape[1] + 1) + slope**2) ** 0.5
    rates = [1.0 / (2.0 ** (rate / x.shape[1]) - 1.0) for rate in (1.0, 2.0)]
    ends = [value, *(value + rate * slope for rate in rates)]
    alone = float(np.isnan(terms).mean())

    def shuffled(order: NDArray[np.int64]) -> float:
        return mean(labels[order], rows, k)

    return ask.information(
        value,
        (min(ends) - reach, max(ends) + reach),
        most=most_of_labels(labels, ask),
        n=len(x),
        d=x.shape[1] + 1,
        method="mixed-ksg",
        doubts=[
            *too_wide(x.shape[1]),
            duplicates_reason(x[rows[0]], "x"),
            *drift_reason(value, wide, f"k = {k} and {3 * k}"),
            f"{alone:.0%} of the rows have a label of their own" if alone > _MOST_ALONE else "",
        ],
        diagnostics={
            "k": k,
            "classes": int(labels.max()) + 1,
            **p_value(value, shuffled, ask, len(x)),
        },
    )


def most_of_labels(labels: Codes, ask: Request) -> float:
    """Upper end of the interval of the entropy of the labels, at most the log of their number."""
    shares = np.bincount(labels) / len(labels)
    surprise = -np.log(shares[labels])
    classes = int((shares > 0).sum())
    # Miller and Madow's correction of the plug-in entropy.
    bias = (classes - 1) / (2.0 * ask.cluster_count(len(labels)))
    top = float(surprise.mean()) + bias + ask.z * ask.variance_of_mean(surprise) ** 0.5
    return float(min(top, np.log(classes)))


def _terms(x: Rows, labels: Codes, k: int) -> NDArray[np.float64]:
    """(n,) local terms; NaN for rows whose label occurs once."""
    sizes = np.bincount(labels)
    used = np.flatnonzero(sizes[labels] > 1)
    out = np.full(len(x), np.nan)
    if not used.size:
        return out
    x, labels = x[used], labels[used]
    radius, taken, within = np.empty(len(x)), np.empty(len(x), int), np.empty(len(x), int)
    for label in np.flatnonzero(sizes > 1):
        rows = np.flatnonzero(labels == label)
        taken[rows] = min(k, len(rows) - 1)
        radius[rows] = nearest(x[rows], (int(taken[rows[0]]),))[:, 0]
        within[rows] = counts_within(x[rows], radius[rows, None], strict=False)[:, 0]
    strict = counts_within(x, radius[:, None], strict=True)[:, 0] + 1
    terms = psi(taken) - psi(strict)
    tied = within > taken
    if tied.any():
        at_most = counts_within(x, radius[:, None], strict=False)[:, 0] + 1
        terms = np.where(tied, psi(within + 1) - psi(at_most), terms)
    out[used] = terms + psi(len(used)) - psi(sizes[labels])
    return out
