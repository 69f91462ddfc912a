"""How many images a certificate needs before any is looked at."""

from __future__ import annotations

import math

from theory._validate import check_fraction

METHODS = ("clopper-pearson", "hoeffding")


def zero_failure_bound(n: int, delta: float) -> float:
    """Upper confidence bound on a rate after n independent trials without a failure.

    1 - delta^(1/n), the Clopper-Pearson bound at zero; about log(1/delta) / n.

    Args:
        n: number of trials, at least 1.
        delta: probability that the bound may fail, in (0, 1).

    Returns:
        The bound, in (0, 1).

    Raises:
        ValueError: n below 1, delta outside (0, 1).

    Source:
        Clopper & Pearson 1934.

    Example:
        >>> round(zero_failure_bound(299, 0.05), 5)
        0.00997
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    check_fraction(delta, "delta")
    return -math.expm1(math.log(delta) / n)


def images_needed(
    epsilon: float, delta: float, *, plans: int = 1, method: str = "clopper-pearson"
) -> int:
    """Smallest number of images that can certify a plan in the best case.

    "clopper-pearson": smallest n with 1 - (delta / plans)^(1/n) <= epsilon, which certifies a
    disagreement of epsilon when no image disagrees. "hoeffding": n = 2 log(plans / delta) /
    epsilon^2 rounded up, which certifies a drop of accuracy of epsilon (a paired difference,
    range 2) when the mean drop on the images is zero. Several plans are covered by Bonferroni.

    Args:
        epsilon: the disagreement or the drop that may be certified, in (0, 1).
        delta: probability that any of the certificates may be wrong, in (0, 1).
        plans: number of plans tested on the same images.
        method: "clopper-pearson" or "hoeffding".

    Returns:
        Number of independent images.

    Raises:
        ValueError: epsilon or delta outside (0, 1), plans below 1, unknown method.

    Source:
        Clopper & Pearson 1934; Hoeffding 1963, Theorem 2.

    Example:
        >>> [images_needed(epsilon, 0.05) for epsilon in (0.01, 0.02, 0.05)]
        [299, 149, 59]
        >>> images_needed(0.02, 0.05, method="hoeffding")
        14979
    """
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")
    if plans < 1:
        raise ValueError(f"plans must be at least 1, got {plans}")
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    log_risk = math.log(delta) - math.log(plans)
    if method == "hoeffding":
        return math.ceil(-2.0 * log_risk / epsilon**2)
    return math.ceil(log_risk / math.log1p(-epsilon))
