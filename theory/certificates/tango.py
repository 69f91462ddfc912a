"""Tango's score bound for a paired drop: sharp, but asymptotic, so no certificate rests on it."""

from __future__ import annotations

import math

from scipy.special import ndtri

from theory._validate import check_fraction


def tango_upper_bound(harmed: int, helped: int, n: int, delta: float) -> float:
    """Upper score bound on P(harmed) - P(helped) from n independent pairs.

    The largest d in (-1, 1) with (b - c - n d) / sqrt(n (2 q + d (1 - d))) >= -z, where q is
    the rate of helped answers estimated under the restriction to d and z the (1 - delta)
    normal quantile. **Approximate**: it fails with about delta for large n and may fail more
    often for small counts, so it serves to plan sample sizes and to compare, and
    `certify_mean` does not take it.

    Args:
        harmed: b, answers that were right and became wrong.
        helped: c, answers that were wrong and became right.
        n: pairs, one per image.
        delta: nominal probability that the bound fails, in (0, 1).

    Returns:
        The bound on the drop, in (-1, 1].

    Raises:
        ValueError: negative counts or more than n; delta outside (0, 1).

    Source:
        Tango 1998, Statistics in Medicine 17, 891-908, equations 8 to 10.

    Example:
        >>> round(tango_upper_bound(5, 5, 1000, 0.05), 4)
        0.0058
    """
    from scipy.optimize import brentq  # slow to import

    check_fraction(delta, "delta")
    if min(harmed, helped) < 0 or harmed + helped > n or n < 1:
        raise ValueError(f"counts do not fit: {harmed} harmed and {helped} helped of {n}")
    z = -float(ndtri(delta))

    def excess(d: float) -> float:
        """Score statistic plus z: positive while d is not refuted."""
        return tango_score(harmed, helped, n, d) + z

    start = (harmed - helped) / n
    end = 1.0 - 1e-12
    if start >= end or excess(end) >= 0.0:
        return 1.0
    return float(brentq(excess, start, end, xtol=1e-12))


def tango_score(harmed: int, helped: int, n: int, d: float) -> float:
    """Score statistic of "the drop is d", about standard normal there; small refutes d.

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
