"""Geometry of adjacent states: distances between the input and output rows of a layer.

Computed in float64; rows are scaled by their largest entry to prevent overflow. `PairRows` has
the three numbers per row that determine all measures, so that a hook can reduce rows on
another device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._row_blocks import (
    Block,
    as_pair,
    cosine_distances,
    half_turns,
    norm_ratios,
    relative_updates,
    row_blocks,
)
from estimators._validate import as_vector, check_fraction

Floats = NDArray[np.float64]
# Tolerated float32 rounding of 1 - cos at the ends of [0, 2].
_ROUNDING = 1e-5


def cosine_distance(x: ArrayLike, y: ArrayLike) -> Floats:
    """1 - <x, y> / (|x| |y|), in [0, 2], computed as half the squared chord of the directions.

    The chord is accurate for nearly equal directions and 0 for equal rows.

    Args:
        x: array or tensor of shape (n, d).
        y: array or tensor of shape (n, d).

    Returns:
        Array of shape (n,), a pure number.

    Raises:
        ValueError: shapes differ or are not (n, d); not real; a row that is zero or not finite.

    Example:
        >>> cosine_distance([[1.0, 0.0]] * 3, [[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).tolist()
        [0.0, 1.0, 2.0]
    """
    return _by_row(x, y, cosine_distances)


def angular_distance(x: ArrayLike, y: ArrayLike) -> Floats:
    """arccos(<x, y> / (|x| |y|)) / pi: the angle in half-turns, in [0, 1].

    Args:
        x: array or tensor of shape (n, d).
        y: array or tensor of shape (n, d).

    Returns:
        Array of shape (n,), in half-turns.

    Raises:
        ValueError: as `cosine_distance`.

    Example:
        >>> angular_distance([[1.0, 0.0]], [[0.0, 3.0]]).round(12).tolist()
        [0.5]
    """
    return half_turns(cosine_distance(x, y))


def block_influence(x: ArrayLike, y: ArrayLike) -> float:
    """Block influence of the layer x -> y: the mean cosine distance over rows, in [0, 2].

        BI = 1 - (1/n) sum_i <x_i, y_i> / (|x_i| |y_i|)

    `PairAccumulator.mean("cosine_distance")` computes it in one pass, with an interval.

    Args:
        x: array or tensor of shape (n, d), n >= 1, the layer's input.
        y: array or tensor of shape (n, d), its output.

    Raises:
        ValueError: as `cosine_distance`; no rows.

    Source:
        Men et al. 2024 (ShortGPT), arXiv 2403.03853, equation 1.

    Example:
        >>> block_influence([[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]])
        0.5
    """
    return float(_some(cosine_distance(x, y)).mean())


def cosine_tail(x: ArrayLike, y: ArrayLike, eps: ArrayLike) -> Floats:
    """Share of rows with cosine distance over eps: P(1 - cos > eps).

    `PairAccumulator.tails` computes it in one pass for `TAIL_GRID`, with intervals.

    Args:
        x: array or tensor of shape (n, d), n >= 1.
        y: array or tensor of shape (n, d).
        eps: thresholds, array of shape (k,).

    Returns:
        Array of shape (k,), in [0, 1].

    Raises:
        ValueError: as `cosine_distance`; no rows; eps not one-dimensional.

    Example:
        >>> cosine_tail([[1.0, 0.0]] * 2, [[2.0, 0.0], [0.0, 1.0]], [0.1, 1.5]).tolist()
        [0.5, 0.0]
    """
    distance = np.sort(_some(cosine_distance(x, y)))
    within = np.searchsorted(distance, as_vector(eps, "eps"), side="right")
    return 1.0 - within / distance.size


def cosine_quantiles(x: ArrayLike, y: ArrayLike, levels: Sequence[float]) -> Floats:
    """Quantiles of the cosine distance over rows: inverse of the empirical distribution function.

    `PairAccumulator.quantiles` computes them in one pass, to 1/4096.

    Args:
        x: array or tensor of shape (n, d), n >= 1.
        y: array or tensor of shape (n, d).
        levels: k numbers strictly between 0 and 1.

    Returns:
        Array of shape (k,), in [0, 2].

    Raises:
        ValueError: as `cosine_distance`; no rows; a level outside (0, 1).

    Example:
        >>> x = [[1.0, 0.0]] * 4
        >>> cosine_quantiles(x, [[1.0, 0.0]] * 3 + [[0.0, 1.0]], [0.5, 0.9]).tolist()
        [0.0, 1.0]
    """
    for level in levels:
        check_fraction(level, "quantile level")
    distance = _some(cosine_distance(x, y))
    return np.asarray(np.quantile(distance, levels, method="inverted_cdf"))


def norm_ratio(x: ArrayLike, y: ArrayLike) -> Floats:
    """Norm ratio |y| / |x| of output and input.

    Args:
        x: array or tensor of shape (n, d), no zero rows.
        y: array or tensor of shape (n, d).

    Returns:
        Array of shape (n,), a pure number.

    Raises:
        ValueError: shapes differ or are not (n, d); not real; a row that is not finite; a zero
            row of x.

    Example:
        >>> norm_ratio([[3.0, 4.0]], [[0.0, 10.0]]).tolist()
        [2.0]
    """
    return _by_row(x, y, norm_ratios)


def relative_update_norm(x: ArrayLike, y: ArrayLike) -> Floats:
    """Relative update norm |y - x| / |x|.

    Args:
        x: array or tensor of shape (n, d), no zero rows.
        y: array or tensor of shape (n, d).

    Returns:
        Array of shape (n,), a pure number.

    Raises:
        ValueError: as `norm_ratio`.

    Example:
        >>> relative_update_norm([[3.0, 4.0]], [[3.0, 9.0]]).tolist()
        [1.0]
    """
    return _by_row(x, y, relative_updates)


@dataclass(frozen=True, eq=False)
class PairRows:
    """Geometry of each row of a pair of states x -> y, reduced over dimensions.

    Attributes:
        cosine: cosine distance, float64 array of shape (n,), in [0, 2]. Rounding errors
            of up to 1e-5 at either end are clipped.
        norm_ratio: |y| / |x|, float64 array of shape (n,), >= 0.
        relative_update: |y - x| / |x|, float64 array of shape (n,), >= 0.

    Raises:
        ValueError: not one-dimensional, lengths differ, not finite, out of range.

    Example:
        >>> rows = PairRows.of([[1.0, 0.0]], [[0.0, 2.0]])
        >>> len(rows), rows.cosine.tolist(), rows.norm_ratio.tolist()
        (1, [1.0], [2.0])
    """

    cosine: Floats
    norm_ratio: Floats
    relative_update: Floats

    def __post_init__(self) -> None:
        for name in ("cosine", "norm_ratio", "relative_update"):
            object.__setattr__(self, name, as_vector(getattr(self, name), name))
        sizes = (self.cosine.size, self.norm_ratio.size, self.relative_update.size)
        if len(set(sizes)) > 1:
            raise ValueError(f"cosine, norm_ratio, relative_update differ in length: {sizes}")
        bad = np.flatnonzero(np.abs(self.cosine - 1.0) > 1.0 + _ROUNDING)
        if bad.size:
            raise ValueError(f"cosine[{bad[0]}] is {self.cosine[bad[0]]:g}, outside [0, 2]")
        for name in ("norm_ratio", "relative_update"):
            bad = np.flatnonzero(getattr(self, name) < 0.0)
            if bad.size:
                raise ValueError(f"{name}[{bad[0]}] is negative")
        object.__setattr__(self, "cosine", np.clip(self.cosine, 0.0, 2.0))

    def __len__(self) -> int:
        return self.cosine.size

    @property
    def angular(self) -> Floats:
        """arccos(1 - cosine) / pi, float64 array of shape (n,), in half-turns."""
        return half_turns(self.cosine)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> PairRows:
        """Select rows by a boolean mask or index array."""
        return PairRows(self.cosine[rows], self.norm_ratio[rows], self.relative_update[rows])

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike) -> Self:
        """Reduce two arrays of shape (n, d) in one pass.

        Raises:
            ValueError: as `cosine_distance`.
        """
        a, b = as_pair(x, y)
        out = np.empty((3, len(a)))
        for where, block in row_blocks(a, b):
            out[:, where] = cosine_distances(block), norm_ratios(block), relative_updates(block)
        return cls(*out)


def _by_row(x: ArrayLike, y: ArrayLike, measure: Callable[[Block], Floats]) -> Floats:
    a, b = as_pair(x, y)
    out = np.empty(len(a))
    for where, block in row_blocks(a, b):
        out[where] = measure(block)
    return out


def _some(distance: Floats) -> Floats:
    if not distance.size:
        raise ValueError("there are no rows; give at least one")
    return distance
