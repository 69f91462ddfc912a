"""Entropy estimates from counts: the plug-in and bias corrections."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, gammaln, polygamma, xlogy

from estimators._pmf import check_unit

Counts = NDArray[np.int64]

# Drop of the log posterior below its peak at which the integral over beta is truncated.
_NSB_CUT = 45.0
_NSB_POINTS = 200


def as_counts(counts: ArrayLike, *, axes: str = "", name: str = "counts") -> Counts:
    """`counts` as an int64 array of non-negative whole numbers with a positive sum.

    Args:
        counts: array of whole numbers.
        axes: names of the axes, for example "x1, x2, y"; any number of axes where empty.
        name: name of `counts` in messages.

    Raises:
        ValueError: wrong number of axes, a number that is not finite, negative or not whole
            (with its position), a sum of zero.

    Example:
        >>> as_counts([2, -1])
        Traceback (most recent call last):
        ValueError: counts[1] = -1; counts are whole numbers, at least 0
    """
    array = np.asarray(counts)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be whole numbers, got dtype {array.dtype}")
    wanted = len(axes.split(",")) if axes else None
    if (wanted is not None and array.ndim != wanted) or array.ndim == 0:
        shape = f"{wanted} axes {name}[{axes}]" if axes else "at least one axis"
        raise ValueError(f"{name} must have {shape}, got shape {array.shape}")
    bad = ~np.isfinite(array) | (array < 0) | (array != np.rint(array))
    if bad.any():
        where = ", ".join(map(str, np.argwhere(bad)[0]))
        raise ValueError(
            f"{name}[{where}] = {array[bad][0]:g}; counts are whole numbers, at least 0"
        )
    if not array.sum():
        raise ValueError(f"{name} of shape {array.shape} counts nothing; give at least one draw")
    return array.astype(np.int64)


def entropy_counts(
    counts: ArrayLike,
    *,
    method: str = "grassberger",
    alphabet: int | None = None,
    unit: str = "nats",
) -> float:
    """Entropy estimated from counts of symbols.

    With counts n_i, n = sum n_i, k observed symbols, f1 of them once, an alphabet of K symbols:

        plugin        -sum (n_i/n) log(n_i/n)
        miller-madow  plugin + (k - 1) / (2 n)
        grassberger   log n - (1/n) sum n_i G(n_i),
                      G(m) = psi(m) + (-1)^m/2 (psi((m+1)/2) - psi(m/2))
        chao-shen     -sum q_i log q_i / (1 - (1 - q_i)^n),  q_i = (1 - f1/n) n_i/n
        nsb           posterior mean under Dirichlet(beta, ..., beta) priors mixed such that the
                      prior of the entropy is nearly flat on [0, log K]

    Args:
        counts: non-negative whole numbers of any shape.
        method: one of the above.
        alphabet: K, used by "nsb" only; default the number of entries of `counts`.
        unit: "nats" or "bits".

    Returns:
        The entropy in `unit`.

    Raises:
        ValueError: invalid counts (see `as_counts`), unknown method or unit, an alphabet smaller
            than the number of observed symbols.

    Source:
        Miller 1955; Grassberger 2003, arXiv physics/0307138 (the estimator with G_n); Chao & Shen
        2003, with the coverage of Good 1953; Nemenman, Shafee & Bialek 2001, arXiv
        physics/0108025 (the mixture over beta), moments of Wolpert & Wolf 1995.

    Example:
        >>> counts = [4, 2, 1, 1]
        >>> round(entropy_counts(counts, method="plugin", unit="bits"), 3)
        1.75
        >>> round(entropy_counts(counts, method="nsb", unit="bits"), 2)
        1.79
    """
    table = as_counts(counts)
    scale = check_unit(unit)
    check_method(method)
    seen = table[table > 0].ravel()
    size = table.size if alphabet is None else alphabet
    if size < seen.size:
        raise ValueError(f"{seen.size} symbols were observed but alphabet is {size}")
    return CORRECTIONS[method](seen, size) / scale


def check_method(method: str) -> None:
    """Raise ValueError for an unknown correction."""
    if method not in CORRECTIONS:
        raise ValueError(f"unknown method '{method}'; choose from {', '.join(CORRECTIONS)}")


def plugin(seen: Counts, alphabet: int = 0) -> float:
    """Maximum likelihood estimate from positive counts."""
    n = seen.sum()
    return float(np.log(n) - xlogy(seen, seen).sum() / n)


def miller_madow(seen: Counts, alphabet: int = 0) -> float:
    """Plug-in with first-order bias correction."""
    return plugin(seen) + (seen.size - 1) / (2.0 * float(seen.sum()))


def grassberger(seen: Counts, alphabet: int = 0) -> float:
    """Entropy as log n - (1/n) sum m G(m), Grassberger 2003."""
    n = seen.sum()
    return float(np.log(n) - grassberger_terms(seen).sum() / n)


def grassberger_terms(counts: Counts) -> NDArray[np.float64]:
    """Terms m G(m) of every count m, 0 for m = 0; any shape."""
    m = np.maximum(counts, 1)
    sign = 1.0 - 2.0 * (m % 2)
    g = digamma(m) + 0.5 * sign * (digamma(0.5 * (m + 1)) - digamma(0.5 * m))
    terms: NDArray[np.float64] = counts * g
    return terms


def chao_shen(seen: Counts, alphabet: int = 0) -> float:
    """Horvitz-Thompson estimate over observed symbols, with Good's coverage."""
    n = int(seen.sum())
    singletons = int((seen == 1).sum())
    # If all symbols occur once, the coverage would be zero: treat one as occurring twice.
    coverage = 1.0 - min(singletons, n - 1) / n
    q = coverage * seen / n
    inclusion = -np.expm1(n * np.log1p(-np.minimum(q, 1.0 - 1e-16)))
    return float(-(xlogy(q, q) / inclusion).sum())


