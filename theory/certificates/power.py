"""Exact power of certificates, and the number of images that reaches it."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from theory._validate import check_choice, check_count, check_fraction, check_number
from theory.certificates.tango import tango_score

#: Methods for which `certification_power` computes the exact power.
POWER_METHODS = ("clopper-pearson", "harm", "hoeffding", "tango")

#: Largest number of images that a search tries.
_MOST_IMAGES = 1 << 24


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

    check_count(n, "n")
    check_count(plans, "plans")
    check_fraction(epsilon, "epsilon")
    check_fraction(delta, "delta")
    _check_rates(harmed, helped)
    check_choice(method, "method", POWER_METHODS)
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
    for name, number in (("epsilon", epsilon), ("delta", delta), ("power", power)):
        check_fraction(number, name)
    _check_rates(harmed, helped)
    check_count(plans, "plans")
    check_choice(method, "method", POWER_METHODS)

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


def _check_rates(harmed: float, helped: float) -> None:
    """Raise ValueError unless both rates are >= 0 and sum to at most 1."""
    total = check_number(harmed, "harmed") + check_number(helped, "helped")
    if not (min(harmed, helped) >= 0.0 and total <= 1.0):  # refuses NaN too
        raise ValueError(
            f"harmed and helped must be >= 0 and sum to at most 1, got {harmed} and {helped}"
        )


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
