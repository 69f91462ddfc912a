"""The verb `usable_information`."""

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

#: Folds may differ by chance; two of them are too few to say how much.
_FEWEST_CLUSTERS = 50
#: Fewer rows for each continuous target bias the residual covariance, and with it the loss.
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
    """What a family of probes gets out of x about y, held out: predictive V-information.

    `I_V(Y; X | T) = H_V(Y | T) - H_V(Y | X, T)` with `H_V(Y | X) = -E log q(y | x)` of the best
    probe q in the family, each held-out loss from a probe that never saw the row's cluster. Without
    `given`, `H_V(Y)` is that of the best constant. It is at most the mutual information in the
    limit, and processing x can raise it: a family that cannot read x may read f(x).

    Args:
        x: (n, d_x) array or tensor.
        y: (n,) labels, or (n, d_y) numbers (then probes are Gaussian with constant covariance).
        given: (n, d_t) array or tensor T that the probe has in either case, or None.
        method: "linear", "mlp" (needs torch), or "auto": the better of the two on the
            training clusters of each fold where n is at least 1,000, else linear.
        folds: of the cross-fitting, by cluster.
        level: of the interval.
        clusters: (n,) labels of the independent clusters (images).
        permutations: permutations of x for a p-value; each runs the whole cross-fit again.
        seed: of folds, permutations and training.
        unit: "nats" or "bits".

    Returns:
        Estimate; its interval is normal, from the clusters' mean differences of held-out loss. The
        value may be negative where the probe learned noise.

    Raises:
        ValueError: bad arrays, an unknown method or unit, fewer clusters than folds.

    Source:
        Xu et al. 2020, A theory of usable information under computational constraints, ICLR,
        arXiv 2002.10689, definitions 1 to 3; conditional form of Hewitt et al. 2021, EMNLP.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1000, 5))
        >>> found = usable_information(x, (x[:, 0] > 0).astype(int), method="linear", unit="bits")
        >>> bool(found.value > 0.9), found.reliable
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
        moved = rows[order]
        both = moved if known is None else np.concatenate([moved, known], axis=1)
        return without - held_out_losses(both, target, codes, probes, folds, seed)

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
    found = ask.estimate(
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
    return in_unit(found, unit)
