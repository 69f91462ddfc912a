"""`method="auto"`: which estimator these rows can bear, and why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators._reliability import verdict
from estimators.estimate import Estimate
from estimators.information._request import Request
from estimators.information.conditional import copula_conditional, knn_conditional
from estimators.information.copula import copula, normal_scores
from estimators.information.entropies import gaussian_entropy, knn_entropy
from estimators.information.ksg import MOST_COLUMNS, ksg1, mixed_ksg
from estimators.information.probe import probe

#: Rows per principal component kept on each side, where there are too few rows for all.
ROWS_PER_COMPONENT = 20


def auto(x: Rows, y: Rows, ask: Request) -> Estimate:
    """The method that the dimension and the rows allow; `chosen` in the diagnostics says why.

    - Too few rows for the columns (`n - 1 < d_x + d_y`): the information of all columns is not
      identified. Principal components, one for 20 rows on each side, then the copula; never
      reliable, since what the other components carry is unknown.
    - Up to 4 columns: nearest neighbours on normal scores, unless the Gaussian copula agrees with
      them and passes its checks, which is then sharper.
    - Otherwise the Gaussian copula; its checks decide whether it is reliable.
    """
    n, p, q = len(x), x.shape[1], y.shape[1]
    if n - 1 < p + q:
        return _reduced(x, y, ask)
    if p + q > MOST_COLUMNS:
        found = copula(x, y, ask)
        return _because(found, f"{p} + {q} columns are too many for nearest neighbours")
    smooth = copula(x, y, ask)
    local = ksg1(normal_scores(x), normal_scores(y), ask, extrapolate=True)
    return _smooth_or_local(smooth, local, "the copula")


def _smooth_or_local(smooth: Estimate, local: Estimate, model: str) -> Estimate:
    """The Gaussian estimate if its checks pass and neighbours do not contradict it."""
    if smooth.diagnostics["failed_checks"]:
        return _because(local, f"{model} does not look Gaussian")
    apart = abs(smooth.value - local.value)
    if apart > _half(smooth) + _half(local):
        return _because(local, f"nearest neighbours and {model} differ by {apart:.2g} nats")
    return _because(smooth, f"{model} looks Gaussian, and nearest neighbours agree")


def _half(found: Estimate) -> float:
    return (found.interval[1] - found.interval[0]) / 2.0


def _reduced(x: Rows, y: Rows, ask: Request) -> Estimate:
    n, p, q = len(x), x.shape[1], y.shape[1]
    k = max(1, ask.cluster_count(n) // ROWS_PER_COMPONENT)
    kept = min(k, p), min(k, q)
    found = copula(components(x, kept[0]), components(y, kept[1]), ask)
    reason = (
        f"{n} rows do not identify the information of {p} + {q} columns: this is that of the "
        f"{kept[0]} + {kept[1]} first principal components"
    )
    named = replace(
        found,
        d=p + q,
        reliable=False,
        reason=reason if found.reliable else f"{reason}; {found.reason}",
    )
    return _because(named, "fewer rows than columns: principal components first")


def components(rows: Rows, count: int) -> Rows:
    """(n, count) leading principal components of the centred rows."""
    centred = rows - rows.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    rank = int((singular > 1e-10 * singular[0]).sum())
    kept = min(count, rank)
    return np.asarray(left[:, :kept] * singular[:kept])


def _because(found: Estimate, why: str) -> Estimate:
    return replace(
        found,
        method=f"auto: {found.method}",
        diagnostics={**found.diagnostics, "chosen": why},
    )


def auto_labels(x: Rows, labels: NDArray[np.int64], ask: Request) -> Estimate:
    """For labels y: neighbours within a class in few columns, else a cross-fitted linear probe.

    A probe bounds the information from below and the entropy of y from above, so the interval
    goes from the one to the other: reliable only where the probe leaves next to nothing.
    """
    if x.shape[1] < MOST_COLUMNS:
        found = mixed_ksg(x, labels, ask)
        return _because(found, f"{x.shape[1]} columns are few enough for nearest neighbours")
    found = probe(x, labels, ask, probes="linear")
    shares = np.bincount(labels) / len(labels)
    surprise = -np.log(shares[labels])
    top = float(surprise.mean()) + ask.z * ask.variance_of_mean(surprise) ** 0.5
    interval = (found.interval[0], max(found.interval[1], top))
    reliable, reason = verdict(found.value, interval)
    if not reliable:
        reason = f"a probe only bounds the information from below: {reason}"
    bounded = replace(found, interval=interval, reliable=reliable, reason=reason)
    return _because(bounded, f"{x.shape[1]} columns are too many for nearest neighbours")


def auto_entropy(x: Rows, ask: Request) -> Estimate:
    """Nearest neighbours in up to 4 columns unless x looks Gaussian; else the Gaussian entropy."""
    smooth = gaussian_entropy(x, ask)
    if x.shape[1] > MOST_COLUMNS:
        why = f"{x.shape[1]} columns are too many for nearest neighbours"
        return _because(smooth, why)
    return _smooth_or_local(smooth, knn_entropy(x, ask), "x")


def auto_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """As `auto`: the Gaussian copula, or nearest neighbours in up to 4 columns where it fails."""
    smooth = copula_conditional(x, y, z, ask)
    columns = x.shape[1] + y.shape[1] + z.shape[1]
    if columns > MOST_COLUMNS:
        return _because(smooth, f"{columns} columns are too many for nearest neighbours")
    local = knn_conditional(normal_scores(x), normal_scores(y), normal_scores(z), ask)
    return _smooth_or_local(smooth, local, "the copula")
