"""Effective rank and matrix-based entropy of representations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpstrf

from estimators._arrays import Rows, as_rows, narrowed, unit_scale
from estimators._autocorrelation import order_note
from estimators._content import content_folds
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate
from estimators.jackknife import FOLDS, FoldedMoments
from estimators.moments import CrossMoments

Floats = NDArray[np.float64]


def spectral_entropy(eigenvalues: ArrayLike, *, alpha: float = 1.0) -> float:
    """Rényi entropy of order alpha of eigenvalues scaled to sum to one, in nats.

        S_alpha = ln(sum_i p_i^alpha) / (1 - alpha),   S_1 = -sum_i p_i ln p_i

    Args:
        eigenvalues: array of shape (d,); negative ones (rounding) count as zero.
        alpha: order, > 0; 1 is the von Neumann entropy, 2 the log of the participation ratio.

    Returns:
        Nats in [0, ln d]; NaN if all eigenvalues are zero or subnormal.

    Raises:
        ValueError: alpha not positive.

    Source:
        Sanchez Giraldo, Rao & Principe 2015, arXiv 1211.2459, definition 2.

    Example:
        >>> round(math.exp(spectral_entropy([2.0, 2.0, 2.0, 0.0])), 12)
        3.0
    """
    if not alpha > 0.0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    values = np.maximum(np.asarray(eigenvalues, dtype=np.float64), 0.0)
    largest = float(values.max(initial=0.0))
    if not largest >= np.finfo(float).tiny:
        return math.nan
    scaled = values[values > 0.0] / largest
    p = scaled / scaled.sum()
    p = p[p > 0.0]
    if alpha == 1.0:
        return max(0.0, -float(p @ np.log(p)))
    return max(0.0, math.log(float((p**alpha).sum())) / (1.0 - alpha))


def matrix_entropy(
    x: Any, *, alpha: float = 1.0, clusters: Labels | None = None, level: float = 0.95
) -> Estimate:
    """Matrix-based entropy of a representation: Rényi entropy of its covariance spectrum.

    The covariance has the eigenvalues of the centred linear Gram matrix, up to scale. The
    exponential is a number of directions: d for isotropic rows, 1 for rows on a line.

    Args:
        x: array or tensor of shape (n, d), n >= 4.
        alpha: order, > 0.
        clusters: n labels of the independent clusters. Default: each row is its own.
        level: confidence of the interval.

    Returns:
        Estimate in nats, jackknife over clusters. The interval is centred at the value corrected
        for the number of rows (diagnostic `corrected`). Unreliable under 20 clusters, where a few
        rows determine the value or carry the variance, and where the half width is over 0.1 and
        10 % of the value, as it is until n is many times the rank.

    Raises:
        ValueError: as `as_rows`; alpha not positive; labels of another length; all rows equal.

    Source:
        Sanchez Giraldo, Rao & Principe 2015, arXiv 1211.2459; of layers: Skean et al. 2025,
        arXiv 2502.02013.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 8))
        >>> entropy = matrix_entropy(x)
        >>> round(math.exp(entropy.value), 1), entropy.d
        (8.0, 8)
    """
    return _of_rows(x, clusters, lambda sums: sums.matrix_entropy(alpha=alpha, level=level))


def effective_rank(x: Any, *, clusters: Labels | None = None, level: float = 0.95) -> Estimate:
    """Effective rank: the exponential of the entropy of the normalised singular values.

        erank = exp(-sum_i p_i ln p_i),   p_i = s_i / sum_j s_j

    with s_i the singular values of the centred rows. Between 1 and min(n - 1, d).

    Args:
        x: array or tensor of shape (n, d), n >= 4.
        clusters: n labels of the independent clusters. Default: each row is its own.
        level: confidence of the interval.

    Returns:
        Estimate, unit "1", as `matrix_entropy`.

    Raises:
        ValueError: as `matrix_entropy`.

    Source:
        Roy & Vetterli 2007, The effective rank, EUSIPCO, definition 1.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 3))
        >>> round(effective_rank(x @ np.ones((3, 8)) + 0.0).value, 6)
        1.0
    """
    return _of_rows(x, clusters, lambda sums: sums.effective_rank(level=level))


class SpectrumAccumulator:
    """Streaming effective rank and matrix entropy, with intervals over clusters.

    Memory is 10 d^2 numbers, whatever the number of rows.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 8))
        >>> first, second = SpectrumAccumulator(), SpectrumAccumulator()
        >>> first.update(x[:1000], np.arange(1000))
        >>> second.update(x[1000:], np.arange(1000, 4000))
        >>> round(first.merge(second).effective_rank().value, 1)
        8.0
    """

    def __init__(self) -> None:
        self._folds = FoldedMoments("x")

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return self._folds.n_rows

    @property
    def n_clusters(self) -> int:
        """Clusters seen so far."""
        return self._folds.n_clusters

    def update(self, x: Any, clusters: Labels) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            x: array or tensor of shape (n, d), n >= 0.
            clusters: n labels.

        Raises:
            ValueError: as `as_rows`; labels as `cluster_codes`.
        """
        if len(x):
            self._add(as_rows(x, "x", constant="keep"), clusters)

    def _add(self, rows: Rows, clusters: Labels, folds: NDArray[np.intp] | None = None) -> None:
        """Add checked rows."""
        self._folds.update({"x": (rows, None)}, clusters, folds)

    def merge(self, other: SpectrumAccumulator) -> SpectrumAccumulator:
        """Merge two accumulators, as if filled in one pass; neither is changed.

        Raises:
            ValueError: the widths differ.
        """
        out = SpectrumAccumulator()
        out._folds = self._folds.merge(other._folds)
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send."""
        return self._folds.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> SpectrumAccumulator:
        """Restore an accumulator from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        out = cls()
        out._folds = FoldedMoments.from_arrays(arrays, "x")
        return out

    def matrix_entropy(self, *, alpha: float = 1.0, level: float = 0.95) -> Estimate:
        """`matrix_entropy` of all accumulated rows.

        Raises:
            ValueError: fewer than four rows, no spread, alpha not positive, level outside (0, 1).
        """
        return self._folds.estimate(
            lambda moments: spectral_entropy(_eigenvalues(moments["x"]), alpha=alpha),
            level=level,
            unit="nats",
            method=f"matrix-entropy (alpha={alpha:g})",
            limits=(0.0, math.log(self._most)),
            biased=True,
            # Loss of the entropy of a flat spectrum of k variances to noise: k / (2 n).
            second_order=lambda value: 0.5 * alpha * math.exp(value) / self.n_clusters,
        )

    def effective_rank(self, *, level: float = 0.95) -> Estimate:
        """`effective_rank` of all accumulated rows.

        Raises:
            ValueError: fewer than four rows, no spread, level outside (0, 1).
        """

        def rank(moments: Mapping[str, Any]) -> float:
            variances = np.maximum(_eigenvalues(moments["x"]), 0.0)
            # Rounding errors of 1e-16 times the largest would have noticeable square roots.
            variances[variances < variances[-1] * variances.size * np.finfo(float).eps] = 0.0
            return math.exp(spectral_entropy(np.sqrt(variances)))

        limits = (1.0, float(self._most))
        return self._folds.estimate(
            rank,
            level=level,
            unit="1",
            method="effective-rank",
            limits=limits,
            biased=True,
            # Loss of a flat spectrum of k standard deviations to noise: k^2 / (8 n).
            second_order=lambda value: value**2 / (8.0 * self.n_clusters),
        )

    @property
    def _most(self) -> int:
        """Largest possible rank of the accumulated rows."""
        return max(1, min(self.n_rows, self._folds.width))


