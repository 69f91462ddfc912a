"""Mergeable sums over clusters for ratio estimates with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators._labels import Labels, appearance_codes
from estimators._student import small_sample_reason, t_interval
from estimators._validate import check_fraction
from estimators.estimate import Estimate

Floats = NDArray[np.float64]


def as_cluster_ids(clusters: Labels, n: int) -> NDArray[np.intp]:
    """The n labels of `clusters` as codes 0, 1, ... in order of appearance, shape (n,).

    Raises:
        ValueError: another number of labels; labels as `clustered.cluster_codes`.
    """
    ids = appearance_codes(clusters)
    if ids.shape != (n,):
        raise ValueError(f"{n} rows but {ids.size} cluster labels")
    return ids


def part_of(
    arrays: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int | None, ...]
) -> NDArray[np.generic]:
    """Array `name` of a stored accumulator, with the shape checked (None: any length)."""
    if name not in arrays:
        raise ValueError(f"a stored accumulator lacks '{name}'")
    array = np.asarray(arrays[name])
    fits = array.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"'{name}' of a stored accumulator has shape {array.shape}, not {shape}")
    return array


@dataclass(frozen=True)
class Moments:
    """Value and standard error of a ratio sum_c S_c / sum_c n_c."""

    value: float
    std_error: float


class ClusterSums:
    """Sums over clusters c of S_c, S_c n_c, S_c^2 and n_c^2, for `width` measures.

    S_c is the sum over the rows of cluster c and n_c their number. Sums are taken about an
    origin, the first row, so that the spread of nearly constant measures is not lost to
    rounding; `merge` shifts the other sums to this origin. All arrays have shape (width,).
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.origin = np.zeros(width)
        self.n_rows = 0
        self.n_clusters = 0
        self._total = np.zeros(width)  # sum S_c
        self._cross = np.zeros(width)  # sum S_c n_c
        self._square = np.zeros(width)  # sum S_c^2
        self._size_square = 0.0  # sum n_c^2

    def update(self, values: Floats, ids: NDArray[np.intp]) -> None:
        """Add rows of shape (n, width), n >= 0, from clusters that were not added before."""
        if len(values) == 0:
            return
        if self.n_rows == 0:
            self.origin = values[0].copy()
        codes = np.unique(ids, return_inverse=True)[1]
        sizes = np.bincount(codes).astype(np.float64)  # (c,)
        centred = (values - self.origin).T  # (width, n)
        sums = np.stack([np.bincount(codes, weights=row) for row in centred])  # (width, c)
        self.n_rows += len(values)
        self.n_clusters += sizes.size
        self._total += sums.sum(axis=1)
        self._cross += sums @ sizes
        self._square += np.einsum("wc,wc->w", sums, sums)
        self._size_square += float(sizes @ sizes)

    def merge(self, other: ClusterSums) -> ClusterSums:
        """Merged sums; neither operand is changed."""
        first, second = (self, other) if self.n_rows else (other, self)
        out = ClusterSums(self.width)
        out.origin = first.origin.copy()
        # About the new origin S_c becomes S_c + shift n_c.
        shift = second.origin - first.origin if second.n_rows else np.zeros(self.width)
        out.n_rows = first.n_rows + second.n_rows
        out.n_clusters = first.n_clusters + second.n_clusters
        out._size_square = first._size_square + second._size_square
        out._total = first._total + second._total + shift * second.n_rows
        out._cross = first._cross + second._cross + shift * second._size_square
        out._square = first._square + (
            second._square + 2.0 * shift * second._cross + shift**2 * second._size_square
        )
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays."""
        return {
            "sums": np.stack([self.origin, self._total, self._cross, self._square]),
            "size_square": np.array([self._size_square]),
            "counts": np.array([self.n_rows, self.n_clusters], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> ClusterSums:
        """Restore the sums from `to_arrays`.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        sums, square = part_of(arrays, "sums", (4, None)), part_of(arrays, "size_square", (1,))
        counts = part_of(arrays, "counts", (2,))
        out = cls(sums.shape[1])
        out.origin, out._total, out._cross, out._square = sums.astype(np.float64)
        out._size_square = float(square[0])
        out.n_rows, out.n_clusters = (int(count) for count in counts)
        return out

    def moments(self, column: int) -> Moments:
        """Ratio R = sum S_c / sum n_c and its linearised standard error.

        se^2 = C / (C - 1) * sum_c (S_c - R n_c)^2 / (sum_c n_c)^2, infinite for one cluster.

        Raises:
            ValueError: no rows.
        """
        if self.n_rows == 0:
            raise ValueError("no rows were accumulated; call update first")
        ratio = self._total[column] / self.n_rows
        residual = (
            self._square[column] - 2.0 * ratio * self._cross[column] + ratio**2 * self._size_square
        )
        value = float(self.origin[column] + ratio)
        if self.n_clusters < 2:
            return Moments(value, math.inf)
        spread = max(float(residual), 0.0) * self.n_clusters / (self.n_clusters - 1)
        return Moments(value, math.sqrt(spread) / self.n_rows)

    def estimate(
        self, column: int, *, level: float, unit: str, bounds: tuple[float, float]
    ) -> Estimate:
        """The ratio with a Student t interval on C - 1 degrees, clipped to `bounds`."""
        check_fraction(level, "level")
        moments = self.moments(column)
        low, high = bounds
        value = min(max(moments.value, low), high)
        interval = t_interval(value, moments.std_error, self.n_clusters, level)
        return self.as_estimate(
            value,
            (max(interval[0], low), min(interval[1], high)),
            level=level,
            unit=unit,
            method="ratio-t",
        )

    def as_estimate(
        self,
        value: float,
        interval: tuple[float, float],
        *,
        level: float,
        unit: str,
        method: str,
    ) -> Estimate:
        """Wrap a value and interval with the counts and verdict of these sums."""
        reason = small_sample_reason(self.n_clusters)
        return Estimate(
            value=value,
            interval=interval,
            level=level,
            n=self.n_clusters,
            unit=unit,
            method=method,
            reliable=not reason,
            reason=reason,
            diagnostics={"n_rows": self.n_rows},
        )
