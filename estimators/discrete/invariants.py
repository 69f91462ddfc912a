"""Shannon invariants: degrees of redundancy and vulnerability, without a PID measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy.special import ndtri

from estimators._pmf import as_pmf
from estimators._student import wide_reason
from estimators._validate import check_fraction
from estimators.discrete._estimate import (
    alphabet_sizes,
    coverage_reason,
    few_rows_reason,
    possible,
    sample_coverage,
    standard_error,
)
from estimators.discrete._samples import as_codes, measure_of
from estimators.discrete._terms import exact_value, invariant_terms
from estimators.discrete.corrections import check_method
from estimators.estimate import Estimate

# Total information that is zero up to rounding.
_ZERO = 1e-12
# Fewest standard errors between the total and zero for an interval of a ratio.
_SIGNIFICANT = 4.0


@dataclass(frozen=True)
class ShannonInvariants:
    """Degrees of redundancy and vulnerability of v sources about a target, in [0, v].

    Attributes:
        redundancy_degree: r = sum_i I(X_i; Y) / I(X; Y): mean number of
            sources that have a piece of the information.
        vulnerability_degree: v = sum_i I(X_i; Y | X_-i) / I(X; Y): mean number of
            sources without any of which a piece of the information is lost.
    """

    redundancy_degree: float
    vulnerability_degree: float


def shannon_invariants_pmf(p: ArrayLike) -> ShannonInvariants:
    """Redundancy degree and vulnerability degree of a pmf whose last axis is the target.

        r = sum_i I(X_i; Y) / I(X; Y),    v = sum_i I(X_i; Y | X_-i) / I(X; Y)

    Args:
        p: pmf with at least two axes: the sources, then the target.

    Returns:
        ShannonInvariants, pure numbers.

    Raises:
        ValueError: as `entropy_pmf`; fewer than two axes; sources without information about
            the target.

    Source:
        Gutknecht et al. 2025, "Shannon invariants", arXiv 2504.15779.

    Example:
        >>> xor = [[[0.25, 0.0], [0.0, 0.25]], [[0.0, 0.25], [0.25, 0.0]]]
        >>> shannon_invariants_pmf(xor)
        ShannonInvariants(redundancy_degree=0.0, vulnerability_degree=2.0)
    """
    pmf = as_pmf(p, counts="estimators.discrete.shannon_invariants, as samples")
    if pmf.ndim < 2:
        raise ValueError(f"p needs sources and a target, at least 2 axes, got shape {pmf.shape}")
    single, last, total = (exact_value(pmf, terms) for terms in invariant_terms(pmf.ndim))
    if total <= _ZERO:
        raise ValueError(
            "the sources have no information about the target: the degrees are undefined"
        )
    return ShannonInvariants(max(0.0, single) / total, max(0.0, last) / total)


def shannon_invariants(
    *variables: ArrayLike,
    method: str = "grassberger",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
) -> tuple[Estimate, Estimate]:
    """Redundancy degree and vulnerability degree from samples; the last variable is the target.

    Numerator and denominator are corrected entropies (see `entropy_counts`); the interval is
    the delta method for their ratio.

    Args:
        *variables: the sources, then the target: at least two arrays of shape (n,), or (n, k)
            whose rows are the symbols.
        method: correction of the entropies.
        level: confidence of the intervals, in (0, 1).
        alphabets: alphabet size of each variable, used by "nsb"; default the observed size.

    Returns:
        Two Estimates with unit "1": redundancy degree, vulnerability degree. Unreliable where
        the sample is too small or the total information is below 4 standard errors; NaN where
        the total is not positive.

    Raises:
        ValueError: as `mutual_information`; fewer than two variables.

    Source:
        Gutknecht et al. 2025, arXiv 2504.15779.

    Example:
        >>> x, z = [0, 0, 1, 1] * 50, [0, 1, 0, 1] * 50
        >>> r, v = shannon_invariants(x, z, [a ^ b for a, b in zip(x, z)], method="plugin")
        >>> r.value, v.value
        (0.0, 2.0)
    """
    if len(variables) < 2:
        raise ValueError(f"sources and a target are needed, got {len(variables)} variables")
    check_method(method)
    check_fraction(level, "level")
    codes = as_codes(**{f"variable {i}": values for i, values in enumerate(variables)})
    sizes = alphabet_sizes(codes, alphabets)
    single, last, total = (
        measure_of(codes, terms, method, sizes) for terms in invariant_terms(codes.shape[1])
    )
    coverage = sample_coverage(codes)
    reason = coverage_reason(coverage)
    base, base_influence, base_freedom = total
    base_error = standard_error(base_influence, base_freedom, base - base_influence.mean())
    if base < _SIGNIFICANT * base_error:
        reason = (
            f"the total information, {base:.3g} nats, is not clearly positive "
            f"(standard error {base_error:.2g}); more samples are needed"
        )
    z = float(ndtri(0.5 + 0.5 * level))
    estimates = []
    for value, influence, freedom in (single, last):
        if base <= 0.0:
            ratio, interval = math.nan, (-math.inf, math.inf)
        else:
            ratio = value / base
            # d(a/b) = (da - (a/b) db) / b, for influences and corrections.
            slope = (influence - ratio * base_influence) / base
            moved = (value - influence.mean() - ratio * (base - base_influence.mean())) / base
            squares = (freedom + ratio**2 * base_freedom) / base**2
            error = standard_error(slope, squares, float(moved))
            limits = (0.0, float(codes.shape[1] - 1))
            interval = possible((ratio - z * error, ratio + z * error), limits)
        lines = (few_rows_reason(len(codes)), reason, wide_reason(ratio, interval))
        doubts = "; ".join(line for line in lines if line)
        estimates.append(
            Estimate(
                value=ratio,
                interval=interval,
                level=level,
                n=len(codes),
                method=method,
                reliable=not doubts,
                reason=doubts,
                diagnostics={"total_nats": base, "coverage": coverage},
            )
        )
    return estimates[0], estimates[1]
