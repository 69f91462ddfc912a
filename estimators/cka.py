"""Linear CKA: similarity of two representations up to rotation and scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from estimators._arrays import Rows, as_rows, paired, same_device
from estimators._validate import check_fraction
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate
from estimators.jackknife import FoldedMoments
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
        debiased: remove the bias of order d / n. Debiased values may lie slightly outside [0, 1].
        level: confidence of the interval, in (0, 1).

    Returns:
        Estimate, unit "1", n counting clusters, with the interval of a delete-a-tenth jackknife
        over clusters. Unreliable under 20 clusters.

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
    a, b = as_rows(x, "x", constant="keep"), as_rows(y, "y", constant="keep")
    n = paired(x=a, y=b)
    codes = np.arange(n) if clusters is None else cluster_codes(clusters)
    if codes.size != n:
        raise ValueError(f"{n} rows but {codes.size} cluster labels")
    sums = CKAAccumulator(debiased=debiased)
    sums.update(_narrow(a), _narrow(b), codes)
    return sums.estimate(level=level)


class CKAAccumulator:
    """Streaming linear CKA of a pair of representations, with an interval over clusters.

    Memory is 10 (p^2 + p q + q^2) numbers, whatever the number of rows. Cluster c belongs to fold
    c mod 10; the interval is a delete-a-fold jackknife.

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

    def update(self, x: Any, y: Any, clusters: ArrayLike) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            x: array or tensor of shape (n, p), n >= 0.
            y: array or tensor of shape (n, q).
            clusters: integers of shape (n,).

        Raises:
            ValueError: as `as_rows`; lengths differ; clusters that are not integers.
        """
        if not len(x) and not len(y):
            return
        a, b = as_rows(x, "x", constant="keep"), as_rows(y, "y", constant="keep")
        paired(x=a, y=b)
        self._folds.update({"x": (a, None), "cross": (a, b), "y": (b, None)}, clusters)

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
        return self._folds.estimate(
            lambda moments: moments_cka(**moments, debiased=self.debiased),
            level=level,
            unit="1",
            method="debiased-linear-cka" if self.debiased else "linear-cka",
        )


_SIDES = ("x", "cross", "y")


def _narrow(rows: Rows) -> Rows:
    """At most n columns with the same inner products, which determine CKA."""
    n, d = rows.shape
    if d <= n:
        return rows
    triangle: Rows = qr((rows - rows.mean(axis=0)).T, mode="r")[0][:n]
    return triangle.T
