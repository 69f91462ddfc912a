"""Smoothed joint distribution of a table of counts, chosen by cross-validated likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, xlogy

Table = NDArray[np.float64]  # joint of (x1, x2, y), with a leading batch axis in private functions

FOLDS = 5
# Weights a of the model in (n + a m) / (N + a), as shares of N.
_WEIGHTS = np.geomspace(1e-3, 30.0, 24)
_IPF_STEPS = 30
_POINTS = 4  # quadrature points of the Gaussian density per bin and axis
_PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class Smooth:
    """The chosen model, `p` = (n + a m) / (N + a), strictly positive for observed symbols."""

    p: Table
    model: str
    weight: float


def smooth_model(counts: NDArray[np.int64], rng: np.random.Generator) -> Smooth:
    """Choose the model m and its weight a by 5-fold cross-validated log-likelihood.

    Models: independence of all three; each pair joint and the third independent; the sources
    independent given the target; all pairwise marginals and no third-order interaction
    (iterative proportional fitting); the Gaussian copula of the ranks of the symbols.

    Args:
        counts: table n[x1, x2, y]; symbols without counts get probability zero.
        rng: random generator of the folds.
    """
    total = int(counts.sum())
    if total == 1:  # nothing is left to train on
        return Smooth(counts.astype(np.float64), "independent", 0.0)
    folds = _split(counts, rng)
    train = (counts - folds).astype(np.float64)
    best = (-np.inf, "", 0.0)
    for name, fit in MODELS.items():
        model = fit(train)[:, None]
        size = train.sum(axis=(1, 2, 3))[:, None, None, None, None]
        a = _WEIGHTS[None, :, None, None, None] * size
        mixed = (train[:, None] + a * model) / (size + a)
        score = xlogy(folds[:, None], mixed).sum(axis=(0, 2, 3, 4))
        k = int(np.argmax(score))
        best = max(best, (float(score[k]), name, float(_WEIGHTS[k])))
    _, name, share = best
    model = MODELS[name](counts[None].astype(np.float64))[0]
    return Smooth((counts / total + share * model) / (1.0 + share), name, share * total)


def _split(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Split the draws at random into `FOLDS` tables of nearly equal size."""
    draws = rng.permutation(np.repeat(np.arange(counts.size), counts.ravel()))
    cells = np.arange(draws.size) % FOLDS * counts.size + draws
    return np.bincount(cells, minlength=FOLDS * counts.size).reshape(FOLDS, *counts.shape)


def _over(p: Table, *keep: int) -> Table:
    """Marginal of a batch over the axes in `keep`, broadcastable against the batch."""
    drop = tuple(axis + 1 for axis in range(3) if axis not in keep)
    summed: Table = p.sum(axis=drop, keepdims=True)
    return summed


def _normalised(n: Table) -> Table:
    p: Table = n / n.sum(axis=(1, 2, 3), keepdims=True)
    return p


def _single(n: Table, axis: int) -> Table:
    """Marginal of a variable; symbols observed in any fold get positive probability."""
    smoothed = _over(n, axis) + 0.5 * (_over(n, axis).sum(axis=0, keepdims=True) > 0)
    return _normalised(smoothed)


def _pair(n: Table, i: int, j: int) -> Table:
    """Marginal of two variables, shrunk towards independence by sqrt(N)/2 counts (minimax)."""
    size = n.sum(axis=(1, 2, 3), keepdims=True)
    a = 0.5 * np.sqrt(size)
    shrunk: Table = (_over(n, i, j) + a * _single(n, i) * _single(n, j)) / (size + a)
    return shrunk


def _independent(n: Table) -> Table:
    return _single(n, 0) * _single(n, 1) * _single(n, 2)


def _one_pair(i: int, j: int) -> Callable[[Table], Table]:
    return lambda n: _normalised(_pair(n, i, j) * _single(n, 3 - i - j))


