"""Usable information, estimated by cross-fitted probes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows, as_labels, as_rows, duplicates_reason, paired, same_device
from estimators._autocorrelation import order_note
from estimators._content import canonical_order
from estimators._student import carriers_reason
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate
from estimators.information._null import p_value
from estimators.information._request import Request, check_unit, in_unit
from estimators.usable.crossfit import (
    SMALLEST_RESIDUAL,
    carriers,
    directions,
    held_out_losses,
    probes_of,
    uncorrelated,
)
from estimators.usable.linear import INNER_SHARE

Terms = NDArray[np.float64]
#: Fewest clusters for a normal interval of held-out losses.
_FEWEST_CLUSTERS = 50
#: Clusters per independent column of x up to which a probe is too far from the best one.
_CLUSTERS_PER_COLUMN = 10
#: Share of the extrapolated bias that counts as a standard error.
_BIAS_SHARE = 0.5
#: Fewest rows per continuous target for an unbiased residual covariance.
_ROWS_PER_TARGET = 20


def usable_information(
    x: Any,
    y: Any,
    *,
    given: Any = None,
    method: str = "auto",
    folds: int = 5,
    level: float = 0.95,
    clusters: Labels | None = None,
    permutations: int = 0,
    seed: int = 0,
    unit: str = "nats",
) -> Estimate:
    """Predictive V-information: what a family of probes can predict of y from x, on held-out rows.

    `I_V(Y; X | T) = H_V(Y | T) - H_V(Y | X, T)` with `H_V(Y | X) = -E log q(y | x)` of the best
    probe q in the family; held-out losses are from probes trained on other clusters. Without
    `given`, `H_V(Y)` is the loss of the best constant. In the limit it is at most the mutual
    information. Processing x can increase it: the family may be able to use f(x) but not x.

    Args:
        x: (n, d_x) array or tensor.
        y: (n,) labels, or (n, d_y) numbers (then probes are Gaussian with constant covariance).
        given: (n, d_t) array or tensor T that the probe has with and without x, or None.
        method: "linear", "mlp" (needs torch), or "auto": the better of both on the
            training clusters of each fold if n is at least 1,000, otherwise "linear".
        folds: number of cross-fitting folds of clusters.
        level: confidence of the interval.
        clusters: (n,) labels of the independent clusters (images).
        permutations: random permutations of x for a p-value; each repeats the cross-fitting.
        seed: seed of folds, permutations and training.
        unit: "nats" or "bits".

    Returns:
        Estimate. The value is that of the trained probes, which may be negative where they fit
        noise. The interval is about the best probe of the family: with a second fit from half of
        the training clusters, the loss is extrapolated to unlimited rows (diagnostic
        `extrapolated`), and no end leaves [0, ln k] for k labels. Unreliable with at most 10
        clusters per independent column, where columns are combinations of others up to a share
        of about 1e-5, where a few rows carry the variance of x, and where rows of fractions
        repeat without clusters. The order of the rows changes nothing.

    Raises:
        ValueError: invalid arrays, an unknown method or unit, fewer clusters than folds.

    Source:
        Xu et al. 2020, A theory of usable information under computational constraints, ICLR,
        arXiv 2002.10689, definitions 1 to 3; conditional form of Hewitt et al. 2021, EMNLP.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1000, 5))
        >>> usable = usable_information(x, (x[:, 0] > 0).astype(int), method="linear", unit="bits")
        >>> bool(usable.value > 0.9), usable.reliable
        (True, True)
    """
    same_device(x=x, y=y, given=given)
    rows = as_rows(x, "x")
    labels = as_labels(y, "y")
    target: Any = as_rows(y, "y") if labels is None else labels
    known = None if given is None else as_rows(given, "given")
    n = paired(x=rows, y=target, **({} if known is None else {"given": known}))
    ask = Request.of(n, level=level, clusters=clusters, permutations=permutations, seed=seed)
    probes = probes_of(method, n)
    check_unit(unit)
    if ask.cluster_count(n) < folds:
        raise ValueError(f"{ask.cluster_count(n)} independent clusters cannot fill {folds} folds")
    codes = np.arange(n) if ask.codes is None else ask.codes
    note = order_note([rows]) if clusters is None else {}
    # From here on nothing depends on the order of the file.
    sides = [rows] if known is None else [rows, known]
    order = canonical_order(codes, *sides, ties=np.atleast_2d(target.T).T.astype(np.float64))
    rows, target, codes = rows[order], target[order], cluster_codes(codes[order])
    known = None if known is None else known[order]
    ask = replace(ask, codes=None if ask.codes is None else codes)
    if labels is None:
        target = uncorrelated(target, drop=True)

    def losses(side: Rows | None, training: float = 1.0) -> Terms:
        return held_out_losses(side, target, codes, probes, folds, seed, training)

    def with_x(order: NDArray[np.int64]) -> Rows:
        x = rows[order]
        return x if known is None else np.concatenate([x, known], axis=1)

    def shuffled(order: NDArray[np.int64]) -> float:
        return float((without - losses(with_x(order))).mean())

    inputs = with_x(np.arange(n))
    without = losses(known)
    terms = without - losses(inputs)
    value = float(terms.mean())
    most = math.inf if labels is None else math.log(int(labels.max()) + 1)
    interval, limit = (0.0, most), math.nan
    if labels is not None or ask.cluster_count(n) > _CLUSTERS_PER_COLUMN * (target.shape[1] + 2):
        # A probe from m rows loses about c / m against the best one: extrapolate to no loss.
        beyond = 2.0 * terms - (losses(known, 0.5) - losses(inputs, 0.5))
        limit = float(beyond.mean())
        error = math.hypot(ask.variance_of_mean(beyond) ** 0.5, _BIAS_SHARE * (limit - value))
        low, high = limit - ask.z * error, limit + ask.z * error
        interval = (max(0.0, min(value, low, most)), max(0.0, min(most, max(value, high))))
    estimate = ask.estimate(
        value,
        interval,
        n=n,
        d=rows.shape[1],
        method=f"usable ({'/'.join(probe.name for probe in probes)} probe, {folds} folds)",
        doubts=[
            *_doubts(rows, known, target, labels, ask.cluster_count(n), folds, without - terms),
            repeats_reason(rows) if clusters is None else "",
        ],
        diagnostics={
            "loss": float((without - terms).mean()),
            "loss_without": float(without.mean()),
            "extrapolated": limit,
            **note,
            **p_value(value, shuffled, ask, n),
        },
    )
    return in_unit(estimate, unit)


def repeats_reason(rows: Rows) -> str:
    """Message about repeated rows of numbers that are not all whole; may be empty."""
    return "" if (rows == np.rint(rows)).all() else duplicates_reason(rows, "x")


def _doubts(
    rows: Rows,
    known: Rows | None,
    target: NDArray[Any],
    labels: NDArray[np.int64] | None,
    clusters: int,
    folds: int,
    loss: Terms,
) -> list[str]:
    """Messages about too few rows, and about targets that x determines."""
    doubts = []
    if clusters < _FEWEST_CLUSTERS:
        doubts.append(f"{clusters} clusters are too few for a normal interval of held-out losses")
    sides = rows if known is None else np.concatenate([rows, known], axis=1)
    columns, narrow = directions(sides)
    if clusters <= _CLUSTERS_PER_COLUMN * columns:
        doubts.append(
            f"{clusters} clusters are too few for a probe of {columns} independent columns; more "
            f"than {_CLUSTERS_PER_COLUMN * columns} are needed"
        )
    doubts.append(carriers_reason(carriers(sides)))
    if narrow:
        doubts.append(
            "some columns are so nearly combinations of others that a probe cannot use what they "
            f"add ({narrow} narrow directions)"
        )
    if labels is not None:
        return doubts
    q = target.shape[1]
    aside = len(rows) * (folds - 1) / folds * INNER_SHARE
    if aside < _ROWS_PER_TARGET * q:
        doubts.append(
            f"the residual covariance of {q} targets comes from {aside:.0f} rows of a fold, which "
            "biases the value down"
        )
    if float(loss.mean()) < 0.5 * math.log(100.0 * SMALLEST_RESIDUAL):
        doubts.append("x determines y up to rounding: the information is infinite")
    return doubts
