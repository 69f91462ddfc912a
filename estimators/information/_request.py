"""Settings that every information method shares, and the estimate built from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from estimators._reliability import verdict
from estimators._validate import check_fraction
from estimators.clustered import Labels, cluster_codes
from estimators.estimate import Estimate

#: One nat in each unit.
UNITS = {"nats": 1.0, "bits": 1.0 / float(np.log(2.0))}


@dataclass(frozen=True)
class Request:
    """Level, independent clusters, permutations and seed of an estimate.

    Attributes:
        level: confidence of the interval.
        codes: (n,) cluster number of every row, or None: each row is its own cluster.
        permutations: random permutations for a p-value of independence; 0 for none.
        seed: seed of all random numbers.
        positions: (n,) place of every row in the file, or None: the rows are as in the file.
    """

    level: float = 0.95
    codes: NDArray[np.int64] | None = None
    permutations: int = 0
    seed: int = 0
    positions: NDArray[np.int64] | None = None

    @classmethod
    def of(
        cls, n: int, *, level: float, clusters: Labels | None, permutations: int, seed: int
    ) -> Request:
        """Check the settings of an estimate from n rows.

        Raises:
            ValueError: a level outside (0, 1), labels of the wrong length, or permutations below 0.
        """
        check_fraction(level, "level")
        if permutations < 0:
            raise ValueError(f"permutations must be at least 0, got {permutations}")
        codes = None
        if clusters is not None:
            codes = cluster_codes(clusters)
            if len(codes) != n:
                raise ValueError(f"{n} rows but {len(codes)} labels in clusters")
        return cls(level, codes, permutations, seed)

    def ordered(self, order: NDArray[np.int64]) -> Request:
        """The settings for rows in another order; clusters are numbered by first appearance."""
        if self.codes is None:
            return self
        codes = cluster_codes(self.codes[order]).astype(np.int64)
        return replace(self, codes=codes, positions=order)

    @property
    def z(self) -> float:
        """Normal quantile of a two-sided interval."""
        return float(ndtri(0.5 + 0.5 * self.level))

    def cluster_count(self, n: int) -> int:
        """Number of independent clusters among n rows."""
        return n if self.codes is None else int(self.codes.max()) + 1

    def halves(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row numbers of two random halves of the clusters."""
        codes = np.arange(n) if self.codes is None else self.codes
        clusters = int(codes.max()) + 1
        first = np.random.default_rng(self.seed).permutation(clusters) < clusters // 2
        return np.flatnonzero(first[codes]), np.flatnonzero(~first[codes])

    def sums(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of per-row terms over each cluster, shape (clusters,)."""
        if self.codes is None:
            return terms
        return np.asarray(np.bincount(self.codes, weights=terms), dtype=np.float64)

    def variance_of_mean(self, terms: NDArray[np.float64]) -> float:
        """Variance of the mean of per-row terms, robust to dependence within clusters."""
        n, sums = len(terms), self.sums(terms - terms.mean())
        if len(sums) < 2:
            return float("inf")
        return float((sums**2).sum()) / n**2 * len(sums) / (len(sums) - 1)

    def effect(self, rows: NDArray[np.float64]) -> float:
        """Design effect of the second moments of centred rows: rows per effective row, >= 1."""
        if self.codes is None:
            return 1.0
        rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=0))[1])  # so that none overflows
        squares = rows**2 - (rows**2).mean(axis=0)
        apart = (squares**2).sum(axis=0)
        sums = np.stack([self.sums(column) for column in squares.T], axis=1)
        return max(1.0, float(((sums**2).sum(axis=0) / apart).mean()))

    def estimate(
        self,
        value: float,
        variance: float | tuple[float, float],
        *,
        n: int,
        d: int,
        method: str,
        doubts: list[str],
        diagnostics: dict[str, Any],
        judged: tuple[float, float] | None = None,
    ) -> Estimate:
        """Estimate in nats with verdict; `variance` may be a ready interval instead.

        The verdict is on the width of `judged`, by default of the interval.
        """
        if isinstance(variance, tuple):
            interval = variance
        else:
            half = self.z * variance**0.5
            interval = (value - half, value + half)
        doubts = [line for line in doubts if line]
        reliable, reason = verdict(value, judged or interval, doubts)
        return Estimate(
            value=value,
            interval=interval,
            level=self.level,
            n=self.cluster_count(n),
            d=d,
            unit="nats",
            method=method,
            reliable=reliable,
            reason=reason,
            diagnostics={**diagnostics, "failed_checks": len(doubts)},
        )

    def information(
        self,
        value: float,
        variance: float | tuple[float, float],
        *,
        most: float = float("inf"),
        diagnostics: dict[str, Any],
        **facts: Any,
    ) -> Estimate:
        """`estimate` of an information, which lies between 0 and `most`: ends and value are cut.

        The interval is as narrow as before the cut, unless it covers all that is possible. A
        value that was cut stands in diagnostics["uncut"].
        """
        if not isinstance(variance, tuple):
            half = self.z * variance**0.5
            variance = (value - half, value + half)
        low, high = (min(max(end, 0.0), most) for end in variance)
        inside = min(max(value, 0.0), most)
        if inside != value:
            diagnostics = {**diagnostics, "uncut": value}
        finite = {
            key: item
            for key, item in diagnostics.items()
            if not isinstance(item, float) or np.isfinite(item)
        }
        judged = (low, high) if (low, high) == (0.0, most) else variance
        return self.estimate(inside, (low, high), judged=judged, diagnostics=finite, **facts)


def check_unit(unit: str) -> None:
    """Raise ValueError for an unknown unit of information."""
    if unit not in UNITS:
        raise ValueError(f"unknown unit '{unit}'; choose from {', '.join(UNITS)}")


def in_unit(estimate: Estimate, unit: str) -> Estimate:
    """Convert an estimate in nats to a unit."""
    factor = UNITS[unit]
    low, high = estimate.interval
    return replace(
        estimate, value=estimate.value * factor, interval=(low * factor, high * factor), unit=unit
    )
