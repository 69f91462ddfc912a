"""Student t intervals over independent clusters, and when they are unreliable."""

from __future__ import annotations

import math

from scipy.special import stdtrit

MIN_CLUSTERS = 20


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
