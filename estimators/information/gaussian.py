"""Mutual information of jointly Gaussian variables: the unbiased estimator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import Canonical, canonical, largest_at_null, wilks_moments
from estimators.information._checks import gaussian_checks
from estimators.information._null import permutation_p_value
from estimators.information._request import Request


def gaussian(x: Rows, y: Rows, ask: Request) -> Estimate:
    """Unbiased mutual information of jointly Gaussian x and y.

    `I = -1/2 sum_i ln(1 - r_i^2) - 1/2 sum_{i<=p} [psi((v-i+1)/2) - psi((v-q-i+1)/2)]` with the
    sample's canonical correlations r_i, v = n - 1 and p <= q the dimensions. The second sum is
    the mean of the first for independent variables, and the bias for any. As a function of the
    complete sufficient statistic, the estimate has the least variance of all unbiased ones. It
    may be negative.

    The interval is normal, with variance
    `1/4 sum_i [psi1((v-q-i+1)/2) - psi1((v-i+1)/2)] + sum_i rho_i^2 / (v (1 - (p+q)/v))`. Where
    rows of a cluster depend on each other, v is the effective number of rows (`design_effect`).

    Raises:
        ValueError: n - 1 < d_x + d_y.

    Source:
        The mean of the log of Wilks' statistic: Muirhead 1982, Aspects of Multivariate
        Statistical Theory, section 11.2.
    """
    pair = canonical(x, y, ask.codes)
    value, interval = normal_interval(pair, ask)
    return ask.information(
        value,
        interval,
        n=len(x),
        d=x.shape[1] + y.shape[1],
        method="gaussian (unbiased)",
        doubts=[infinite_reason(pair), *gaussian_checks(pair)],
        diagnostics={
            "unbiased": value,
            "design_effect": pair.design_effect,
            **permutation_p_value(pair, ask),
        },
    )


def normal_interval(pair: Canonical, ask: Request) -> tuple[float, tuple[float, float]]:
    """The unbiased estimate with its interval; infinite above where x and y determine each other.

    The lower end is then that of the least gap `1 - r^2` that the rows resolve.
    """
    value, variance = unbiased(pair)
    if pair.determined:
        lower, variance = unbiased(pair.resolved())
        value = float("inf") if pair.exact else lower
        return value, (lower - ask.z * variance**0.5, float("inf"))
    half = ask.z * variance**0.5
    return value, (value - half, value + half)


def infinite_reason(pair: Canonical) -> str:
    """Message about directions in which x and y determine each other; may be empty."""
    if not pair.determined:
        return ""
    some = "one direction" if pair.determined == 1 else f"{pair.determined} directions"
    what = "their mutual information is infinite"
    if not pair.exact:
        what = f"{pair.rows} ranks put no upper limit on their mutual information"
    return (
        f"x and y determine each other in {some} to within {pair.resolution**0.5:.1g} of its "
        f"scale, so {what}; drop the columns that they share, or add noise of the size that matters"
    )


def unbiased(pair: Canonical) -> tuple[float, float]:
    """The unbiased information in nats and its variance."""
    v, (p, q) = pair.freedom, pair.dims
    bias, at_null = wilks_moments(p, q, v)
    value = _nats(pair.gaps) - bias
    spread = signal(pair, value) / (v * max(1.0 - (p + q) / v, 1.0 / v))
    return value, at_null + spread


def signal(pair: Canonical, value: float) -> float:
    """`sum_i rho_i^2` of the significant pairs, plus the bound `2 I` for the other pairs."""
    if pair.determined:
        return float(pair.dims[0])
    spikes = spiked_gaps(pair)
    remainder = value - _nats(spikes)
    return float((1.0 - spikes).sum()) + 2.0 * max(remainder, 0.0)


def _nats(gaps: NDArray[np.float64]) -> float:
    """`-1/2 sum ln(1 - r^2)`, from the gaps `1 - r^2`."""
    with np.errstate(divide="ignore"):
        return -0.5 * float(np.log(gaps).sum())


def spiked_gaps(pair: Canonical) -> NDArray[np.float64]:
    """`1 - rho^2` of the pairs that exceed the noise, debiased.

    Significant sample values exceed the 99 % point of the largest under independence (Johnstone
    2008, theorem 1); each is replaced by the root r of
    `l = [(1-c1) r + c1] [(1-c2) r + c2] / r`, c1 = p/v, c2 = q/v (Bao et al. 2019, eq. 1.8).
    """
    v, (p, q) = pair.freedom, pair.dims
    gaps = pair.gaps[pair.squared > largest_at_null(p, q, v)]
    c1, c2 = p / v, q / v
    # In terms of the gaps g = 1 - l and d = 1 - r: (1-c1)(1-c2) d^2 - (1-c1-c2+g) d + g = 0. This
    # form of the smaller root does not cancel where d is small.
    slope = 1.0 - c1 - c2 + gaps
    root = np.sqrt(np.maximum(slope**2 - 4.0 * (1.0 - c1) * (1.0 - c2) * gaps, 0.0))
    return np.clip(2.0 * gaps / (slope + root), 0.0, 1.0)
