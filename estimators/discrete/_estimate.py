"""The `Estimate` of a discrete measure: interval, coverage of the alphabet, permutation p-value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from estimators._pmf import check_unit
from estimators._reliability import verdict
from estimators._validate import check_fraction
from estimators.discrete._null import p_value, permuted_values
from estimators.discrete._samples import Codes, joint_codes, measure_of
from estimators.discrete._terms import Axes, Terms
from estimators.discrete._unseen import open_alphabets, unseen_moves
from estimators.discrete.corrections import check_method
from estimators.estimate import Estimate

# Standard error of the correction, as a share of it; from measured coverage.
_BIAS_SHARE = 0.15
# Smallest coverage (probability of the observed symbols) of a reliable estimate.
_COVERAGE = 0.9
# Fewest rows of a reliable estimate.
_ROWS = 20

# Smallest and largest possible value.
Limits = tuple[float, float]


def sample_coverage(codes: Codes) -> float:
    """Good's estimate of the probability of the observed joint symbols: 1 - f1 / n."""
    counts = np.bincount(joint_codes(codes, tuple(range(codes.shape[1]))))
    return 1.0 - float((counts == 1).sum()) / len(codes)


def coverage_reason(coverage: float) -> str:
    """Reason why a sample of low coverage is unreliable; may be empty."""
    if coverage >= _COVERAGE:
        return ""
    return (
        f"the observed joint symbols have about {100 * coverage:.0f} % of the probability; "
        f"at least {100 * _COVERAGE:.0f} % are needed: use more samples or fewer symbols"
    )


def few_rows_reason(n: int) -> str:
    """Reason why so few rows are unreliable; may be empty."""
    if n >= _ROWS:
        return ""
    return f"{n} rows are too few for an interval of a discrete measure; {_ROWS} are needed"


def standard_error(influence: NDArray[np.float64], freedom: float, correction: float) -> float:
    """Root sum of squares of delta method, second-order term and a share of the correction."""
    n = influence.size
    variance = float(influence.var()) / n + freedom / (2.0 * n * n)
    return math.sqrt(variance + (_BIAS_SHARE * correction) ** 2)


def unseen_entropy(n: int, level: float) -> float:
    """Entropy in nats of a symbol that n draws may have missed: h(u) with (1 - u)^n = 1 - level."""
    u = min(0.5, -math.expm1(math.log1p(-level) / n))
    return -u * math.log(u) - (1.0 - u) * math.log1p(-u)


def possible(interval: tuple[float, float], limits: Limits) -> tuple[float, float]:
    """The part of an interval that the measure can reach."""
    low, high = limits
    return min(max(interval[0], low), high), max(min(interval[1], high), low)


class Permutations:
    """Settings of a permutation test: permuted variables, strata, number."""

    def __init__(
        self, shuffled: Axes, strata: Axes, permutations: int, seed: int, *, two_sided: bool = False
    ) -> None:
        if permutations < 0:
            raise ValueError(f"permutations must be at least 0, got {permutations}")
        self.shuffled, self.strata, self.two_sided = shuffled, strata, two_sided
        self.permutations, self.seed = permutations, seed


def alphabet_sizes(codes: Codes, alphabets: Sequence[int] | None) -> tuple[int, ...]:
    """Alphabet size of each variable; default the observed size."""
    seen = tuple(int(size) for size in codes.max(axis=0) + 1)
    if alphabets is None:
        return seen
    if len(alphabets) != len(seen):
        raise ValueError(f"{len(seen)} variables but {len(alphabets)} alphabet sizes")
    for i, (given, least) in enumerate(zip(alphabets, seen, strict=True)):
        if given < least:
            raise ValueError(f"variable {i} has {least} symbols but its alphabet size is {given}")
    return tuple(int(size) for size in alphabets)


def estimate_measure(
    codes: Codes,
    terms: Terms,
    method: str,
    unit: str,
    level: float,
    alphabets: Sequence[int] | None,
    limits: Callable[[Sequence[float]], Limits],
    null: Permutations | None = None,
) -> Estimate:
    """Estimate a signed sum of entropies, with interval, coverage and p-value.

    `limits` gives the smallest and the largest value of the measure, in nats, by the sizes of the
    alphabets; an alphabet that is neither given nor complete has no largest size. Where symbols
    may be missing from the sample, the interval extends by `unseen_moves` and at least to
    `unseen_entropy`: of one variable upwards, of several in both directions.
    """
    check_method(method)
    scale = check_unit(unit)
    check_fraction(level, "level")
    sizes = alphabet_sizes(codes, alphabets)
    value, influence, freedom = measure_of(codes, terms, method, sizes)
    plugin = float(influence.mean())  # the mean of the influence is the plug-in
    error = standard_error(influence, freedom, value - plugin)
    n, symbols = len(codes), int(joint_codes(codes, tuple(range(codes.shape[1]))).max()) + 1
    half = float(ndtri(0.5 + 0.5 * level)) * error
    largest = open_alphabets(codes, alphabets)
    down, up = unseen_moves(codes, terms, method, sizes, largest)
    low, high = value - half - down, value + half + up
    if codes.shape[1] == 1 and (alphabets is None or symbols < sizes[0]):
        high = max(high, value + unseen_entropy(n, level))
    elif symbols < math.prod(sizes) or min(sizes) == 1:
        low = min(low, value - unseen_entropy(n, level))
        high = max(high, value + unseen_entropy(n, level))
    # One symbol may be one of two: an alphabet of size one would rule out any entropy.
    low, high = possible((low, high), limits([max(size, 2.0) for size in largest]))
    coverage = sample_coverage(codes)
    _, reason = verdict(value, (low, high), [few_rows_reason(n), coverage_reason(coverage)])
    diagnostics: dict[str, float | int | str] = {
        "plugin": plugin / scale,
        "coverage": coverage,
        "symbols": symbols,
    }
    if null is not None and null.permutations:
        values = permuted_values(
            codes,
            terms,
            shuffled=null.shuffled,
            strata=null.strata,
            permutations=null.permutations,
            rng=np.random.default_rng(null.seed),
        )
        diagnostics["p_value"] = p_value(plugin, values, two_sided=null.two_sided)
        diagnostics["null_mean"] = float(values.mean()) / scale
        diagnostics["permutations"] = null.permutations
    return Estimate(
        value=value / scale,
        interval=(low / scale, high / scale),
        level=level,
        n=n,
        unit=unit,
        method=method,
        reliable=not reason,
        reason=reason,
        diagnostics=diagnostics,
    )
