"""Linear CKA: are two representations the same up to rotation and scale?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import qr

from estimators._arrays import Rows, as_rows, paired, same_device
from estimators._cluster_sums import as_cluster_ids
from estimators._student import small_sample_reason, t_interval
from estimators._validate import check_fraction
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate
from estimators.moments import CrossMoments, moments_cka

#: Parts that clusters are dealt into, for the jackknife.
FOLDS = 10


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

    1 where y is x turned and scaled, 0 where they are independent; it does not change under
    orthogonal maps, shifts and one scale per side. The debiased form is comparable between sample
    sizes; the biased one tends to 1 for any wide representations.

    Args:
        x: array or tensor of shape (n, p), n >= 4.
        y: array or tensor of shape (n, q).
        clusters: n labels of the independent units (images). Default: each row is its own.
        debiased: remove the bias of order d / n. A debiased value may lie a little outside
            [0, 1].
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
        self.n_clusters = 0
        # fold -> moments of (x, x), (x, y), (y, y)
        self._folds = [[CrossMoments() for _ in range(3)] for _ in range(FOLDS)]

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return sum(x.n_rows for x, _, _ in self._folds)

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
        ids = as_cluster_ids(clusters, paired(x=a, y=b))
        self.n_clusters += np.unique(ids).size
        for fold, (of_x, cross, of_y) in enumerate(self._folds):
            mine = ids % FOLDS == fold
            if mine.any():
                rows, others = a[mine], b[mine]
                of_x.update(rows)
                cross.update(rows, others)
                of_y.update(others)

    def merge(self, other: CKAAccumulator) -> CKAAccumulator:
        """Both together, as if seen in one pass; neither is changed.

        Raises:
            ValueError: one is debiased and the other not; the widths differ.
        """
        if self.debiased is not other.debiased:
            raise ValueError("cannot merge a debiased CKA with a biased one")
        out = CKAAccumulator(debiased=self.debiased)
        out.n_clusters = self.n_clusters + other.n_clusters
        out._folds = [_joined(*pair) for pair in zip(self._folds, other._folds, strict=True)]
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """What was accumulated, as arrays to store or send; `debiased` is not among them."""
        out: dict[str, NDArray[np.generic]] = {"n_clusters": np.array([self.n_clusters])}
        for fold, parts in enumerate(self._folds):
            for side, moments in zip(_SIDES, parts, strict=True):
                if moments.n_rows:
                    arrays = moments.to_arrays().items()
                    out |= {f"{fold}.{side}.{name}": array for name, array in arrays}
        return out

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], *, debiased: bool = True
    ) -> CKAAccumulator:
        """The accumulator back from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        out = cls(debiased=debiased)
        if "n_clusters" not in arrays:
            raise ValueError("a stored accumulator lacks 'n_clusters'")
        out.n_clusters = int(arrays["n_clusters"][0])
        for fold, parts in enumerate(out._folds):
            for place, side in enumerate(_SIDES):
                start = f"{fold}.{side}."
                mine = {
                    key.removeprefix(start): array
                    for key, array in arrays.items()
                    if key.startswith(start)
                }
                if mine:
                    parts[place] = CrossMoments.from_arrays(mine)
        return out

    def estimate(self, *, level: float = 0.95) -> Estimate:
        """CKA of everything seen.

        Raises:
            ValueError: fewer than four rows, a side without spread, level outside (0, 1).
        """
        check_fraction(level, "level")
        folds = [parts for parts in self._folds if parts[0].n_rows]
        nothing = [CrossMoments() for _ in _SIDES]
        before = list(accumulate(folds, _joined, initial=nothing))  # [i]: folds before i
        after = list(accumulate(folds[::-1], _joined, initial=nothing))[::-1]  # [i]: from i on
        value = moments_cka(*before[-1], debiased=self.debiased)
        if math.isnan(value):
            raise ValueError("a side has no spread, so it is aligned with nothing")
        without = map(_joined, before[:-1], after[1:])
        left = np.array(
            [
                moments_cka(*parts, debiased=self.debiased)
                for parts in without
                if parts[0].n_rows >= 4
            ]
        )
        g = left.size
        error = math.sqrt((g - 1) / g * float(((left - left.mean()) ** 2).sum())) if g > 1 else 0.0
        reason = small_sample_reason(self.n_clusters)
        return Estimate(
            value=value,
            interval=t_interval(value, error, g, level),
            level=level,
            n=self.n_clusters,
            d=max(folds[0][1].dims),
            method="debiased-linear-cka" if self.debiased else "linear-cka",
            reliable=not reason,
            reason=reason,
            diagnostics={"n_rows": self.n_rows, "folds": g},
        )


_SIDES = ("x", "cross", "y")


def _joined(one: list[CrossMoments], other: list[CrossMoments]) -> list[CrossMoments]:
    return [a.merge(b) for a, b in zip(one, other, strict=True)]


def _narrow(rows: Rows) -> Rows:
    """At most n columns with the same inner products, on which alone CKA depends."""
    n, d = rows.shape
    if d <= n:
        return rows
    triangle: Rows = qr((rows - rows.mean(axis=0)).T, mode="r")[0][:n]
    return triangle.T
