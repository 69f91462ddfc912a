"""Entropies and informations of a known joint pmf, in nats.

A joint pmf is an array of nonnegative numbers that sum to 1, with one axis per variable. Variables
are named by the index of their axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pmf = NDArray[np.float64]


def as_pmf(weights: ArrayLike) -> Pmf:
    """Normalise nonnegative weights to a pmf.

    Raises:
        ValueError: a weight is negative or not finite, or all weights are zero.

    Example:
        >>> as_pmf([[1, 0], [0, 1]])
        array([[0.5, 0. ], [0. , 0.5]])
    """
    array = np.asarray(weights, dtype=np.float64)
    total = float(array.sum())
    if not np.isfinite(array).all() or (array < 0).any() or total <= 0.0:
        raise ValueError("a pmf needs finite weights >= 0 that are not all zero")
    return array / total


def marginal(p: Pmf, axes: Sequence[int]) -> Pmf:
    """Joint pmf of the variables on `axes`, in increasing order of axis.

    Example:
        >>> marginal(as_pmf([[1, 1], [0, 2]]), [1])
        array([0.25, 0.75])
    """
    rest = tuple(axis for axis in range(p.ndim) if axis not in axes)
    return np.asarray(p.sum(axis=rest))


def entropy(p: Pmf, axes: Sequence[int] | None = None, *, given: Sequence[int] = ()) -> float:
    """H(A | B) in nats, for the variables A on `axes` (all by default) and B on `given`.

    Example:
        >>> p = as_pmf([[1, 0], [0, 1]])
        >>> round(entropy(p), 4), entropy(p, [0], given=[1])
        (0.6931, 0.0)
    """
    of = list(range(p.ndim)) if axes is None else list(axes)
    joint = marginal(p, [*of, *given])
    condition = marginal(p, given)
    return _plogp(condition) - _plogp(joint)


def information(p: Pmf, a: Sequence[int], b: Sequence[int], *, given: Sequence[int] = ()) -> float:
    """I(A; B | C) in nats, for the variables A, B and C on the axes `a`, `b` and `given`.

    Example:
        >>> xor = np.zeros((2, 2, 2))
        >>> xor[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]] = 0.25
        >>> information(xor, [0], [2]), round(information(xor, [0], [2], given=[1]), 4)
        (0.0, 0.6931)
    """
    joint = entropy(p, [*a, *b], given=given)
    return entropy(p, a, given=given) + entropy(p, b, given=given) - joint


def kl_divergence(p: Pmf, q: Pmf) -> float:
    """KL(p || q) in nats; infinite if q is zero where p is positive.

    Example:
        >>> round(kl_divergence(as_pmf([1, 0]), as_pmf([1, 1])), 4)
        0.6931
    """
    inside = p > 0
    if (q[inside] <= 0).any():
        return float("inf")
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))


def random_pmf(rng: np.random.Generator, shape: Sequence[int]) -> Pmf:
    """Dirichlet pmf of random concentration; with probability 1/2 some cells are set to zero.

    Example:
        >>> random_pmf(np.random.default_rng(0), (2, 3)).shape
        (2, 3)
    """
    weights = rng.standard_gamma(float(rng.choice([0.1, 0.5, 1.0, 5.0])), size=tuple(shape)) + 1e-12
    if rng.random() < 0.5:
        support = rng.random(weights.shape) < rng.uniform(0.3, 1.0)
        support.flat[rng.integers(support.size)] = True
        weights = weights * support
    return as_pmf(weights)


def softmax_pmf(vector: ArrayLike, shape: Sequence[int]) -> Pmf:
    """Pmf from a real vector x: softmax(3 x), a parametrisation for the optimiser.

    Example:
        >>> softmax_pmf([0.0, 0.0], (2,))
        array([0.5, 0.5])
    """
    logits = 3.0 * np.clip(np.asarray(vector, dtype=np.float64), -60.0, 60.0)
    return as_pmf(np.exp(logits - logits.max())).reshape(tuple(shape))


def _plogp(p: Pmf) -> float:
    """Sum of p log p, with 0 log 0 = 0."""
    inside = p[p > 0]
    return float(np.sum(inside * np.log(inside)))
