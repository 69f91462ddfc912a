"""Information of continuous variables: the public functions, and the methods they choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from estimators._arrays import as_labels, as_rows, paired, same_device
from estimators.clustered import Labels
from estimators.estimate import Estimate
from estimators.information._order import order_of_rows
from estimators.information._request import Request, check_unit, in_unit
from estimators.information.auto import auto, auto_conditional, auto_entropy, auto_labels
from estimators.information.conditional import copula_conditional, gaussian_conditional
from estimators.information.copula import copula
from estimators.information.critics import KINDS, neural_bound
from estimators.information.entropies import gaussian_entropy, knn_entropy
from estimators.information.flow import flow
from estimators.information.gaussian import gaussian
from estimators.information.ksg import ksg1, ksg2
from estimators.information.mixed import mixed_ksg
from estimators.information.neighbours_given import knn_conditional
from estimators.information.probe import probe
from estimators.information.renyi import renyi, renyi_entropy
from estimators.information.shrinkage import shrinkage
from estimators.information.spiked import gaussian_pair, spiked

Method = Callable[..., Estimate]

#: `method=` of `mutual_information` for a continuous y.
MUTUAL_INFORMATION: Mapping[str, Method] = {
    "auto": auto,
    "gaussian": gaussian,
    "spiked": spiked,
    "gaussian-pair": gaussian_pair,
    "shrinkage": shrinkage,
    "copula": copula,
    "ksg1": ksg1,
    "ksg2": ksg2,
    "flow": flow,
    "renyi": renyi,
    **{kind: partial(neural_bound, kind) for kind in KINDS},
}
#: `method=` of `mutual_information` for labels y.
LABEL_INFORMATION: Mapping[str, Method] = {
    "auto": auto_labels,
    "mixed-ksg": mixed_ksg,
    "probe": probe,
}
#: `method=` of `entropy`.
ENTROPY: Mapping[str, Method] = {
    "auto": auto_entropy,
    "gaussian": gaussian_entropy,
    "knn": knn_entropy,
    "renyi": renyi_entropy,
}
#: `method=` of `conditional_mutual_information`.
CONDITIONAL: Mapping[str, Method] = {
    "auto": auto_conditional,
    "gaussian": gaussian_conditional,
    "copula": copula_conditional,
    "knn": knn_conditional,
}


def mutual_information(
    x: Any,
    y: Any,
    *,
    method: str = "auto",
    level: float = 0.95,
    clusters: Labels | None = None,
    permutations: int = 0,
    seed: int = 0,
    unit: str = "nats",
    **options: Any,
) -> Estimate:
    """Mutual information of rows x and y, with confidence interval and reliability verdict.

    `I(X;Y) = E ln p(x, y) / (p(x) p(y))`.

    Args:
        x: (n, d_x) array or tensor, on any device.
        y: (n, d_y) array or tensor of real numbers; or (n,) labels (whole numbers, booleans or
            strings), a discrete variable.
        method: a name in `MUTUAL_INFORMATION`, or in `LABEL_INFORMATION` for labels. "auto"
            chooses by dimension and sample size, and gives the reason in
            `diagnostics["chosen"]`.
        level: confidence of the interval.
        clusters: (n,) labels of the independent clusters (images). Rows of a cluster may
            depend on each other; the estimate's n counts clusters.
        permutations: random permutations of y for a p-value of independence, in
            `diagnostics["p_value"]`; whole clusters are permuted among clusters of equal size.
            Some methods do not compute it.
        seed: seed of all random numbers.
        unit: "nats" or "bits".
        **options: options of the method, such as `k` of nearest neighbours.

    Returns:
        Estimate. `reliable` is True only if the half width of the interval is at most 0.1 nat or
        10 % of the value, whichever is larger, and the checks of the method pass. Value and
        interval lie between 0 and, for labels, the entropy of y. Where x and y determine each
        other the value is infinite and not reliable. The order of the rows does not matter.

    Raises:
        ValueError: invalid arrays, an unknown method, option or unit; with
            an explicit Gaussian method, n - 1 < d_x + d_y.

    Source:
        See the methods in `estimators.information`.

    Example:
        >>> import numpy as np
        >>> x, e = np.random.default_rng(0).normal(size=(2, 2000, 10))
        >>> estimate = mutual_information(x, x + e)  # truth 5 ln 2 = 3.466
        >>> estimate.interval[0] < 3.466 < estimate.interval[1], estimate.reliable
        (True, True)
    """
    same_device(x=x, y=y)
    rows = as_rows(x, "x", rescale=True)
    labels = as_labels(y, "y")
    target: Any = as_rows(y, "y", rescale=True) if labels is None else labels
    paired(x=rows, y=target)
    methods = MUTUAL_INFORMATION if labels is None else LABEL_INFORMATION
    return _run(
        methods,
        method,
        (rows, target),
        options,
        unit=unit,
        level=level,
        clusters=clusters,
        permutations=permutations,
        seed=seed,
    )


def entropy(
    x: Any,
    *,
    method: str = "auto",
    level: float = 0.95,
    clusters: Labels | None = None,
    seed: int = 0,
    unit: str = "nats",
    **options: Any,
) -> Estimate:
    """Differential entropy of rows x, which depends on the scale of x.

    `H(X) = -E ln p(x)`.

    Args:
        x: (n, d) array or tensor.
        method: a name in `ENTROPY`.
        level: confidence of the interval.
        clusters: (n,) labels of the independent clusters.
        seed: seed of all random numbers.
        unit: "nats" or "bits".
        **options: options of the method.

    Raises:
        ValueError: invalid arrays, an unknown method, option or unit, too few rows.

    Source:
        See the methods in `estimators.information.entropies`.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(2000, 3))
        >>> estimate = entropy(x)  # truth 3/2 ln(2 pi e) = 4.257
        >>> estimate.interval[0] < 4.257 < estimate.interval[1]
        True
    """
    rows = as_rows(x, "x")
    return _run(
        ENTROPY, method, (rows,), options, unit=unit, level=level, clusters=clusters, seed=seed
    )


def conditional_mutual_information(
    x: Any,
    y: Any,
    z: Any,
    *,
    method: str = "auto",
    level: float = 0.95,
    clusters: Labels | None = None,
    seed: int = 0,
    unit: str = "nats",
    **options: Any,
) -> Estimate:
    """Conditional mutual information of rows x and y given rows z.

    `I(X;Y|Z) = E ln p(x, y | z) / (p(x | z) p(y | z))`.

    Args:
        x: (n, d_x) array or tensor.
        y: (n, d_y) array or tensor.
        z: (n, d_z) array or tensor.
        method: a name in `CONDITIONAL`.
        level: confidence of the interval.
        clusters: (n,) labels of the independent clusters.
        seed: seed of all random numbers.
        unit: "nats" or "bits".
        **options: options of the method.

    Raises:
        ValueError: invalid arrays, an unknown method, option or unit, too few rows.

    Source:
        See the methods in `estimators.information.conditional`.

    Example:
        >>> import numpy as np
        >>> x, e, z = np.random.default_rng(0).normal(size=(3, 2000, 4))
        >>> estimate = conditional_mutual_information(x + z, x + e, z)  # truth 2 ln 2 = 1.386
        >>> estimate.interval[0] < 1.386 < estimate.interval[1]
        True
    """
    same_device(x=x, y=y, z=z)
    rows = tuple(as_rows(side, name, rescale=True) for side, name in ((x, "x"), (y, "y"), (z, "z")))
    paired(x=rows[0], y=rows[1], z=rows[2])
    return _run(
        CONDITIONAL, method, rows, options, unit=unit, level=level, clusters=clusters, seed=seed
    )


def _run(
    methods: Mapping[str, Method],
    method: str,
    rows: tuple[Any, ...],
    options: dict[str, Any],
    *,
    unit: str,
    level: float,
    clusters: Labels | None,
    permutations: int = 0,
    seed: int,
) -> Estimate:
    """Check the settings, method, unit and options, and run the method."""
    if len(rows[0]) < 2:
        raise ValueError("1 row is too few: information is estimated from at least 2 rows")
    ask = Request.of(
        len(rows[0]), level=level, clusters=clusters, permutations=permutations, seed=seed
    )
    if method not in methods:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(methods)}")
    check_unit(unit)
    parameters = inspect.signature(methods[method]).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = [name for name in options if name not in allowed]
    if unknown:
        raise ValueError(
            f"method '{method}' has no option {', '.join(unknown)}; "
            f"it has {', '.join(allowed) or 'none'}"
        )
    order = order_of_rows(rows)
    sides = tuple(side[order] for side in rows)
    return in_unit(methods[method](*sides, ask.ordered(order), **options), unit)
