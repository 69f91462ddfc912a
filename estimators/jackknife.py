"""Moments kept in ten parts, so that what is computed from all of them has an interval."""

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
#: Parts that clusters are dealt into.
FOLDS = 10


class FoldedMoments:
    """Second moments of several pairs of rows, in ten parts by cluster: cluster c in part c mod 10.

    Args:
        names: what the pairs are called.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> folds = FoldedMoments("x")
        >>> folds.update({"x": (x, None)}, np.arange(100))
        >>> trace = lambda moments: float(np.trace(moments["x"].covariance()))
        >>> found = folds.estimate(trace, level=0.95, unit="1", method="trace")
        >>> found.interval[0] < 3.0 < found.interval[1]
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
            rows: name -> the two sides, each (n, d); None where both are the same.
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
        """Both together, as if seen in one pass; neither is changed."""
        out = FoldedMoments(*self.names)
        out.n_clusters = self.n_clusters + other.n_clusters
        out._folds = [_joined(*pair) for pair in zip(self._folds, other._folds, strict=True)]
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """What was accumulated, as arrays to store or send."""
        out: dict[str, NDArray[np.generic]] = {"n_clusters": np.array([self.n_clusters])}
        for number, fold in enumerate(self._folds):
            for name, moments in fold.items():
                if moments.n_rows:
                    arrays = moments.to_arrays().items()
                    out |= {f"{number}.{name}.{key}": array for key, array in arrays}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], *names: str) -> FoldedMoments:
        """The moments back from `to_arrays`, exactly.

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
        """A number computed from all moments, with a delete-a-fold jackknife interval.

        Args:
            statistic: name -> moments, to a number; NaN where it is undefined.
            level: confidence of the interval, in (0, 1).
            unit: unit of the number.
            method: what to call it.
            check_bias: unreliable where the jackknife's estimate of the bias exceeds the half
                width of the interval: the number still changes with the number of rows.

        Raises:
            ValueError: fewer than four rows, an undefined number, level outside (0, 1).

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
    one: Mapping[str, CrossMoments], other: Mapping[str, CrossMoments]
) -> dict[str, CrossMoments]:
    return {name: one[name].merge(other[name]) for name in one}
