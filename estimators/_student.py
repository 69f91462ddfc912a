"""The Student t interval over independent units, and the verdict on small numbers of them."""

from __future__ import annotations

import math

from scipy.special import stdtrit

MIN_CLUSTERS = 20


def t_interval(value: float, std_error: float, n: int, level: float) -> tuple[float, float]:
    """`value -+ t_{n-1} std_error`; unbounded for one unit, which says nothing about spread."""
    if n < 2:
        return -math.inf, math.inf
    half = float(stdtrit(n - 1, 0.5 + 0.5 * level)) * std_error
    return value - half, value + half


def small_sample_reason(n: int) -> str:
    """Why a t interval over n units is not to be trusted, or an empty string."""
    if n >= MIN_CLUSTERS:
        return ""
    return f"only {n} clusters; a t interval wants at least {MIN_CLUSTERS}"