def nsb(seen: Counts, alphabet: int) -> float:
    """Posterior mean of the entropy, integrated over u = log beta."""
    if alphabet == 1:
        return 0.0
    size, how_many = np.unique(seen, return_counts=True)
    size = np.append(size, 0).astype(np.float64)
    how_many = np.append(how_many, alphabet - seen.size).astype(np.float64)

    def log_weight(u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log posterior density of u up to a constant: evidence times d xi / du."""
        beta = np.exp(u)[:, None]
        total = alphabet * beta[:, 0]
        evidence = (
            gammaln(total)
            - gammaln(size @ how_many + total)
            + ((gammaln(size + beta) - gammaln(beta)) * how_many).sum(axis=1)
        )
        slope = alphabet * polygamma(1, total + 1.0) - polygamma(1, beta[:, 0] + 1.0)
        result: NDArray[np.float64] = evidence + np.log(np.maximum(slope, 1e-300)) + u
        return result

    # beta from far below one pseudo-count in total to far above one per symbol.
    n = float(size @ how_many)
    coarse = np.linspace(-25.0 - np.log(alphabet), 12.0 + np.log(n), _NSB_POINTS)
    height = log_weight(coarse)
    inside = np.flatnonzero(height > height.max() - _NSB_CUT)
    low = coarse[max(inside[0] - 1, 0)]
    high = coarse[min(inside[-1] + 1, _NSB_POINTS - 1)]
    nodes, weights = _quadrature()
    u = 0.5 * (high - low) * nodes + 0.5 * (high + low)
    height = log_weight(u)
    posterior = weights * np.exp(height - height.max())
    alpha = size + np.exp(u)[:, None]
    total = alpha @ how_many
    mean = digamma(total + 1.0) - (alpha * digamma(alpha + 1.0)) @ how_many / total
    return float(posterior @ mean / posterior.sum())


@cache
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [-1, 1], cached."""
    nodes, weights = np.polynomial.legendre.leggauss(_NSB_POINTS)
    return nodes, weights


CORRECTIONS: dict[str, Callable[[Counts, int], float]] = {
    "plugin": plugin,
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "chao-shen": chao_shen,
    "nsb": nsb,
}
