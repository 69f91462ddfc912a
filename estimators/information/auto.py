"""`method="auto"`: choice of an estimator by dimension and sample size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import svd
from estimators.information._draws import draws
from estimators.information._near import unchanged_reason
from estimators.information._request import Request
from estimators.information.conditional import copula_conditional, gaussian_conditional
from estimators.information.copula import copula, look_gaussian, normal_scores
from estimators.information.entropies import gaussian_entropy, knn_entropy
from estimators.information.ksg import MOST_COLUMNS, K, ksg1
from estimators.information.mixed import mixed_ksg
from estimators.information.neighbours_given import knn_conditional
from estimators.information.probe import probe
from estimators.information.spiked import gaussian_pair

#: Rows per principal component of each side, where there are too few rows for all columns.
ROWS_PER_COMPONENT = 20
#: Noise of fewer ranks than this is nearer than nearest neighbours resolve.
RESOLVED = 50.0
#: Fewest independent rows for nearest neighbours: the numbers of neighbours lie below half of them.
FEWEST_ROWS = 2 * (max(K) + 1)


def auto(x: Rows, y: Rows, ask: Request) -> Estimate:
    """Choose a method by dimension and sample size; diagnostics["chosen"] gives the reason.

    - Too few rows for the columns (`n - 1 < d_x + d_y`): the information is not
      identified. One principal component per 20 rows on each side, then the copula; never
      reliable, since the information of the other components is unknown.
    - Up to 4 columns: nearest neighbours on normal scores, unless the Gaussian estimate, with
      less variance, agrees with them and passes its checks.
    - Otherwise the Gaussian estimate; its checks decide whether it is reliable.

    The Gaussian estimate is that of the rows as they are if every column passes a test of a normal
    law, since it also resolves near copies; otherwise that of the copula. No estimate is reliable
    if x and y are nearly equal in a small share of the rows (`unchanged_reason`).
    """
    return _if_changed(_by_columns(x, y, ask), x, y, ask)


def _by_columns(x: Rows, y: Rows, ask: Request) -> Estimate:
    n, p, q = len(x), x.shape[1], y.shape[1]
    if n - 1 < p + q:
        return _reduced(x, y, ask)
    draw = draws(ask, n)[0]
    plain = look_gaussian(x, draw) and look_gaussian(y, draw)
    smooth = gaussian_pair(x, y, ask) if plain else copula(x, y, ask)
    if p + q > MOST_COLUMNS:
        return _because(smooth, f"{p} + {q} columns are too many for nearest neighbours")
    if len(draw) < FEWEST_ROWS:
        return _few(smooth, len(draw))
    local = ksg1(normal_scores(x), normal_scores(y), ask, extrapolate=True)
    return _smooth_or_local(smooth, local, "the dependence")


def _smooth_or_local(smooth: Estimate, local: Estimate, model: str) -> Estimate:
    """The Gaussian estimate if its checks pass and neighbours that can tell do not contradict."""
    if smooth.diagnostics["failed_checks"]:
        return _because(local, f"{model} does not look Gaussian")
    if float(smooth.diagnostics.get("least_gap", 1.0)) < (RESOLVED / local.n) ** 2:
        return _because(smooth, f"{model} looks Gaussian, a copy nearer than neighbours can tell")
    apart = abs(smooth.value - local.value)
    if apart > _half(smooth) + _half(local):
        return _because(local, f"nearest neighbours and the Gaussian differ by {apart:.2g} nats")
    return _because(smooth, f"{model} looks Gaussian, and nearest neighbours agree")


def _few(smooth: Estimate, rows: int) -> Estimate:
    """The Gaussian estimate, not reliable, of too few independent rows for nearest neighbours."""
    why = f"{rows} independent rows are too few for nearest neighbours: {FEWEST_ROWS} are needed"
    reason = f"{why}; {smooth.reason}" if smooth.reason else why
    return _because(replace(smooth, reliable=False, reason=reason), why)


def _if_changed(estimate: Estimate, x: Rows, y: Rows, ask: Request) -> Estimate:
    """The estimate, not reliable if x and y are nearly equal in a small share of the rows."""
    draw = draws(ask, len(x))[0]
    why = unchanged_reason(x[draw], y[draw])
    if not why:
        return estimate
    reason = f"{why}; {estimate.reason}" if estimate.reason else why
    return replace(estimate, reliable=False, reason=reason)


def _half(estimate: Estimate) -> float:
    return (estimate.interval[1] - estimate.interval[0]) / 2.0


def _reduced(x: Rows, y: Rows, ask: Request) -> Estimate:
    n, p, q = len(x), x.shape[1], y.shape[1]
    k = max(1, ask.cluster_count(n) // ROWS_PER_COMPONENT)
    counts = min(k, p), min(k, q)
    estimate = copula(components(x, counts[0]), components(y, counts[1]), ask)
    reason = (
        f"{n} rows do not identify the information of {p} + {q} columns: the value is that of the "
        f"first {counts[0]} + {counts[1]} principal components"
    )
    named = replace(
        estimate,
        d=p + q,
        reliable=False,
        reason=reason if estimate.reliable else f"{reason}; {estimate.reason}",
    )
    return _because(named, "fewer rows than columns: principal components first")


def components(rows: Rows, count: int) -> Rows:
    """(n, count) leading principal components of the centred rows."""
    centred = rows - rows.mean(axis=0)
    left, singular, _ = svd(centred)
    rank = int((singular > 1e-10 * singular[0]).sum())
    used = min(count, rank)
    return np.asarray(left[:, :used] * singular[:used])


def _because(estimate: Estimate, why: str) -> Estimate:
    return replace(
        estimate,
        method=f"auto: {estimate.method}",
        diagnostics={**estimate.diagnostics, "chosen": why},
    )


def auto_labels(x: Rows, labels: NDArray[np.int64], ask: Request) -> Estimate:
    """For labels y: neighbours within a class in few columns, else a cross-fitted linear probe.

    The interval extends from what the probe finds to the entropy of y.
    """
    if x.shape[1] < MOST_COLUMNS:
        neighbours = mixed_ksg(x, labels, ask)
        return _because(neighbours, f"{x.shape[1]} columns are few enough for nearest neighbours")
    bound = probe(x, labels, ask, probes="linear")
    return _because(bound, f"{x.shape[1]} columns are too many for nearest neighbours")


def auto_entropy(x: Rows, ask: Request) -> Estimate:
    """Nearest neighbours in up to 4 columns unless x looks Gaussian; else the Gaussian entropy."""
    smooth = gaussian_entropy(x, ask)
    if x.shape[1] > MOST_COLUMNS:
        why = f"{x.shape[1]} columns are too many for nearest neighbours"
        return _because(smooth, why)
    rows = ask.cluster_count(len(x))
    if rows < FEWEST_ROWS:
        return _few(smooth, rows)
    return _smooth_or_local(smooth, knn_entropy(x, ask), "x")


def auto_conditional(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    """As `auto`: Gaussian, or nearest neighbours in up to 4 columns where its checks fail."""
    return _if_changed(_conditional_by_columns(x, y, z, ask), x, y, ask)


def _conditional_by_columns(x: Rows, y: Rows, z: Rows, ask: Request) -> Estimate:
    draw = draws(ask, len(x))[0]
    plain = all(look_gaussian(side, draw) for side in (x, y, z))
    smooth = (gaussian_conditional if plain else copula_conditional)(x, y, z, ask)
    columns = x.shape[1] + y.shape[1] + z.shape[1]
    if columns > MOST_COLUMNS:
        return _because(smooth, f"{columns} columns are too many for nearest neighbours")
    if len(draw) < FEWEST_ROWS:
        return _few(smooth, len(draw))
    local = knn_conditional(normal_scores(x), normal_scores(y), normal_scores(z), ask)
    return _smooth_or_local(smooth, local, "the dependence")
