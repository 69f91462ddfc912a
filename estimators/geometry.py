"""Geometry of adjacent states: how far one layer moves a vector, row by row.

Rows are accumulated in float64 whatever the input; every row is scaled by its largest entry
first, so that nothing overflows. `PairRows` carries the three numbers per row from which the
rest follows, so that a hook on another device can reduce its rows there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._arrays import same_device, to_numpy
from estimators._validate import as_vector, check_fraction

Floats = NDArray[np.float64]
# Entries per block of rows: small enough to stay in the cache.
_BLOCK = 1 << 16
# float32 rounding of 1 - cos that is forgiven (and clipped) at the ends of [0, 2].
_ROUNDING = 1e-5


def cosine_distance(x: ArrayLike, y: ArrayLike) -> Floats:
    """1 - <x, y> / (|x| |y|), in [0, 2], computed as half the squared chord of the directions.

    The chord keeps full relative accuracy for nearly equal directions and is 0 for equal rows.

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
    return _by_row(x, y, _cosine)


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
    return _angle(cosine_distance(x, y))


def block_influence(x: ArrayLike, y: ArrayLike) -> float:
    """Block influence of the layer x -> y: the mean cosine distance over rows, in [0, 2].

        BI = 1 - (1/n) sum_i <x_i, y_i> / (|x_i| |y_i|)

    `PairAccumulator.mean("cosine_distance")` is the same number in one pass, with an interval.

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
    """The share of rows whose cosine distance is over eps: P(1 - cos > eps).

    `PairAccumulator.tails` gives it in one pass for `TAIL_GRID`, with intervals.

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

    `PairAccumulator.quantiles` gives them in one pass, to 1/4096.

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
    """|y| / |x|.

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
    return _by_row(x, y, _ratio)


def relative_update_norm(x: ArrayLike, y: ArrayLike) -> Floats:
    """|y - x| / |x|: the size of the update next to the state it is added to.

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
    return _by_row(x, y, _update)


@dataclass(frozen=True, eq=False)
class PairRows:
    """What the pair of states x -> y says about each row, already reduced over dimensions.

    Attributes:
        cosine: cosine distance, float64 array of shape (n,), in [0, 2]. Excess of up to 1e-5
            at either end, float32 rounding, is clipped.
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
        return _angle(self.cosine)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> PairRows:
        """The rows that a boolean mask or an index array picks."""
        return PairRows(self.cosine[rows], self.norm_ratio[rows], self.relative_update[rows])

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike) -> Self:
        """Reduce two arrays of shape (n, d), in one pass.

        Raises:
            ValueError: as `cosine_distance`.
        """
        a, b = _as_pair(x, y)
        out = np.empty((3, len(a)))
        for where, block in _blocks(a, b):
            out[:, where] = _cosine(block), _ratio(block), _update(block)
        return cls(*out)


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows of x and y in float64, and their norms without overflow."""

    start: int
    x: Floats  # (b, d)
    y: Floats  # (b, d)
    x_scale: Floats  # (b,) largest |entry|
    y_scale: Floats  # (b,)
    x_norm: Floats  # (b,) norm of x / x_scale
    y_norm: Floats  # (b,) norm of y / y_scale, 0 for a zero row


def _by_row(x: ArrayLike, y: ArrayLike, measure: Callable[[_Block], Floats]) -> Floats:
    a, b = _as_pair(x, y)
    out = np.empty(len(a))
    for where, block in _blocks(a, b):
        out[where] = measure(block)
    return out


def _some(distance: Floats) -> Floats:
    if not distance.size:
        raise ValueError("there are no rows; give at least one")
    return distance


def _as_pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    same_device(x=x, y=y)
    a, b = to_numpy(x, "x"), to_numpy(y, "y")
    for name, array in (("x", a), ("y", b)):
        if array.ndim != 2 or array.shape[1] == 0:
            raise ValueError(f"{name} must have shape (n, d) with d >= 1, got {array.shape}")
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"x has shape {a.shape} but y has shape {b.shape}")
    return a, b


def _blocks(x: NDArray[np.generic], y: NDArray[np.generic]) -> Iterator[tuple[slice, _Block]]:
    step = max(1, _BLOCK // x.shape[1])
    for start in range(0, len(x), step):
        where = slice(start, start + step)
        a, b = x[where].astype(np.float64), y[where].astype(np.float64)
        a_scale, b_scale = _scale(a, "x", start), _scale(b, "y", start)
        _refuse_zero(a_scale, "x", start)
        a_norm = _norm(a / a_scale[:, None])
        b_norm = _norm(b / np.where(b_scale > 0.0, b_scale, 1.0)[:, None])
        yield where, _Block(start, a, b, a_scale, b_scale, a_norm, b_norm)


def _scale(rows: Floats, name: str, start: int) -> Floats:
    scale: Floats = np.abs(rows).max(axis=1)
    bad = np.flatnonzero(~np.isfinite(scale))
    if bad.size:
        raise ValueError(f"row {start + bad[0]} of {name} holds NaN or inf")
    return scale


def _refuse_zero(scale: Floats, name: str, start: int) -> None:
    bad = np.flatnonzero(scale == 0.0)
    if bad.size:
        raise ValueError(f"row {start + bad[0]} of {name} is the zero vector: no direction")


def _norm(rows: Floats) -> Floats:
    norm: Floats = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norm


def _cosine(block: _Block) -> Floats:
    _refuse_zero(block.y_scale, "y", block.start)
    u = block.x / block.x_scale[:, None] / block.x_norm[:, None]  # (b, d) unit rows
    v = block.y / block.y_scale[:, None] / block.y_norm[:, None]  # (b, d) unit rows
    return np.minimum(0.5 * _norm(u - v) ** 2, 2.0)


def _ratio(block: _Block) -> Floats:
    return block.y_norm / block.x_norm * (block.y_scale / block.x_scale)


def _update(block: _Block) -> Floats:
    scale = np.maximum(block.x_scale, block.y_scale)
    step = _norm(block.y / scale[:, None] - block.x / scale[:, None])
    return step / block.x_norm * (scale / block.x_scale)


def _angle(cosine: Floats) -> Floats:
    """arccos(1 - c) = 2 arcsin(sqrt(c / 2)), which is accurate for small c."""
    angle: Floats = 2.0 * np.arcsin(np.sqrt(0.5 * cosine)) / np.pi
    return angle
