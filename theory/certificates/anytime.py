"""Anytime betting: a bound that holds at every number of images at once, so looking is free."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._validate import check_array, check_fraction, check_number

Floats = NDArray[np.float64]

#: Shares of the largest admissible bet over which the capital is averaged, and their weights. The
#: small ones tell a mean just below the limit, and cost the others little.
STAKES = (1 / 64, 1 / 32, 1 / 16, *(k / 8 for k in range(1, 9)))
WEIGHTS = (*(1 / 48,) * 3, *(15 / 128,) * 8)
# Bisection stops at this width and returns the upper end, so rounding can only raise the bound.
_WIDTH = 1e-12


def log_capital(values: ArrayLike, limit: float) -> Floats:
    """Log capital of a bettor against "the mean is at least `limit`", after every value.

    K_t = sum over s of w_s prod_{i<=t} (1 + s (limit - x_i) / (1 - limit)),

    with w_s = 15/128 for s = 1/8, 2/8, ..., 1, and w_s = 1/48 for s = 1/64, 1/32, 1/16.
    Every bet is fixed in advance and no factor is negative. If each value has mean at least `limit`
    given the values before it, K is a nonnegative supermartingale that starts at 1, and
    P(K_t >= 1/delta for some t) <= delta (Ville). For zeros and ones the bet s is the likelihood
    ratio of the rate (1 - s) limit. K_t does not depend on the order of the first t values, and
    grows with `limit`.

    Args:
        values: array of shape (..., n) in [0, 1]; the last axis is time.
        limit: mean under the null hypothesis, in (0, 1).

    Returns:
        log K_t, array of shape (..., n), dimensionless.

    Source:
        Waudby-Smith & Ramdas 2024, arXiv 2010.09686, Proposition 2 and Theorem 3, here one-sided,
        with a weighted average over constant bets as in appendix B (diversified Kelly).

    Example:
        >>> log_capital([0.0, 0.0, 1.0], 0.5).round(3).tolist()
        [0.425, 0.889, -0.152]
    """
    x = np.asarray(values, dtype=np.float64)
    logs = np.stack([_log_factors(x, limit, stake) for stake in STAKES])
    return np.asarray(_log_mean(np.cumsum(logs, axis=-1)))


def anytime_p_values(
    values: ArrayLike, limit: float, *, low: float = 0.0, high: float = 1.0
) -> Floats:
    """After every value, the p-value of "the mean is at least `limit`": 1 / max_{s<=t} K_s.

    P(the p-value is at most delta for some t) <= delta, if the mean is at least `limit`: a user
    may look after every image and stop at the first success.

    Args:
        values: array of shape (..., n) in [low, high]; the last axis is time.
        limit: mean under the null hypothesis; out of range the p-value is 1.
        low: smallest possible value.
        high: largest possible value.

    Returns:
        Array of shape (..., n), at most 1, nonincreasing along the last axis.

    Raises:
        TypeError: values that are no numbers.
        ValueError: no values, or a value outside [low, high].

    Source:
        `log_capital`; Ville 1939.

    Example:
        >>> p = anytime_p_values([0.0] * 300, 0.02)
        >>> int((p > 0.05).sum()) + 1  # images until the rate is known to be below 2 %
        211
    """
    x = _unit(values, "values", low, high)
    if math.isnan(check_number(limit, "limit")):
        raise ValueError("limit must be a number, got nan")
    if not low < limit < high:
        return np.ones(x.shape)
    highest = np.maximum.accumulate(log_capital(x, (limit - low) / (high - low)), axis=-1)
    return np.asarray(np.exp(-np.maximum(highest, 0.0)))


def anytime_p_value(
    means: ArrayLike, limit: float, *, low: float = 0.0, high: float = 1.0
) -> Floats:
    """P-value 1 / K_n after the last value; unlike `anytime_p_values` whatever the order of values.

    Args:
        means: array of shape (..., n); the last axis is one sample.
        limit: mean under the null hypothesis; out of range the p-value is 1.
        low: smallest possible value.
        high: largest possible value.

    Returns:
        Array of shape (...), at most 1.

    Example:
        >>> bool(anytime_p_value([0.0] * 211, 0.02) < 0.05)
        True
    """
    x = _unit(means, "means", low, high)
    if not low < limit < high:
        return np.ones(x.shape[:-1])
    last = log_capital(x, (limit - low) / (high - low))[..., -1]
    return np.asarray(np.exp(-np.maximum(last, 0.0)))


def anytime_upper_bound(
    means: ArrayLike, delta: float, *, low: float = 0.0, high: float = 1.0
) -> float:
    """Largest mean that the capital has not refuted: below the true mean at no time, but for delta.

    U_t = max {m : K_t(m) <= 1/delta}, and P(U_t < mean for some t) <= delta: the bound may be
    computed after every image, and images added until it is small enough. With one look at a
    number of images fixed in advance, `clopper_pearson_upper_bound` is smaller: without a failure
    it needs 149 images for 2 %, and this bound 211.

    With more and more images of mean m the bound falls to at most low + (m - low) / 0.992, above
    which the smallest bet grows. So every mean below low + 0.992 (epsilon - low) is certified in
    the end; one between that and epsilon may never be, however many images there are.

    Args:
        means: array of shape (n,), one value per image.
        delta: maximum probability that the bound is ever below the mean, in (0, 1).
        low: smallest possible value.
        high: largest possible value.

    Returns:
        The bound, at most `high`, in the unit of `means`.

    Raises:
        TypeError: values that are no numbers.
        ValueError: no values, a value outside [low, high], delta outside (0, 1).

    Source:
        `log_capital`; arXiv 2010.09686, Theorem 3.

    Example:
        >>> round(anytime_upper_bound([0.0] * 211, 0.05), 4)
        0.02
    """
    check_fraction(delta, "delta")
    x = _unit(means, "means", low, high)
    distinct, counts = np.unique(x, return_counts=True)
    left, right = 0.0, 1.0
    while right - left > _WIDTH:
        middle = 0.5 * (left + right)
        logs = [counts @ _log_factors(distinct, middle, stake) for stake in STAKES]
        refuted = float(_log_mean(np.array(logs))) >= -math.log(delta)
        left, right = (left, middle) if refuted else (middle, right)
    return low + (high - low) * right


def _unit(values: ArrayLike, name: str, low: float, high: float) -> Floats:
    """Values scaled to [0, 1]; raises if there are none or one lies outside."""
    x = np.atleast_1d(check_array(values, name))
    if not x.size:
        raise ValueError(f"{name}: a bound needs at least one value, got none")
    if not -math.inf < check_number(low, "low") < check_number(high, "high") < math.inf:
        raise ValueError(f"low must be below high and both finite, got {low} and {high}")
    bad = x[~((x >= low) & (x <= high))]
    if bad.size:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {bad[0]:g}")
    return np.asarray((x - low) / (high - low))


def _log_factors(x: Floats, limit: float, stake: float) -> Floats:
    """log(1 + stake (limit - x) / (1 - limit)), minus infinity where all is lost."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(1.0 + stake * (limit - x) / (1.0 - limit), 0.0)))


def _log_mean(logs: Floats) -> Floats:
    """Log of the mean of exp(logs) over the first axis, weighted; one of them is finite."""
    most = logs.max(axis=0)
    return np.asarray(most + np.log(np.tensordot(WEIGHTS, np.exp(logs - most), axes=1)))
