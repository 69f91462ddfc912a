"""Usable information, estimated by cross-fitted probes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import as_labels, as_rows, paired, same_device
from estimators.clustered import Labels
from estimators.estimate import Estimate
from estimators.information._null import p_value
from estimators.information._request import Request, check_unit, in_unit
from estimators.usable.crossfit import held_out_losses, probes_of
from estimators.usable.linear import INNER_SHARE

#: Fewest clusters for a normal interval of held-out losses.
_FEWEST_CLUSTERS = 50
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
        Estimate with a normal interval, from the differences of held-out loss per cluster. The
        value may be negative where the probe fits noise.

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
    codes = np.arange(n) if ask.codes is None else ask.codes
    without = held_out_losses(known, target, codes, probes, folds, seed)

    def gain(order: NDArray[np.int64]) -> NDArray[np.float64]:
        shuffled = rows[order]
        inputs = shuffled if known is None else np.concatenate([shuffled, known], axis=1)
        return without - held_out_losses(inputs, target, codes, probes, folds, seed)

    terms = gain(np.arange(n))
    value = float(terms.mean())
    doubts = []
    if ask.cluster_count(n) < _FEWEST_CLUSTERS:
        doubts.append(
            f"{ask.cluster_count(n)} clusters are too few for a normal interval of held-out losses"
        )
    aside = n * (folds - 1) / folds * INNER_SHARE
    if labels is None and aside < _ROWS_PER_TARGET * target.shape[1]:
        doubts.append(
            f"the residual covariance of {target.shape[1]} targets comes from {aside:.0f} rows of "
            "a fold, which biases the value down"
        )
    estimate = ask.estimate(
        value,
        ask.variance_of_mean(terms),
        n=n,
        d=rows.shape[1],
        method=f"usable ({'/'.join(probe.name for probe in probes)} probe, {folds} folds)",
        doubts=doubts,
        diagnostics={
            "loss": float((without - terms).mean()),
            "loss_without": float(without.mean()),
            **p_value(value, lambda order: float(gain(order).mean()), ask, n),
        },
    )
    return in_unit(estimate, unit)
