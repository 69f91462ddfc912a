"""Sample sizes for certificates in the best case, and the tolerance that they can certify."""

from __future__ import annotations

import math

from theory._validate import MOST, check_choice, check_count, check_fraction, check_number
from theory.certificates.clopper_pearson import clopper_pearson_upper_bound

METHODS = ("clopper-pearson", "hoeffding")


def zero_failure_bound(n: int, delta: float) -> float:
    """Upper confidence bound on a rate, given no failures in n independent trials.

    1 - delta^(1/n), the Clopper-Pearson bound for zero failures; about log(1/delta) / n.

    Args:
        n: number of trials, at least 1.
        delta: maximum probability that the bound is below the rate, in (0, 1).

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
    check_count(n, "n")
    check_fraction(delta, "delta")
    return -math.expm1(math.log(delta) / n)


def images_needed(
    epsilon: float, delta: float, *, plans: int = 1, method: str = "clopper-pearson"
) -> int:
    """Smallest number of images that certifies a plan in the best case.

    "clopper-pearson": smallest n with 1 - (delta / plans)^(1/n) <= epsilon, which certifies a
    disagreement of epsilon if no answer changes. "hoeffding": n = 2 log(plans / delta) /
    epsilon^2 rounded up, which certifies an accuracy drop of epsilon (a paired difference,
    range 2) if the mean drop on the images is zero. Bonferroni corrects for several plans.

    Args:
        epsilon: disagreement or accuracy drop to certify, in (0, 1).
        delta: maximum probability that any of the certificates is wrong, in (0, 1).
        plans: number of plans tested on the same images.
        method: "clopper-pearson" or "hoeffding".

    Returns:
        Number of independent images.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: epsilon or delta outside (0, 1), plans below 1, unknown method, or an epsilon
            so small that more than 10^12 images are needed.

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
    check_count(plans, "plans")
    check_choice(method, "method", METHODS)
    log_risk = math.log(delta) - math.log(plans)
    small = -math.log1p(-epsilon) if method == "clopper-pearson" else epsilon * epsilon / 2.0
    if -log_risk > small * MOST:
        raise ValueError(f"epsilon {epsilon:g} needs more than {MOST} images")
    return math.ceil(-log_risk / small)


def reachable_epsilon(
    n: int,
    delta: float,
    *,
    rate: float = 0.0,
    power: float = 0.8,
    plans: int = 1,
    method: str = "clopper-pearson",
) -> float:
    """Smallest epsilon that n images certify with probability `power`.

    It is the bound at the `power` quantile k of the number of failures, Binomial(n, rate): the
    Clopper-Pearson bound, or k / n plus Hoeffding's width for a paired drop.

    Args:
        n: independent images, one question each.
        delta: maximum error probability of the certificate, in (0, 1).
        rate: true rate of failures, in [0, 1); 0 gives the best case.
        power: probability that the certificate holds, in (0, 1).
        plans: number of plans tested on the same images (Bonferroni).
        method: "clopper-pearson" or "hoeffding".

    Returns:
        epsilon, at most 1.

    Raises:
        ValueError: n or plans below 1, delta or power outside (0, 1), rate outside [0, 1),
            unknown method.

    Example:
        >>> [round(reachable_epsilon(n, 0.05), 4) for n in (59, 149, 299)]
        [0.0495, 0.0199, 0.01]
    """
    from scipy.stats import binom  # half a second to import

    check_count(n, "n")
    check_count(plans, "plans")
    check_fraction(delta, "delta")
    check_fraction(power, "power")
    if not 0.0 <= check_number(rate, "rate") < 1.0:
        raise ValueError(f"rate must lie in [0, 1), got {rate}")
    check_choice(method, "method", METHODS)
    failures = int(binom.ppf(power, n, rate))
    if method == "hoeffding":
        return min(1.0, failures / n + 2.0 * math.sqrt(-math.log(delta / plans) / (2.0 * n)))
    return clopper_pearson_upper_bound(failures, n, delta / plans)
