"""Blocks of paired rows in float64, with norms that cannot overflow, and measures of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from estimators._arrays import same_device, to_numpy

Floats = NDArray[np.float64]
# Entries per block of rows: small enough to stay in the cache.
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Block:
    """A block of rows of x and y in float64, with overflow-free norms."""

    start: int
    x: Floats  # (b, d)
    y: Floats  # (b, d)
    x_scale: Floats  # (b,) largest |entry|
    y_scale: Floats  # (b,)
    x_norm: Floats  # (b,) norm of x / x_scale
    y_norm: Floats  # (b,) norm of y / y_scale, 0 for a zero row


def as_pair(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Check that x and y are real arrays of equal shape (n, d) on one device."""
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


def row_blocks(x: NDArray[np.generic], y: NDArray[np.generic]) -> Iterator[tuple[slice, Block]]:
    """Slices of rows with their blocks."""
    step = max(1, _BLOCK // x.shape[1])
    for start in range(0, len(x), step):
        where = slice(start, start + step)
        a, b = x[where].astype(np.float64), y[where].astype(np.float64)
        a_scale, b_scale = _scale(a, "x", start), _scale(b, "y", start)
        _refuse_zero(a_scale, "x", start)
        a_norm = _norm(a / a_scale[:, None])
        b_norm = _norm(b / np.where(b_scale > 0.0, b_scale, 1.0)[:, None])
        yield where, Block(start, a, b, a_scale, b_scale, a_norm, b_norm)


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


def cosine_distances(block: Block) -> Floats:
    """Cosine distance of every row of a block."""
    _refuse_zero(block.y_scale, "y", block.start)
    u = block.x / block.x_scale[:, None] / block.x_norm[:, None]  # (b, d) unit rows
    v = block.y / block.y_scale[:, None] / block.y_norm[:, None]  # (b, d) unit rows
    return np.minimum(0.5 * _norm(u - v) ** 2, 2.0)


def norm_ratios(block: Block) -> Floats:
    """|y| / |x| of every row of a block."""
    return block.y_norm / block.x_norm * (block.y_scale / block.x_scale)


def relative_updates(block: Block) -> Floats:
    """|y - x| / |x| of every row of a block."""
    scale = np.maximum(block.x_scale, block.y_scale)
    step = _norm(block.y / scale[:, None] - block.x / scale[:, None])
    return step / block.x_norm * (scale / block.x_scale)


def half_turns(cosine: Floats) -> Floats:
    """arccos(1 - c) = 2 arcsin(sqrt(c / 2)), which is accurate for small c."""
    angle: Floats = 2.0 * np.arcsin(np.sqrt(0.5 * cosine)) / np.pi
    return angle
