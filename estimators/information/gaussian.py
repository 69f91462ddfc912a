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
    value, variance = unbiased(pair)
    return ask.estimate(
        value,
        variance,
        n=len(x),
        d=x.shape[1] + y.shape[1],
        method="gaussian (unbiased)",
        doubts=list(gaussian_checks(pair)),
        diagnostics={"design_effect": pair.design_effect, **permutation_p_value(pair, ask)},
    )


def unbiased(pair: Canonical) -> tuple[float, float]:
    """The unbiased information in nats and its variance."""
    v, (p, q) = pair.freedom, pair.dims
    bias, at_null = wilks_moments(p, q, v)
    value = -0.5 * float(np.log1p(-pair.squared).sum()) - bias
    spread = signal(pair, value) / (v * max(1.0 - (p + q) / v, 1.0 / v))
    return value, at_null + spread


def signal(pair: Canonical, value: float) -> float:
    """`sum_i rho_i^2` of the significant pairs, plus the bound `2 I` for the other pairs."""
    spikes = spiked_correlations(pair)
    remainder = value + 0.5 * float(np.log1p(-spikes).sum())
    return float(spikes.sum()) + 2.0 * max(remainder, 0.0)


def spiked_correlations(pair: Canonical) -> NDArray[np.float64]:
    """Debiased squared canonical correlations of the pairs that exceed the noise.

    Significant sample values exceed the 99 % point of the largest under independence (Johnstone
    2008, theorem 1); each is replaced by the root r of
    `l = [(1-c1) r + c1] [(1-c2) r + c2] / r`, c1 = p/v, c2 = q/v (Bao et al. 2019, eq. 1.8).
    """
    v, (p, q) = pair.freedom, pair.dims
    sample = pair.squared[pair.squared > largest_at_null(p, q, v)]
    c1, c2 = p / v, q / v
    a, b = (1 - c1) * (1 - c2), (1 - c1) * c2 + (1 - c2) * c1
    root = np.sqrt(np.maximum((sample - b) ** 2 - 4 * a * c1 * c2, 0.0))
    return np.clip((sample - b + root) / (2 * a), 0.0, 1.0 - 1e-12)
