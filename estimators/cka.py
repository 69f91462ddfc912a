"""Linear CKA: similarity of two representations up to rotation and scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators._arrays import Rows, as_rows, narrowed, paired, same_device, unit_scale
from estimators._autocorrelation import order_note
from estimators._content import content_folds
from estimators._student import wide_reason
from estimators._validate import check_fraction
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate
from estimators.jackknife import FOLDS, FoldedMoments
from estimators.moments import moments_cka


def linear_cka(
    x: Any,
    y: Any,
    *,
    clusters: Labels | None = None,
    debiased: bool = True,
    level: float = 0.95,
) -> Estimate:
    """Linear centred kernel alignment of two representations of the same rows.

        CKA = HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y))

    1 where y is a rotated and scaled x, 0 where they are independent; invariant under
    orthogonal maps, shifts and one scale per side. The debiased form is comparable between sample
    sizes; the biased form tends to 1 for any wide representations.

    Args:
        x: array or tensor of shape (n, p), n >= 4.
        y: array or tensor of shape (n, q).
        clusters: n labels of the independent clusters (images). Default: each row is its own.
        debiased: remove the bias of order d / n. Debiased values may lie slightly outside [0, 1],
            the interval does not.
        level: confidence of the interval, in (0, 1).

    Returns:
        Estimate, unit "1", n counting clusters, with the interval of a delete-a-tenth jackknife
        over clusters. Unreliable under 20 clusters, where the half width is over 0.1, and where
        a few rows determine the value or carry the variance. Rows of one cluster depend on each
        other, which debiasing does not remove: with several rows a cluster the interval extends
        to the value of pairs of rows in different tenths of the clusters,
        `diagnostics["between_folds"]`.

    Raises:
        ValueError: as `as_rows`; lengths differ; tensors on different devices; fewer than four
            rows; level outside (0, 1); a side without spread.

    Source:
        Kornblith et al. 2019, arXiv 1905.00414, equation 4; debiased: Nguyen, Raghu & Kornblith
        2021, arXiv 2010.15327, equation 3. Jackknife: Shao & Tu 1995, section 2.3.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(200, 8))
        >>> turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
        >>> round(linear_cka(x, 3.0 * x @ turn + 1.0).value, 9)
        1.0
    """
    check_fraction(level, "level")
    same_device(x=x, y=y)
    a, b = (unit_scale(as_rows(side, name, constant="keep")) for side, name in ((x, "x"), (y, "y")))
    n = paired(x=a, y=b)
    codes = np.arange(n) if clusters is None else cluster_codes(clusters)
    if codes.size != n:
        raise ValueError(f"{n} rows but {codes.size} cluster labels")
    sums = CKAAccumulator(debiased=debiased)
    sums._add(narrowed(a), narrowed(b), codes, content_folds(codes, FOLDS, a, b))
    found = sums.estimate(level=level)
    note = order_note([a, b]) if clusters is None else {}
    return replace(found, d=max(a.shape[1], b.shape[1]), diagnostics={**found.diagnostics, **note})


class CKAAccumulator:
    """Streaming linear CKA of a pair of representations, with an interval over clusters.

    Memory is 10 (p^2 + p q + q^2) numbers, whatever the number of rows. The interval is a
    delete-a-fold jackknife; the fold of a cluster is a hash of its rows, so that neither labels
    nor batches nor the order of the rows change it.

    Args:
        debiased: as in `linear_cka`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(400, 8))
        >>> first, second = CKAAccumulator(), CKAAccumulator()
        >>> first.update(x[:200], x[:200, ::-1], clusters=np.arange(200))
        >>> second.update(x[200:], x[200:, ::-1], clusters=np.arange(200, 400))
        >>> round(first.merge(second).estimate().value, 9)
        1.0
    """

    def __init__(self, *, debiased: bool = True) -> None:
        self.debiased = debiased
        self._folds = FoldedMoments(*_SIDES)

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return self._folds.n_rows

    @property
    def n_clusters(self) -> int:
        """Clusters seen so far."""
        return self._folds.n_clusters

    def update(self, x: Any, y: Any, clusters: Labels) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            x: array or tensor of shape (n, p), n >= 0.
            y: array or tensor of shape (n, q).
            clusters: n labels.

        Raises:
            ValueError: as `as_rows`; lengths differ; labels as `cluster_codes`.
        """
        if not len(x) and not len(y):
            return
        a, b = as_rows(x, "x", constant="keep"), as_rows(y, "y", constant="keep")
        paired(x=a, y=b)
        self._add(a, b, clusters)

    def _add(
        self, a: Rows, b: Rows, clusters: Labels, folds: NDArray[np.intp] | None = None
    ) -> None:
        """Add checked rows."""
        self._folds.update({"x": (a, None), "cross": (a, b), "y": (b, None)}, clusters, folds)

    def merge(self, other: CKAAccumulator) -> CKAAccumulator:
        """Merge two accumulators, as if filled in one pass; neither is changed.

        Raises:
            ValueError: `debiased` or the widths differ.
        """
        if self.debiased is not other.debiased:
            raise ValueError("cannot merge a debiased CKA with a biased one")
        out = CKAAccumulator(debiased=self.debiased)
        out._folds = self._folds.merge(other._folds)
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send; without `debiased`."""
        return self._folds.to_arrays()

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], *, debiased: bool = True
    ) -> CKAAccumulator:
        """Restore an accumulator from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        out = cls(debiased=debiased)
        out._folds = FoldedMoments.from_arrays(arrays, *_SIDES)
        return out

    def estimate(self, *, level: float = 0.95) -> Estimate:
        """CKA of all accumulated rows.

        Raises:
            ValueError: fewer than four rows, a side without spread, level outside (0, 1).
        """
        repeated = self.debiased and self.n_rows > self.n_clusters
        estimate = self._folds.estimate(
            lambda moments: moments_cka(**moments, debiased=self.debiased),
            level=level,
            unit="1",
            method="debiased-linear-cka" if self.debiased else "linear-cka",
            limits=(-math.inf, math.inf) if repeated else (0.0, 1.0),
        )
        if not repeated:
            return estimate
        between = _between_folds(self._folds)
        shift = 0.0 if math.isnan(between) else between - estimate.value
        low, high = estimate.interval
        low, high = low + min(shift, 0.0), high + max(shift, 0.0)
        reason = estimate.reason or wide_reason(estimate.value, (low, high))
        return replace(
            estimate,
            interval=(float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0))),
            reliable=not reason,
            reason=reason,
            diagnostics={**estimate.diagnostics, "between_folds": between},
        )


def _between_folds(folds: FoldedMoments) -> float:
    """CKA from pairs of rows in different folds of clusters, which are independent.

    `HSIC = (|S|^2 - sum_f |S_f|^2) / (n^2 - sum_f n_f^2)`, with S the products of the centred
    rows of all folds and S_f of fold f.
    """

    def hsic(name: str) -> float:
        parts = [fold[name] for fold in folds.folds if fold[name].n_rows]
        counts = np.array([part.n_rows for part in parts])
        means = [
            np.average(side, axis=0, weights=counts)
            for side in zip(*(p.means() for p in parts), strict=True)
        ]
        sums = [part.products_about(*means) for part in parts]
        pairs = float(counts.sum() ** 2 - (counts**2).sum())
        squares = float((np.sum(sums, axis=0) ** 2).sum() - np.square(sums).sum())
        return squares / pairs if pairs else float("nan")

    scale = hsic("x") * hsic("y")
    return hsic("cross") / scale**0.5 if scale > 0.0 else float("nan")


_SIDES = ("x", "cross", "y")
