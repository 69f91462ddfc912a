"""Sample sizes for certificates, and the tolerance that a sample size can certify."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from theory._validate import check_fraction
from theory.certificates.clopper_pearson import clopper_pearson_upper_bound
from theory.certificates.tango import tango_score

METHODS = ("clopper-pearson", "hoeffding")
#: Methods for which `certification_power` computes the exact power.
POWER_METHODS = ("clopper-pearson", "harm", "hoeffding", "tango")

# Largest number of images that a search tries.
_MOST_IMAGES = 1 << 24


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
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
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


def certification_power(
    n: int,
    epsilon: float,
    delta: float,
    *,
    harmed: float,
    helped: float = 0.0,
    plans: int = 1,
    method: str = "clopper-pearson",
) -> float:
    """Exact probability that n images certify epsilon.

    An answer changes from right to wrong with probability `harmed` and from wrong to right with
    probability `helped`. The drop is their difference and the disagreement at least their sum.
    The certificate holds if the statistic of the method is small enough:

        clopper-pearson  number of changed answers (label-free)
        harm             number of harmed answers (Clopper-Pearson bound)
        hoeffding        number of harmed minus number of helped answers (range 2)
        tango            score statistic (asymptotic: for comparison, not for certificates)

    Args:
        n: independent images, one question each.
        epsilon: tolerance, in (0, 1).
        delta: maximum error probability of the certificate, in (0, 1).
        harmed: true rate of answers that change from right to wrong, in [0, 1].
        helped: true rate of answers that change from wrong to right, in [0, 1].
        plans: number of plans tested on the same images (Bonferroni).
        method: one of the above.

    Returns:
        The probability.

    Raises:
        ValueError: n or plans below 1, rates that are negative or sum to more than 1, epsilon
            or delta outside (0, 1), unknown method.

    Source:
        Binomial and trinomial distributions; Tango 1998.

    Example:
        >>> power = dict(epsilon=0.02, delta=0.05, harmed=0.005, helped=0.005)
        >>> [round(certification_power(1000, **power, method=m), 2) for m in POWER_METHODS]
        [0.79, 1.0, 0.0, 1.0]
    """
    from scipy.stats import binom  # half a second to import

    _check_counts(n, plans)
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")
    if min(harmed, helped) < 0.0 or harmed + helped > 1.0:
        raise ValueError(f"rates must be >= 0 and sum to at most 1, got {harmed} and {helped}")
    if method not in POWER_METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(POWER_METHODS)}")
    level = delta / plans
    if method in ("clopper-pearson", "harm"):
        rate = harmed + (helped if method == "clopper-pearson" else 0.0)
        return float(binom.cdf(_most_failures(n, epsilon, level), n, rate))
    gains = np.arange(n + 1)
    gains = gains[binom.pmf(gains, n, helped) > 1e-18]
    if method == "hoeffding":
        width = 2.0 * math.sqrt(-math.log(level) / (2.0 * n))
        most = np.floor(n * (epsilon - width) + gains + 1e-9)
    else:
        most = np.array([_most_harm(int(c), n, epsilon, level) for c in gains])
    rate = harmed / (1.0 - helped) if helped < 1.0 else 0.0
    given = binom.cdf(most, n - gains, rate)
    return float(np.sum(binom.pmf(gains, n, helped) * given))


def images_for_power(
    epsilon: float,
    delta: float,
    power: float,
    *,
    harmed: float,
    helped: float = 0.0,
    plans: int = 1,
    method: str = "clopper-pearson",
) -> int:
    """Number of images with which a certificate holds with probability `power`.

    Computed by doubling and bisection on `certification_power`. Counts are whole numbers, so the
    power is a sawtooth in n: a slightly smaller n can reach `power` too, and a slightly larger n
    can miss it.

    Args:
        epsilon: tolerance, in (0, 1).
        delta: maximum error probability of the certificate, in (0, 1).
        power: target probability that the certificate holds, in (0, 1).
        harmed: as in `certification_power`.
        helped: as in `certification_power`.
        plans: as in `certification_power`.
        method: as in `certification_power`.

    Returns:
        Number of independent images.

    Raises:
        ValueError: as `certification_power`; power outside (0, 1); the true rate is not below
            epsilon, or more than 16 million images would be needed.

    Example:
        >>> n = images_for_power(0.02, 0.05, 0.8, harmed=0.005, helped=0.005)
        >>> 900 < n < 1200
        True
    """
    check_fraction(power, "power")

    def enough(n: int) -> bool:
        reached = certification_power(
            n, epsilon, delta, harmed=harmed, helped=helped, plans=plans, method=method
        )
        return reached >= power

    bounded = harmed + helped if method == "clopper-pearson" else harmed
    loss = bounded if method in ("clopper-pearson", "harm") else harmed - helped
    if loss >= epsilon:
        raise ValueError(f"a true rate of {loss:g} cannot be certified at epsilon {epsilon:g}")
    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_IMAGES:
            raise ValueError(f"more than {_MOST_IMAGES} images would be needed")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


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

    _check_counts(n, plans)
    check_fraction(delta, "delta")
    check_fraction(power, "power")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must lie in [0, 1), got {rate}")
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(METHODS)}")
    failures = int(binom.ppf(power, n, rate))
    if method == "hoeffding":
        return min(1.0, failures / n + 2.0 * math.sqrt(-math.log(delta / plans) / (2.0 * n)))
    return clopper_pearson_upper_bound(failures, n, delta / plans)


def _check_counts(n: int, plans: int) -> None:
    """Raise ValueError unless both counts are positive."""
    for name, count in (("n", n), ("plans", plans)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def _most_failures(n: int, epsilon: float, level: float) -> int:
    """Largest number of failures whose Clopper-Pearson bound is at most epsilon, or -1."""
    from scipy.stats import binom  # half a second to import

    k = int(binom.ppf(level, n, epsilon))
    return k if binom.cdf(k, n, epsilon) <= level else k - 1


def _most_harm(helped: int, n: int, epsilon: float, level: float) -> int:
    """Largest number of harmed answers at which Tango's bound is at most epsilon, or -1."""
    low, high = -1, n - helped + 1
    z = -float(ndtri(level))
    while high - low > 1:
        middle = (low + high) // 2
        holds = tango_score(middle, helped, n, epsilon) <= -z
        low, high = (middle, high) if holds else (low, middle)
    return low
