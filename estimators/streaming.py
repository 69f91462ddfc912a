"""Streaming accumulators for adjacent states: one pass, memory independent of the rows.

Rows of a cluster (an image) may depend on each other, clusters are independent. Means are ratios
sum_c S_c / sum_c n_c over clusters c, so every **row** has the same weight; intervals come from the
linearised ratio with Student's t on C - 1 degrees (Cochran 1977, section 6.4).

**All rows of a cluster must come in one `update` call**, and accumulators that are merged must
hold different clusters. This cannot be checked in constant memory; a split cluster
counts as two independent clusters and makes intervals too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._cluster_sums import ClusterSums, as_cluster_ids, part_of
from estimators._labels import Labels
from estimators._validate import as_vector, check_fraction, check_within
from estimators.estimate import Estimate
from estimators.geometry import PairRows

MEASURES = ("cosine_distance", "angular_distance", "norm_ratio", "relative_update_norm")
TAIL_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0)

_UNITS = {"angular_distance": "half-turns"}
_BOUNDS = {
    "cosine_distance": (0.0, 2.0),
    "angular_distance": (0.0, 1.0),
    "norm_ratio": (0.0, math.inf),
    "relative_update_norm": (0.0, math.inf),
}
#: Bins of equal width on the range [0, 2] of the cosine distance. Below `_FINE`, where layers that
#: hardly change a state lie, bins of equal ratio replace them, down to the rounding of a distance.
_LINEAR, _PER_UNIT, _FINE = 4096, 2048, 2.0**-7
_LOG, _LEAST = 1024, 2.0**-60
_BINS = _LOG + _LINEAR
_LOG_EDGES = np.geomspace(_LEAST, _FINE, _LOG + 1)
_MIDDLES = np.concatenate(
    [np.sqrt(_LOG_EDGES[1:] * _LOG_EDGES[:-1]), (np.arange(_LINEAR) + 0.5) / _PER_UNIT]
)


class MeanAccumulator:
    """Streaming mean of one number per row, with an interval over clusters.

    Args:
        unit: unit of the values.
        bounds: range the values must lie in; the interval is clipped to it. Infinite ends allowed.

    Example:
        >>> attention = MeanAccumulator(bounds=(0.0, 1.0))
        >>> attention.update([0.2, 0.4, 0.6], clusters=[0, 0, 1])
        >>> round(attention.mean().value, 12)
        0.4
    """

    def __init__(
        self, *, unit: str = "1", bounds: tuple[float, float] = (-math.inf, math.inf)
    ) -> None:
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds need lower < upper, got {bounds}")
        self.unit = unit
        self.bounds = bounds
        self._sums = ClusterSums(1)

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return self._sums.n_rows

    @property
    def n_clusters(self) -> int:
        """Clusters seen so far."""
        return self._sums.n_clusters

    def update(self, values: ArrayLike, clusters: Labels) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            values: array of shape (n,), n >= 0.
            clusters: n labels.

        Raises:
            ValueError: not one-dimensional, not finite, outside the bounds, lengths differ,
                labels as `cluster_codes`.
        """
        x = as_vector(values)
        check_within(x, *self.bounds)
        self._sums.update(x[:, None], as_cluster_ids(clusters, x.size))

    def merge(self, other: MeanAccumulator) -> MeanAccumulator:
        """Merge two accumulators, as if filled in one pass; neither is changed.

        Raises:
            ValueError: unit or bounds differ.
        """
        if (self.unit, self.bounds) != (other.unit, other.bounds):
            raise ValueError(
                f"cannot merge ({self.unit}, {self.bounds}) with ({other.unit}, {other.bounds})"
            )
        out = MeanAccumulator(unit=self.unit, bounds=self.bounds)
        out._sums = self._sums.merge(other._sums)
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send; without unit and bounds."""
        return self._sums.to_arrays()

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[np.generic]],
        *,
        unit: str = "1",
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> MeanAccumulator:
        """Restore an accumulator from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        out = cls(unit=unit, bounds=bounds)
        out._sums = ClusterSums.from_arrays(arrays)
        return out

    def mean(self, *, level: float = 0.95) -> Estimate:
        """Mean over rows with its interval over clusters.

        Raises:
            ValueError: no rows, level outside (0, 1).
        """
        return self._sums.estimate(0, level=level, unit=self.unit, bounds=self.bounds)


