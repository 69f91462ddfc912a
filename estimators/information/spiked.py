"""Mutual information that sits in few canonical pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from estimators._arrays import Rows
from estimators.estimate import Estimate
from estimators.information._canonical import Canonical, canonical
from estimators.information._checks import gaussian_checks
from estimators.information._null import permutation_p_value
from estimators.information._request import Request
from estimators.information.gaussian import spiked_correlations, unbiased


def spiked(x: Rows, y: Rows, ask: Request) -> Estimate:
    """Gaussian mutual information carried by few canonical pairs, each debiased.

    `I = -1/2 sum_i ln(1 - rho_i^2)` over the pairs whose sample correlation stands out of the
    noise, rho_i^2 from the sample's by the inverse of the spiked model. Where the information
    sits in at most a handful of pairs, as in hidden states, its spread is several times
    smaller than the unbiased estimator's. It is blind to information spread over many weak
    pairs; so it is reliable only if the unbiased estimate does not contradict it.

    Raises:
        ValueError: n - 1 < d_x + d_y.

    Source:
        Bao, Hu, Pan and Zhou 2019, Canonical correlation coefficients of high-dimensional
        Gaussian vectors: finite rank case, Ann. Statist. 47; threshold of Johnstone 2008,
        Multivariate analysis and Jacobi ensembles, Ann. Statist. 36.
    """
    pair = canonical(x, y, ask.codes)
    value, variance, kept = of_spikes(pair)
    whole, spread = unbiased(pair)
    doubts = list(gaussian_checks(pair))
    if whole - value > 2.0 * spread**0.5:
        doubts.append(
            f"the unbiased estimate is {whole:.3g} nats: information lies beside the {kept} pairs"
        )
    return ask.estimate(
        value,
        variance,
        n=len(x),
        d=x.shape[1] + y.shape[1],
        method="gaussian (spiked)",
        doubts=doubts,
        diagnostics={
            "pairs": kept,
            "unbiased": whole,
            "design_effect": pair.design_effect,
            **permutation_p_value(pair, ask),
        },
    )


def gaussian_pair(x: Rows, y: Rows, ask: Request) -> Estimate:
    """The unbiased estimate, with an interval that also uses what the spikes prove.

    `[max(spiked_low, unbiased_low), unbiased_high]`: strong pairs carry at least what they
    carry, and nothing but the unbiased estimate bounds what may lie beside them. The value is
    the unbiased one, moved into the interval where it falls below.

    Raises:
        ValueError: n - 1 < d_x + d_y.
    """
    pair = canonical(x, y, ask.codes)
    return of_pair(pair, ask, method="gaussian (unbiased and spiked)", front={})


def of_pair(pair: Canonical, ask: Request, *, method: str, front: dict[str, Any]) -> Estimate:
    """`gaussian_pair` of canonical correlations; `front` goes into the diagnostics."""
    whole, spread = unbiased(pair)
    strong, variance, kept = of_spikes(pair)
    low = max(strong - ask.z * variance**0.5 if kept else -np.inf, whole - ask.z * spread**0.5)
    high = whole + ask.z * spread**0.5
    return ask.estimate(
        max(whole, low),
        (low, max(low, high)),
        n=pair.rows,
        d=sum(pair.dims),
        method=method,
        doubts=list(gaussian_checks(pair)),
        diagnostics={
            **front,
            "unbiased": whole,
            "spiked": strong,
            "pairs": kept,
            "design_effect": pair.design_effect,
            **permutation_p_value(pair, ask),
        },
    )


def of_spikes(pair: Canonical) -> tuple[float, float, int]:
    """The information of the kept pairs in nats, its variance, and their number.

    The delta method through the inverse map: `var l = 4 l (1-l)^2 / v` for a sample value l,
    widened by `(1 - (p+q)/v)^-1/2` (measured: 90 % intervals cover .88 to .91).
    """
    v, (p, q) = pair.freedom, pair.dims
    rho = spiked_correlations(pair)
    if not rho.size:
        return 0.0, 0.0 + _floor(v), 0
    c1, c2 = p / v, q / v
    sample = ((1 - c1) * rho + c1) * ((1 - c2) * rho + c2) / rho
    slope = (1 - c1) * (1 - c2) - c1 * c2 / rho**2
    per_pair = 4 * sample * (1 - sample) ** 2 / v * (0.5 / (slope * (1 - rho))) ** 2
    variance = float(np.sum(per_pair)) / max(1 - (p + q) / v, 1 / v) ** 0.5
    return -0.5 * float(np.log1p(-rho).sum()), variance + _floor(v), int(rho.size)


def _floor(v: float) -> float:
    """Variance of one pair just below the threshold, so that no interval is a point."""
    return 1.0 / v**2
