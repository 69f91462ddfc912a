"""Second moments in ten folds, for delete-a-fold jackknife intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._cluster_sums import as_cluster_ids
from estimators._student import small_sample_reason, t_interval
from estimators._validate import check_fraction
from estimators.estimate import Estimate
from estimators.moments import CrossMoments

Floats = NDArray[np.float64]
#: Number of folds of clusters.
FOLDS = 10


class FoldedMoments:
    """Second moments of several pairs of rows; cluster c belongs to fold c mod 10.

    Args:
        names: names of the pairs.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> folds = FoldedMoments("x")
        >>> folds.update({"x": (x, None)}, np.arange(100))
        >>> trace = lambda moments: float(np.trace(moments["x"].covariance()))
        >>> estimate = folds.estimate(trace, level=0.95, unit="1", method="trace")
        >>> estimate.interval[0] < 3.0 < estimate.interval[1]
        True
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.n_clusters = 0
        self._folds = [{name: CrossMoments() for name in names} for _ in range(FOLDS)]

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return sum(fold[self.names[0]].n_rows for fold in self._folds)

    def update(self, rows: Mapping[str, tuple[Floats, Floats | None]], clusters: ArrayLike) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            rows: the two sides, each (n, d), by name of the pair; None for y equal to x.
            clusters: integers of shape (n,).

        Raises:
            ValueError: as `CrossMoments.update`; clusters that are not n integers.
        """
        ids = as_cluster_ids(clusters, len(rows[self.names[0]][0]))
        self.n_clusters += np.unique(ids).size
        for number, fold in enumerate(self._folds):
            mine = np.flatnonzero(ids % FOLDS == number)
            if mine.size:
                for name, (a, b) in rows.items():
                    fold[name].update(a[mine], None if b is None else b[mine])

    def merge(self, other: FoldedMoments) -> FoldedMoments:
        """Merge two accumulators, as if filled in one pass; neither is changed."""
        out = FoldedMoments(*self.names)
        out.n_clusters = self.n_clusters + other.n_clusters
        out._folds = [_joined(*pair) for pair in zip(self._folds, other._folds, strict=True)]
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send."""
        out: dict[str, NDArray[np.generic]] = {"n_clusters": np.array([self.n_clusters])}
        for number, fold in enumerate(self._folds):
            for name, moments in fold.items():
                if moments.n_rows:
                    arrays = moments.to_arrays().items()
                    out |= {f"{number}.{name}.{key}": array for key, array in arrays}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], *names: str) -> FoldedMoments:
        """Restore the moments from `to_arrays`, exactly.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        if "n_clusters" not in arrays:
            raise ValueError("a stored accumulator lacks 'n_clusters'")
        out = cls(*names)
        out.n_clusters = int(arrays["n_clusters"][0])
        for number, fold in enumerate(out._folds):
            for name in names:
                start = f"{number}.{name}."
                mine = {k.removeprefix(start): a for k, a in arrays.items() if k.startswith(start)}
                if mine:
                    fold[name] = CrossMoments.from_arrays(mine)
        return out

    def estimate(
        self,
        statistic: Callable[[dict[str, CrossMoments]], float],
        *,
        level: float,
        unit: str,
        method: str,
        check_bias: bool = False,
    ) -> Estimate:
        """Estimate a function of the moments, with a delete-a-fold jackknife interval.

        Args:
            statistic: function of the moments by name; NaN where it is undefined.
            level: confidence of the interval, in (0, 1).
            unit: unit of the statistic.
            method: name of the method in the estimate.
            check_bias: call the estimate unreliable where the jackknife bias exceeds the half
                width of the interval, so that the value still depends on the number of rows.

        Raises:
            ValueError: fewer than four rows, an undefined statistic, level outside (0, 1).

        Source:
            Shao & Tu 1995, The Jackknife and Bootstrap, section 2.3.
        """
        check_fraction(level, "level")
        if self.n_rows < 4:
            raise ValueError(f"at least 4 rows are needed, {self.n_rows} were accumulated")
        folds = [fold for fold in self._folds if fold[self.names[0]].n_rows]
        nothing = {name: CrossMoments() for name in self.names}
        before = list(accumulate(folds, _joined, initial=nothing))  # [i]: folds before i
        after = list(accumulate(folds[::-1], _joined, initial=nothing))[::-1]  # [i]: from i on
        whole = before[-1]
        value = statistic(whole)
        if math.isnan(value):
            raise ValueError("a side has no spread: all its rows are equal")
        without = map(_joined, before[:-1], after[1:])
        left = np.array([statistic(fold) for fold in without if fold[self.names[0]].n_rows >= 4])
        g = left.size
        error = math.sqrt((g - 1) / g * float(((left - left.mean()) ** 2).sum())) if g > 1 else 0.0
        interval = t_interval(value, error, g, level)
        reasons = [small_sample_reason(self.n_clusters)]
        bias = (g - 1) * (float(left.mean()) - value) if g > 1 else 0.0
        if check_bias and abs(bias) > 0.5 * (interval[1] - interval[0]) + 1e-9 * abs(value):
            reasons.append(f"the value still changes with the number of rows (by {-bias:+.2g})")
        reason = "; ".join(filter(None, reasons))
        return Estimate(
            value=value,
            interval=interval,
            level=level,
            n=self.n_clusters,
            d=max(whole[self.names[-1]].dims),
            unit=unit,
            method=method,
            reliable=not reason,
            reason=reason,
            diagnostics={"n_rows": self.n_rows, "folds": g},
        )


def _joined(
    first: Mapping[str, CrossMoments], second: Mapping[str, CrossMoments]
) -> dict[str, CrossMoments]:
    return {name: first[name].merge(second[name]) for name in first}
