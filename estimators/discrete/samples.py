"""Information measures from samples of discrete variables, with intervals and nulls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from estimators._pmf import check_unit
from estimators._validate import check_fraction
from estimators.discrete._null import p_value, permuted_values
from estimators.discrete._samples import Codes, as_codes, joint_codes, measure_of
from estimators.discrete._terms import (
    Axes,
    Terms,
    co_information_terms,
    conditional_mutual_information_terms,
    dual_total_correlation_terms,
    total_correlation_terms,
)
from estimators.discrete.corrections import check_method
from estimators.estimate import Estimate

# Share of the correction that is taken to be its own error; from measured coverage.
_BIAS_SHARE = 0.15
# Below this share of the probability on symbols that were seen, no correction is trusted.
_COVERAGE = 0.9


def entropy(
    x: ArrayLike,
    *,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabet: int | None = None,
) -> Estimate:
    """Entropy H(X) of a discrete variable, from samples.

    The value is `entropy_counts` of how often each symbol occurs. The interval is

        value -+ z sqrt( var(log p(x_i)) / n + (k - 1) / (2 n^2) + (share * correction)^2 ),

    the delta method, its second-order term (all there is at the uniform distribution), and a
    share (0.15) of what the correction changed. For "grassberger" the noise of its (-1)^m term,
    k / (4 n^2), is added.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols. Rows are
            independent units.
        method: "plugin", "miller-madow", "grassberger", "chao-shen" or "nsb".
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabet: number of possible symbols, used by "nsb"; default those that were seen.

    Returns:
        Estimate, not clipped. Diagnostics: plugin (in `unit`), coverage (estimated probability
        of the symbols seen; below 0.9 the estimate is unreliable), symbols.

    Raises:
        ValueError: an empty, non-categorical or wrongly shaped x; unknown method or unit; a
            level outside (0, 1); an alphabet smaller than what was seen.

    Source:
        See `entropy_counts`; delta method: Basharin 1959; coverage: Good 1953.

    Example:
        >>> print(entropy([0, 1] * 50, unit="bits", method="miller-madow"))
        1.007 bits [0.9871, 1.027] (95 %, n=100, miller-madow)
    """
    terms: Terms = ((1.0, (0,)),)
    alphabets = None if alphabet is None else [alphabet]
    return _measured(as_codes(x=x), terms, method, unit, level, alphabets)


def mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """Mutual information I(X; Y) = H(X) + H(Y) - H(X, Y) of discrete variables, from samples.

    Each entropy is corrected by `method`. The interval is that of `entropy` with the influence
    log p(x, y) / (p(x) p(y)) and (kx - 1)(ky - 1) degrees of freedom. The null permutes x.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols.
        y: likewise.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: number of possible symbols of x and y, used by "nsb"; default those seen.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes the permutations.

    Returns:
        Estimate, not clipped: it may be below zero. Diagnostics as `entropy`, and with
        permutations p_value (of a plug-in value as large under independence), null_mean.

    Raises:
        ValueError: as `entropy`; numbers of rows that differ; negative `permutations`.

    Source:
        See `entropy_counts`; the null: Fisher 1935 (permutation test).

    Example:
        >>> x = [0, 1, 2, 3] * 25
        >>> e = mutual_information(x, x, unit="bits", method="plugin", permutations=99)
        >>> e.value, e.diagnostics["p_value"]
        (2.0, 0.01)
    """
    terms = conditional_mutual_information_terms((0,), (1,))
    codes = as_codes(x=x, y=y)
    null = _Null((0,), (), permutations, seed)
    return _measured(codes, terms, method, unit, level, alphabets, null)


def conditional_mutual_information(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike,
    *,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """I(X; Y | Z) = H(X, Z) + H(Y, Z) - H(X, Y, Z) - H(Z) of discrete variables, from samples.

    As `mutual_information`; the null permutes x among rows with equal z.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols.
        y: likewise.
        z: likewise; what is given.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: number of possible symbols of x, y, z, used by "nsb"; default those seen.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes the permutations.

    Returns:
        Estimate with the diagnostics of `mutual_information`.

    Raises:
        ValueError: as `mutual_information`.

    Source:
        As `mutual_information`; null within strata: Rosenbaum 1984.

    Example:
        >>> x, z = [0, 0, 1, 1] * 30, [0, 1, 0, 1] * 30
        >>> y = [a ^ b for a, b in zip(x, z)]
        >>> conditional_mutual_information(x, y, z, unit="bits", method="plugin").value
        1.0
    """
    terms = conditional_mutual_information_terms((0,), (1,), (2,))
    codes = as_codes(x=x, y=y, z=z)
    null = _Null((0,), (2,), permutations, seed)
    return _measured(codes, terms, method, unit, level, alphabets, null)


def co_information(
    *variables: ArrayLike,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """Co-information of discrete variables: sum over non-empty A of (-1)^(|A| + 1) H(X_A).

    As `mutual_information`; the null permutes the last variable against the others, and its
    p-value is two-sided, because co-information has either sign.

    Args:
        *variables: at least two, each of shape (n,), or (n, k) whose rows are the symbols.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: number of possible symbols of each, used by "nsb"; default those seen.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes the permutations.

    Returns:
        Estimate with the diagnostics of `mutual_information`.

    Raises:
        ValueError: as `mutual_information`; fewer than two variables.

    Source:
        Bell 2003, "The co-information lattice".

    Example:
        >>> x, z = [0, 0, 1, 1] * 30, [0, 1, 0, 1] * 30
        >>> co_information(x, z, [a ^ b for a, b in zip(x, z)], unit="bits", method="plugin").value
        -1.0
    """
    codes = _several(variables)
    v = codes.shape[1]
    null = _Null((v - 1,), (), permutations, seed, two_sided=True)
    return _measured(codes, co_information_terms(v), method, unit, level, alphabets, null)


def total_correlation(
    *variables: ArrayLike,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """Total correlation sum_i H(X_i) - H(X) of discrete variables, from samples.

    As `mutual_information`; the null permutes every variable by itself.

    Args:
        *variables: at least two, each of shape (n,), or (n, k) whose rows are the symbols.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: number of possible symbols of each, used by "nsb"; default those seen.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes the permutations.

    Returns:
        Estimate with the diagnostics of `mutual_information`.

    Raises:
        ValueError: as `co_information`.

    Source:
        Watanabe 1960.

    Example:
        >>> x = [0, 1] * 40
        >>> total_correlation(x, x, x, unit="bits", method="plugin").value
        2.0
    """
    codes = _several(variables)
    v = codes.shape[1]
    null = _Null(tuple(range(1, v)), (), permutations, seed)
    return _measured(codes, total_correlation_terms(v), method, unit, level, alphabets, null)


def dual_total_correlation(
    *variables: ArrayLike,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabets: Sequence[int] | None = None,
    permutations: int = 0,
    seed: int = 0,
) -> Estimate:
    """Dual total correlation H(X) - sum_i H(X_i | X_-i) of discrete variables, from samples.

    As `total_correlation`.

    Args:
        *variables: at least two, each of shape (n,), or (n, k) whose rows are the symbols.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: number of possible symbols of each, used by "nsb"; default those seen.
        permutations: how many permutations the null has; 0 for none.
        seed: fixes the permutations.

    Returns:
        Estimate with the diagnostics of `mutual_information`.

    Raises:
        ValueError: as `co_information`.

    Source:
        Han 1978.

    Example:
        >>> x = [0, 1] * 40
        >>> dual_total_correlation(x, x, x, unit="bits", method="plugin").value
        1.0
    """
    codes = _several(variables)
    v = codes.shape[1]
    null = _Null(tuple(range(1, v)), (), permutations, seed)
    return _measured(codes, dual_total_correlation_terms(v), method, unit, level, alphabets, null)


def sample_coverage(codes: Codes) -> float:
    """Good's estimate of the probability of the joint symbols that were seen: 1 - f1 / n."""
    counts = np.bincount(joint_codes(codes, tuple(range(codes.shape[1]))))
    return 1.0 - float((counts == 1).sum()) / len(codes)