def _eigenvalues(moments: CrossMoments) -> Floats:
    """Eigenvalues of a covariance, ascending; only n of them where n rows are fewer than columns.

    With few rows the covariance is L L' for a narrow L, by pivoted Cholesky; then L' L has its
    eigenvalues.
    """
    covariance = moments.covariance()
    if 2 * moments.n_rows > len(covariance):
        return np.asarray(np.linalg.eigvalsh(covariance))
    tolerance = len(covariance) * np.finfo(float).eps * float(covariance.diagonal().max())
    lower, _, rank, _ = dpstrf(covariance, tol=tolerance, lower=1)
    factor = np.tril(lower)[:, : max(int(rank), 1)]
    return np.asarray(np.linalg.eigvalsh(factor.T @ factor))


def _of_rows(
    x: Any, clusters: Labels | None, measure: Callable[[SpectrumAccumulator], Estimate]
) -> Estimate:
    """The measure of the accumulated rows, with a note where neighbouring rows are alike."""
    rows = unit_scale(as_rows(x, "x", constant="keep"))
    codes = np.arange(len(rows)) if clusters is None else cluster_codes(clusters)
    if codes.size != len(rows):
        raise ValueError(f"{len(rows)} rows but {codes.size} cluster labels")
    sums = SpectrumAccumulator()
    sums._add(narrowed(rows), codes, content_folds(codes, FOLDS, rows))
    found = measure(sums)
    note = order_note([rows]) if clusters is None else {}
    return replace(found, d=rows.shape[1], diagnostics={**found.diagnostics, **note})
