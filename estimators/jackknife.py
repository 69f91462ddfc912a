"""Second moments in ten folds, for delete-a-fold jackknife intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from estimators._cluster_sums import as_cluster_ids, part_of
from estimators._content import cluster_hashes
from estimators._labels import Labels
from estimators._student import carriers_reason, small_sample_reason, t_interval, wide_reason
from estimators._validate import check_fraction
from estimators.estimate import Estimate
from estimators.moments import CrossMoments

Floats = NDArray[np.float64]
#: Number of folds of clusters.
FOLDS = 10
#: Share of the bias correction that counts as a standard error.
_BIAS_SHARE = 0.5
#: Largest share of the variance that comes from one fold; equal folds exceed it once in 1,000.
_DOMINANT = 0.8


class FoldedMoments:
    """Second moments of several pairs of rows, in ten folds of clusters.

    The fold of a cluster is a hash of its rows: no id, no order and no batch changes it, and
    accumulators that are merged agree on it. Clusters of equal content share a fold, which makes
    intervals wide where most clusters are copies.

    Args:
        names: names of the pairs.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> folds = FoldedMoments("x")
        >>> folds.update({"x": (x, None)}, np.arange(100))
        >>> trace = lambda moments: float(np.trace(moments["x"].covariance()))
        >>> settings = {"level": 0.95, "unit": "1", "method": "trace", "limits": (0.0, np.inf)}
        >>> estimate = folds.estimate(trace, **settings)
        >>> estimate.interval[0] < 3.0 < estimate.interval[1]
        True
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self._clusters = np.zeros(FOLDS, dtype=np.int64)
        self._folds = [{name: CrossMoments() for name in names} for _ in range(FOLDS)]

    @property
    def n_rows(self) -> int:
        """Rows seen so far."""
        return sum(fold[self.names[0]].n_rows for fold in self._folds)

    @property
    def folds(self) -> Sequence[Mapping[str, CrossMoments]]:
        """The moments of each fold, by name."""
        return self._folds

    @property
    def width(self) -> int:
        """Columns of the first side; 0 before the first rows."""
        return max(fold[self.names[0]].dims[0] for fold in self._folds)

    @property
    def n_clusters(self) -> int:
        """Clusters seen so far."""
        return int(self._clusters.sum())

    def update(
        self,
        rows: Mapping[str, tuple[Floats, Floats | None]],
        clusters: Labels,
        folds: NDArray[np.intp] | None = None,
    ) -> None:
        """Add rows; all rows of a cluster in one call.

        Args:
            rows: the two sides, each (n, d), by name of the pair; None for y equal to x.
            clusters: n labels.
            folds: the fold of every row, (n,), equal within a cluster. Default: by content.

        Raises:
            ValueError: as `CrossMoments.update`; labels as `cluster_codes`.
        """
        codes = as_cluster_ids(clusters, len(rows[self.names[0]][0]))
        if folds is None:
            sides = [a for a, b in rows.values() if b is None]
            folds = (cluster_hashes(codes, *sides) % np.uint64(FOLDS)).astype(np.intp)[codes]
        for number, fold in enumerate(self._folds):
            mine = np.flatnonzero(folds == number)
            if mine.size:
                self._clusters[number] += np.unique(codes[mine]).size
                for name, (a, b) in rows.items():
                    fold[name].update(a[mine], None if b is None else b[mine])

    def merge(self, other: FoldedMoments) -> FoldedMoments:
        """Merge two accumulators, as if filled in one pass; neither is changed."""
        out = FoldedMoments(*self.names)
        out._clusters = self._clusters + other._clusters
        out._folds = [_joined(*pair) for pair in zip(self._folds, other._folds, strict=True)]
        return out

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, to store or send."""
        out: dict[str, NDArray[np.generic]] = {"n_clusters": self._clusters.copy()}
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
        out = cls(*names)
        out._clusters = part_of(arrays, "n_clusters", (FOLDS,)).astype(np.int64)
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
        limits: tuple[float, float],
        biased: bool = False,
        second_order: Callable[[float], float] | None = None,
    ) -> Estimate:
        """Estimate a function of the moments, with a delete-a-fold jackknife interval.

        With C clusters, m_j of them in fold j, h_j = C / m_j and v_j the value without fold j,

            corrected = g v - sum_j (1 - m_j / C) v_j,
            variance  = sum_j (h_j v - (h_j - 1) v_j - corrected)^2 / (h_j - 1) / g.

        Args:
            statistic: function of the moments by name; NaN where it is undefined.
            level: confidence of the interval, in (0, 1).
            unit: unit of the statistic.
            method: name of the method in the estimate.
            limits: smallest and largest possible value; the interval is clipped to them.
            biased: the statistic has a bias that shrinks with the number of rows. The interval
                is centred at the corrected value, a share (1/2) of the correction counts as
                standard error, and the interval extends to the value.
            second_order: further standard error at a value, for statistics whose slope vanishes
                at their maximum, where the jackknife sees no variance.

        Raises:
            ValueError: fewer than four rows, an undefined statistic, level outside (0, 1).

        Source:
            Busing, Meijer & van der Leeden 1999, Delete-m jackknife for unequal m, Statistics
            and Computing 9; Shao & Tu 1995, The Jackknife and Bootstrap, section 2.3.
        """
        check_fraction(level, "level")
        if self.n_rows < 4:
            raise ValueError(f"at least 4 rows are needed, {self.n_rows} were accumulated")
        value, left, whole = self._values(statistic)
        used = np.flatnonzero(np.isfinite(left))
        g, reasons = used.size, [small_sample_reason(self.n_clusters)]
        low, high, corrected = -math.inf, math.inf, value
        if g > 1:
            share = self._clusters[used] / self._clusters[used].sum()
            corrected = g * value - float(((1.0 - share) * left[used]).sum())
            pseudo = (value - (1.0 - share) * left[used]) / share
            parts = (pseudo - corrected) ** 2 * share / (1.0 - share) / g
            error = math.sqrt(float(parts.sum()))
            reasons.append(_dominance_reason(parts, value))
            centre = corrected if biased else value
            error = math.hypot(error, _BIAS_SHARE * (corrected - value)) if biased else error
            if second_order is not None:
                error = math.hypot(error, second_order(value))
            low, high = t_interval(centre, error, g, level)
            low, high = min(low, value), max(high, value)
        if g < FOLDS // 2:
            reasons.append(f"only {g} of {FOLDS} folds of clusters can be left out")
        reasons.append(carriers_reason(min(moments.carriers() for moments in whole.values())))
        reasons.append(wide_reason(value, (low, high)))
        if biased and high > max(self.n_rows - 1, 1) and limits[1] > self.n_rows - 1:
            reasons.append(f"{self.n_rows} rows cannot show a value over {self.n_rows - 1}")
        reason = "; ".join(filter(None, reasons))
        diagnostics = {"n_rows": self.n_rows, "folds": g}
        return Estimate(
            value=value,
            interval=(float(np.clip(low, *limits)), float(np.clip(high, *limits))),
            level=level,
            n=self.n_clusters,
            d=max(whole[self.names[-1]].dims),
            unit=unit,
            method=method,
            reliable=not reason,
            reason=reason,
            diagnostics={**diagnostics, "corrected": corrected} if biased else diagnostics,
        )

    def _values(
        self, statistic: Callable[[dict[str, CrossMoments]], float]
    ) -> tuple[float, Floats, dict[str, CrossMoments]]:
        """The statistic of all folds; without each fold, (10,), NaN where that is undefined."""
        nothing = {name: CrossMoments() for name in self.names}
        before = list(accumulate(self._folds, _joined, initial=nothing))  # [i]: folds before i
        after = list(accumulate(self._folds[::-1], _joined, initial=nothing))[::-1]  # from i on
        whole = before[-1]
        value = statistic(whole)
        if math.isnan(value):
            raise ValueError("a side has no spread: all its rows are equal")
        left = np.full(FOLDS, math.nan)
        for number in np.flatnonzero(self._clusters):
            without = _joined(before[number], after[number + 1])
            if without[self.names[0]].n_rows >= 4:
                left[number] = statistic(without)
        return value, left, whole


def _dominance_reason(parts: Floats, value: float) -> str:
    """Message where one fold carries most of the variance; may be empty."""
    total = float(parts.sum())
    if total <= (1e-9 * value) ** 2 or float(parts.max()) <= _DOMINANT * total:
        return ""
    return (
        f"one of {parts.size} folds of clusters carries {float(parts.max()) / total:.0%} of the "
        "variance: a few rows determine the value"
    )


def _joined(
    first: Mapping[str, CrossMoments], second: Mapping[str, CrossMoments]
) -> dict[str, CrossMoments]:
    return {name: first[name].merge(second[name]) for name in first}