def _given_target(n: Table) -> Table:
    first, second = _pair(n, 0, 2), _pair(n, 1, 2)
    return _normalised(first * second / np.maximum(_over(second, 2), 1e-300))


def _pairwise(n: Table) -> Table:
    """Iterative proportional fitting of the three pairwise marginals, from independence."""
    p = _independent(n)
    wanted = {pair: _pair(n, *pair) for pair in _PAIRS}
    for _ in range(_IPF_STEPS):
        for pair, margin in wanted.items():
            p = p * (margin / np.maximum(_over(p, *pair), 1e-300))
    return _normalised(p)


def _copula(n: Table) -> Table:
    """Gaussian copula: each symbol is an interval of normal scores, in the order of symbols.

    The correlations are those of the mean scores of the bins, divided by their variance; cell
    probabilities are sums of the density over a few points per bin.
    """
    batch = len(n)
    margins = [_single(n, axis).reshape(batch, -1) for axis in range(3)]
    inner = (np.arange(_POINTS) + 0.5) / _POINTS
    points = []
    for p in margins:
        start = np.cumsum(p, axis=1) - p
        level = start[:, :, None] + p[:, :, None] * inner
        points.append(ndtri(np.clip(level, 1e-9, 1.0 - 1e-9)))
    scores = [z.mean(axis=2) for z in points]
    corr = np.empty((batch, 3, 3))
    data = _normalised(n)
    variances = [np.einsum("bi,bi->b", p, z**2) for p, z in zip(margins, scores, strict=True)]
    corr[:] = np.eye(3)
    for i, j in _PAIRS:
        joint = _over(data, i, j).reshape(batch, margins[i].shape[1], margins[j].shape[1])
        covariance = np.einsum("bij,bi,bj->b", joint, scores[i], scores[j])
        rho = covariance / np.maximum(variances[i] * variances[j], 1e-12)
        corr[:, i, j] = corr[:, j, i] = np.clip(rho, -0.98, 0.98)
    values, vectors = np.linalg.eigh(corr)
    corr = np.einsum("bij,bj,bkj->bik", vectors, np.maximum(values, 0.02), vectors)
    scale = 1.0 / np.sqrt(np.einsum("bii->bi", corr))
    precision = np.linalg.inv(corr * scale[:, :, None] * scale[:, None, :]) - np.eye(3)
    z1, z2, z3 = (z.reshape(batch, -1) for z in points)
    exponent = -0.5 * (
        (precision[:, 0, 0, None] * z1**2)[:, :, None, None]
        + (precision[:, 1, 1, None] * z2**2)[:, None, :, None]
        + (precision[:, 2, 2, None] * z3**2)[:, None, None, :]
    )
    exponent = (
        exponent - precision[:, 0, 1, None, None, None] * np.einsum("bi,bj->bij", z1, z2)[..., None]
    )
    exponent = (
        exponent
        - precision[:, 0, 2, None, None, None] * np.einsum("bi,bk->bik", z1, z3)[:, :, None]
    )
    exponent = (
        exponent - precision[:, 1, 2, None, None, None] * np.einsum("bj,bk->bjk", z2, z3)[:, None]
    )
    density = np.exp(exponent - exponent.max(axis=(1, 2, 3), keepdims=True))
    a, b, c = n.shape[1:]
    cells = density.reshape(batch, a, _POINTS, b, _POINTS, c, _POINTS).sum(axis=(2, 4, 6))
    p = _normalised(cells * _independent(n))
    for _ in range(3):  # restore the single marginals after the rough sums
        for axis in range(3):
            p = p * (_single(n, axis) / np.maximum(_over(p, axis), 1e-300))
    return _normalised(p)


MODELS: dict[str, Callable[[Table], Table]] = {
    "independent": _independent,
    "source 1 with target": _one_pair(0, 2),
    "source 2 with target": _one_pair(1, 2),
    "sources together": _one_pair(0, 1),
    "independent given target": _given_target,
    "pairwise": _pairwise,
    "gaussian copula": _copula,
}
