"""Entropy and mutual information of discrete variables, estimated from samples."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from estimators.discrete._estimate import Permutations, estimate_measure
from estimators.discrete._samples import as_codes
from estimators.discrete._terms import (
    Terms,
    conditional_mutual_information_terms,
    entropy_limits,
    pair_limits,
)
from estimators.estimate import Estimate


def entropy(
    x: ArrayLike,
    *,
    method: str = "grassberger",
    unit: str = "nats",
    level: float = 0.95,
    alphabet: int | None = None,
) -> Estimate:
    """Entropy H(X) of a discrete variable, from samples.

    The value is `entropy_counts` of the symbol counts. The interval is

        value -+ z sqrt( var(log p(x_i)) / n + (k - 1) / (2 n^2) + (share * correction)^2 ),

    with the delta method, its second-order term (the only one at the uniform distribution), and
    a share (0.15) of the bias correction. "grassberger" adds the variance of its (-1)^m term,
    k / (4 n^2). The upper end allows for one symbol that n draws may have missed. Where f1
    symbols occur once and f2 twice, the sample misses about f1 (f1 - 1) / (2 f2) symbols, up to
    10^6 without repeats: the upper end then rises by (f1 / n) ln(1 + missed), with the upper
    95 % limit for f1 and the lower for f2, and by what `method` corrects less than
    "grassberger". No end leaves [0, ln k], where k is
    infinite if f1 > 0 and no alphabet is given.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols. Rows are
            independent.
        method: "plugin", "miller-madow", "grassberger", "chao-shen" or "nsb".
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabet: alphabet size, used by "nsb" and for the largest possible entropy; default the
            observed size.

    Returns:
        Estimate; the value is not clipped. Reliable if the half width is at most 0.1 nat or 10 %
        of the value, from 20 rows on. Diagnostics: plugin (in `unit`), coverage (estimated
        probability of the observed symbols; below 0.9 the estimate is unreliable), symbols.

    Raises:
        ValueError: an empty, non-categorical or wrongly shaped x; unknown method or unit; a
            level outside (0, 1); an alphabet smaller than observed.

    Source:
        See `entropy_counts`; delta method: Basharin 1959; coverage: Good 1953.

    Example:
        >>> print(entropy([0, 1] * 50, unit="bits", method="miller-madow"))
        1.007 bits [0.9871, 1] (95 %, n=100, miller-madow)
    """
    terms: Terms = ((1.0, (0,)),)
    alphabets = None if alphabet is None else [alphabet]
    return estimate_measure(as_codes(x=x), terms, method, unit, level, alphabets, entropy_limits)


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
    log p(x, y) / (p(x) p(y)) and (kx - 1)(ky - 1) degrees of freedom; where pairs of symbols
    were not observed it allows for one that n draws may have missed. Missed symbols of x or y
    raise the upper end as in `entropy`, missed pairs lower the lower end. No end leaves
    [0, ln min(kx, ky)], with k infinite as in `entropy`. The p-value permutes x.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols.
        y: likewise.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: alphabet sizes of x and y, used by "nsb"; default the observed sizes.
        permutations: number of random permutations for a p-value; 0 for none.
        seed: seed of the permutations.

    Returns:
        Estimate; the value is not clipped, it may be below zero. Diagnostics as `entropy`, and with
        permutations p_value (of the plug-in value under independence) and null_mean.

    Raises:
        ValueError: as `entropy`; numbers of rows that differ; negative `permutations`.

    Source:
        See `entropy_counts`; permutation test: Fisher 1935.

    Example:
        >>> x = [0, 1, 2, 3] * 25
        >>> e = mutual_information(x, x, unit="bits", method="plugin", permutations=99)
        >>> e.value, e.diagnostics["p_value"]
        (2.0, 0.01)
    """
    terms = conditional_mutual_information_terms((0,), (1,))
    codes = as_codes(x=x, y=y)
    null = Permutations((0,), (), permutations, seed)
    return estimate_measure(codes, terms, method, unit, level, alphabets, pair_limits, null)


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

    As `mutual_information`; the p-value permutes x among rows with equal z.

    Args:
        x: categories, array of shape (n,), or (n, k) whose rows are the symbols.
        y: likewise.
        z: condition, likewise.
        method: correction of the entropies, see `entropy_counts`.
        unit: "nats" or "bits".
        level: confidence of the interval, in (0, 1).
        alphabets: alphabet sizes of x, y, z, used by "nsb"; default the observed sizes.
        permutations: number of random permutations for a p-value; 0 for none.
        seed: seed of the permutations.

    Returns:
        Estimate with the diagnostics of `mutual_information`.

    Raises:
        ValueError: as `mutual_information`.

    Source:
        As `mutual_information`; permutation within strata: Rosenbaum 1984.

    Example:
        >>> x, z = [0, 0, 1, 1] * 30, [0, 1, 0, 1] * 30
        >>> y = [a ^ b for a, b in zip(x, z)]
        >>> conditional_mutual_information(x, y, z, unit="bits", method="plugin").value
        1.0
    """
    terms = conditional_mutual_information_terms((0,), (1,), (2,))
    codes = as_codes(x=x, y=y, z=z)
    null = Permutations((0,), (2,), permutations, seed)
    return estimate_measure(codes, terms, method, unit, level, alphabets, pair_limits, null)
