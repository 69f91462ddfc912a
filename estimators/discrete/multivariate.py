"""Co-information, total and dual total correlation of discrete variables, from samples."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from estimators.discrete._estimate import Permutations, estimate_measure
from estimators.discrete._samples import Codes, as_codes
from estimators.discrete._terms import (
    co_information_limits,
    co_information_terms,
    correlation_limits,
    dual_total_correlation_terms,
    total_correlation_terms,
)
from estimators.estimate import Estimate


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

    As `mutual_information`; the p-value permutes the last variable against the others and is
    two-sided, because co-information may have either sign.

    Args:
        *variables: at least two, each of shape (n,), or (n, k) whose rows are the symbols.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: alphabet sizes, used by "nsb"; default the observed sizes.
        permutations: number of random permutations for a p-value; 0 for none.
        seed: seed of the permutations.

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
    null = Permutations((v - 1,), (), permutations, seed, two_sided=True)
    terms, limits = co_information_terms(v), co_information_limits
    return estimate_measure(codes, terms, method, unit, level, alphabets, limits, null)


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

    As `mutual_information`; the p-value permutes every variable separately.

    Args:
        *variables: at least two, each of shape (n,), or (n, k) whose rows are the symbols.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: alphabet sizes, used by "nsb"; default the observed sizes.
        permutations: number of random permutations for a p-value; 0 for none.
        seed: seed of the permutations.

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
    null = Permutations(tuple(range(1, v)), (), permutations, seed)
    terms, limits = total_correlation_terms(v), correlation_limits
    return estimate_measure(codes, terms, method, unit, level, alphabets, limits, null)


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
        alphabets: alphabet sizes, used by "nsb"; default the observed sizes.
        permutations: number of random permutations for a p-value; 0 for none.
        seed: seed of the permutations.

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
    null = Permutations(tuple(range(1, v)), (), permutations, seed)
    terms, limits = dual_total_correlation_terms(v), correlation_limits
    return estimate_measure(codes, terms, method, unit, level, alphabets, limits, null)


def _several(variables: tuple[ArrayLike, ...]) -> Codes:
    if len(variables) < 2:
        raise ValueError(f"at least two variables are needed, got {len(variables)}")
    return as_codes(**{f"variable {i}": values for i, values in enumerate(variables)})
