"""Tango's score bound for a paired drop: asymptotic, so no certificate uses it."""

from __future__ import annotations

import math

from scipy.special import ndtri

from theory._validate import check_count, check_fraction


def tango_upper_bound(harmed: int, helped: int, n: int, delta: float) -> float:
    """Upper score bound on P(harmed) - P(helped) from n independent pairs.

    The largest d in (-1, 1) with (b - c - n d) / sqrt(n (2 q + d (1 - d))) >= -z, where q is
    the maximum-likelihood rate of helped answers given the drop d, and z the (1 - delta) normal
    quantile. **Approximate**: the error probability tends to delta for large n and can exceed it
    for small counts. Use the bound to plan sample sizes and for comparison; `certify_mean` does
    not offer it.

    Args:
        harmed: b, number of answers that change from right to wrong.
        helped: c, number of answers that change from wrong to right.
        n: pairs, one per image.
        delta: nominal error probability, in (0, 1).

    Returns:
        The bound on the drop, in (-1, 1].

    Raises:
        TypeError: counts that are not integers.
        ValueError: negative counts, harmed + helped > n, n < 1, or delta outside (0, 1).

    Source:
        Tango 1998, Statistics in Medicine 17, 891-908, equations 8 to 10.

    Example:
        >>> round(tango_upper_bound(5, 5, 1000, 0.05), 4)
        0.0058
    """
    from scipy.optimize import brentq  # slow to import

    check_fraction(delta, "delta")
    for name, number in (("harmed", harmed), ("helped", helped), ("n", n)):
        check_count(number, name, least=0)
    if harmed + helped > n or n < 1:
        raise ValueError(f"impossible counts: {harmed} harmed and {helped} helped of {n}")
    z = -float(ndtri(delta))

    def excess(d: float) -> float:
        """Score statistic plus z: nonnegative iff the drop d is not rejected."""
        return tango_score(harmed, helped, n, d) + z

    start = (harmed - helped) / n
    end = 1.0 - 1e-12
    if start >= end or excess(end) >= 0.0:
        return 1.0
    return float(brentq(excess, start, end, xtol=1e-12))


def tango_score(harmed: int, helped: int, n: int, d: float) -> float:
    """Score statistic for the drop d, asymptotically standard normal; small values reject d.

    Example:
        >>> tango_score(5, 5, 1000, 0.02) < -1.645
        True
    """
    a = 2.0 * n
    b = -harmed - helped + (2.0 * n - harmed + helped) * d
    c = -helped * d * (1.0 - d)
    q = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = n * (2.0 * q + d * (1.0 - d))
    gap = harmed - helped - n * d
    return 0.0 if gap == 0.0 else gap / math.sqrt(max(variance, 1e-300))