class PairAccumulator:
    """Streaming geometry of one pair of adjacent states: means, tails and quantiles.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(300, 16))
        >>> pair = PairAccumulator()
        >>> pair.update(PairRows.of(x, 2.0 * x), clusters=np.arange(300) // 10)
        >>> pair.mean("norm_ratio").value, pair.n_clusters
        (2.0, 30)
    """

    def __init__(self) -> None:
        self._sums = ClusterSums(len(MEASURES) + len(TAIL_GRID))
        self._histogram = np.zeros(_BINS, dtype=np.int64)
        self._smallest, self._largest = math.inf, -math.inf

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return self._sums.n_rows

    @property
    def n_clusters(self) -> int:
        """Clusters seen so far."""
        return self._sums.n_clusters

    def update(self, rows: PairRows, clusters: Labels) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            rows: n rows, n >= 0.
            clusters: n labels, the image of each row.

        Raises:
            ValueError: lengths differ, labels as `cluster_codes`.
        """
        ids = as_cluster_ids(clusters, len(rows))
        if not len(rows):
            return
        distance = rows.cosine
        beyond = distance[:, None] > np.array(TAIL_GRID)  # (n, grid)
        columns = (distance, rows.angular, rows.norm_ratio, rows.relative_update)
        self._sums.update(np.column_stack((*columns, beyond)), ids)
        self._histogram += np.bincount(_bins(distance), minlength=_BINS)
        self._smallest = min(self._smallest, float(distance.min()))
        self._largest = max(self._largest, float(distance.max()))

    def merge(self, other: PairAccumulator) -> PairAccumulator:
        """Merge two accumulators, as if filled in one pass (to 1e-10); neither is changed."""
        out = PairAccumulator()
        out._sums = self._sums.merge(other._sums)
        out._histogram = self._histogram + other._histogram
        out._smallest = min(self._smallest, other._smallest)
        out._largest = max(self._largest, other._largest)
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send."""
        return {
            **self._sums.to_arrays(),
            "histogram": self._histogram.copy(),
            "range": np.array([self._smallest, self._largest]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> PairAccumulator:
        """Restore an accumulator from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.

        Example:
            >>> pair = PairAccumulator()
            >>> pair.update(PairRows.of([[1.0, 0.0]], [[0.0, 2.0]]), clusters=[0])
            >>> PairAccumulator.from_arrays(pair.to_arrays()).mean("norm_ratio").value
            2.0
        """
        out = cls()
        out._sums = ClusterSums.from_arrays(arrays)
        if out._sums.width != len(MEASURES) + len(TAIL_GRID):
            raise ValueError(f"a stored pair holds {out._sums.width} measures")
        out._histogram = part_of(arrays, "histogram", (_BINS,)).astype(np.int64)
        out._smallest, out._largest = (float(end) for end in part_of(arrays, "range", (2,)))
        return out

    def mean(self, measure: str, *, level: float = 0.95) -> Estimate:
        """Mean over rows of a measure in `MEASURES`, with its interval over clusters.

        Raises:
            ValueError: unknown measure, no rows, level outside (0, 1).
        """
        if measure not in MEASURES:
            raise ValueError(f"unknown measure '{measure}'; choose from {', '.join(MEASURES)}")
        return self._sums.estimate(
            MEASURES.index(measure),
            level=level,
            unit=_UNITS.get(measure, "1"),
            bounds=_BOUNDS[measure],
        )

    def tail(self, index: int, *, level: float = 0.95) -> Estimate:
        """P(cosine distance > TAIL_GRID[index]) over rows, with its interval over clusters.

        If all rows lie on one side, a t interval would have zero width. The interval is then
        [0, 1 - (1 - level)^(1/C)], or its mirror image: the exact bound for C clusters of equal
        size without an exception, whatever the dependence between their rows.

        Raises:
            ValueError: index outside the grid, no rows, level outside (0, 1).
        """
        if not 0 <= index < len(TAIL_GRID):
            raise ValueError(f"tail index {index} is outside 0 to {len(TAIL_GRID) - 1}")
        tail = self._sums.estimate(len(MEASURES) + index, level=level, unit="1", bounds=(0.0, 1.0))
        if 0.0 < tail.value < 1.0:
            return tail
        width = -math.expm1(math.log1p(-level) / self.n_clusters)
        interval = (0.0, width) if tail.value == 0.0 else (1.0 - width, 1.0)
        return self._sums.as_estimate(
            tail.value, interval, level=level, unit="1", method="no-exception"
        )

    def tails(self, *, level: float = 0.95) -> tuple[Estimate, ...]:
        """`tail` for every threshold of `TAIL_GRID`."""
        return tuple(self.tail(index, level=level) for index in range(len(TAIL_GRID)))

    def quantiles(self, levels: Sequence[float]) -> tuple[float, ...]:
        """Quantiles of the cosine distance over rows, without interval.

        Each is the midpoint of the histogram bin that contains the quantile (inverse of the
        empirical distribution function), clipped to the observed range: exact to 1/4096, and below
        2^-7 to 2 % of the value.

        Args:
            levels: numbers strictly between 0 and 1.

        Raises:
            ValueError: a level outside (0, 1), no rows.
        """
        for level in levels:
            check_fraction(level, "quantile level")
        if self.n_rows == 0:
            raise ValueError("no rows were accumulated; call update first")
        reached = np.cumsum(self._histogram) / self.n_rows
        bins = np.searchsorted(reached, np.asarray(levels, dtype=np.float64))
        middles = np.clip(_MIDDLES[bins], self._smallest, self._largest)
        return tuple(float(middle) for middle in middles)


def _bins(distance: NDArray[np.floating]) -> NDArray[np.int64]:
    """The histogram bin of each cosine distance."""
    ratios = np.log2(np.maximum(distance, _LEAST) / _LEAST) * (_LOG / np.log2(_FINE / _LEAST))
    fine = np.minimum(ratios.astype(np.int64), _LOG - 1)
    coarse = _LOG + np.minimum((distance * _PER_UNIT).astype(np.int64), _LINEAR - 1)
    return np.where(distance < _FINE, fine, coarse)