def coverage_reason(coverage: float) -> str:
    """Why a sample of this coverage is not to be trusted, or an empty string."""
    if coverage >= _COVERAGE:
        return ""
    return (
        f"the joint symbols seen hold about {100 * coverage:.0f} % of the probability; "
        f"at least {100 * _COVERAGE:.0f} % are wanted: more samples or fewer symbols"
    )


def standard_error(influence: NDArray[np.float64], freedom: float, correction: float) -> float:
    """Delta method, second-order term, and a share of the correction, added in squares."""
    n = influence.size
    variance = float(influence.var()) / n + freedom / (2.0 * n * n)
    return math.sqrt(variance + (_BIAS_SHARE * correction) ** 2)


class _Null:
    """What is permuted, within which strata, how often."""

    def __init__(
        self, shuffled: Axes, strata: Axes, permutations: int, seed: int, *, two_sided: bool = False
    ) -> None:
        if permutations < 0:
            raise ValueError(f"permutations must be at least 0, got {permutations}")
        self.shuffled, self.strata, self.two_sided = shuffled, strata, two_sided
        self.permutations, self.seed = permutations, seed


def _several(variables: tuple[ArrayLike, ...]) -> Codes:
    if len(variables) < 2:
        raise ValueError(f"at least two variables are needed, got {len(variables)}")
    return as_codes(**{f"variable {i}": values for i, values in enumerate(variables)})


def alphabet_sizes(codes: Codes, alphabets: Sequence[int] | None) -> tuple[int, ...]:
    """Number of possible symbols of each variable: those given, else those seen."""
    seen = tuple(int(size) for size in codes.max(axis=0) + 1)
    if alphabets is None:
        return seen
    if len(alphabets) != len(seen):
        raise ValueError(f"{len(seen)} variables but {len(alphabets)} alphabet sizes")
    for i, (given, least) in enumerate(zip(alphabets, seen, strict=True)):
        if given < least:
            raise ValueError(
                f"variable {i} shows {least} symbols but its alphabet is said to have {given}"
            )
    return tuple(int(size) for size in alphabets)


def _measured(
    codes: Codes,
    terms: Terms,
    method: str,
    unit: str,
    level: float,
    alphabets: Sequence[int] | None,
    null: _Null | None = None,
) -> Estimate:
    check_method(method)
    scale = check_unit(unit)
    check_fraction(level, "level")
    sizes = alphabet_sizes(codes, alphabets)
    value, influence, freedom = measure_of(codes, terms, method, sizes)
    plugin = float(influence.mean())  # the mean of the influence is the plug-in
    error = standard_error(influence, freedom, value - plugin)
    half = float(ndtri(0.5 + 0.5 * level)) * error
    coverage = sample_coverage(codes)
    reason = coverage_reason(coverage)
    diagnostics: dict[str, float | int | str] = {
        "plugin": plugin / scale,
        "coverage": coverage,
        "symbols": int(joint_codes(codes, tuple(range(codes.shape[1]))).max()) + 1,
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
        interval=((value - half) / scale, (value + half) / scale),
        level=level,
        n=len(codes),
        unit=unit,
        method=method,
        reliable=not reason,
        reason=reason,
        diagnostics=diagnostics,
    )
