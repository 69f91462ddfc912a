"""Student t intervals over independent clusters, and when they are unreliable."""

from __future__ import annotations

import math

from scipy.special import stdtrit

MIN_CLUSTERS = 20
#: Fewest rows that carry the second moments of a reliable estimate.
_FEWEST_CARRIERS = 10


def t_interval(value: float, std_error: float, n: int, level: float) -> tuple[float, float]:
    """`value -+ t_{n-1} std_error`; unbounded for one cluster, which has no spread."""
    if n < 2:
        return -math.inf, math.inf
    half = float(stdtrit(n - 1, 0.5 + 0.5 * level)) * std_error
    return value - half, value + half


def small_sample_reason(n: int) -> str:
    """Reason why a t interval over n clusters is unreliable; may be empty."""
    if n >= MIN_CLUSTERS:
        return ""
    return f"only {n} clusters; a t interval needs at least {MIN_CLUSTERS}"


def wide_reason(value: float, interval: tuple[float, float]) -> str:
    """Reason why an interval is too wide: half width over max(0.1, 10 % of the value)."""
    half, most = 0.5 * (interval[1] - interval[0]), max(0.1, 0.1 * abs(value))
    return "" if half <= most else f"half width {half:.3g} is over {most:.3g}"


def carriers_reason(rows: float) -> str:
    """Reason why so few rows that carry the variance are unreliable; may be empty.

    Args:
        rows: `(sum |x|^2)^2 / sum |x|^4` of centred rows, n where all have one norm.
    """
    if rows >= _FEWEST_CARRIERS:
        return ""
    return (
        f"a few rows carry the variance, as {max(rows, 1.0):.0f} would if all were alike; at least "
        f"{_FEWEST_CARRIERS} are needed"
    )
