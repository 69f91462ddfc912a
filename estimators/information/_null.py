"""Permutation test of independence for canonical correlations, in chunks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from estimators.information._canonical import Canonical

_CHUNK_NUMBERS = 4_000_000


def permutation_p_value(pair: Canonical, count: int, seed: int) -> dict[str, float | int]:
    """`(1 + #{T_perm >= T}) / (1 + count)` for Wilks' `T = -ln det(I - R R')`, or {} for 0.

    Whole groups are permuted, among groups with equally many rows, so what rows of a group have
    in common stays. The result goes into `diagnostics`.

    Raises:
        ValueError: a negative count, or groups of which no two are equally large.

    Source:
        Phipson and Smyth 2010, Permutation p-values should never be zero.
    """
    if count < 0:
        raise ValueError(f"null is a number of permutations, got {count}")
    if not count:
        return {}
    order = _permutations(pair.codes, pair.rows, count, np.random.default_rng(seed))
    chunk = max(1, _CHUNK_NUMBERS // pair.y.size)
    seen = float(-np.log1p(-pair.squared).sum())
    above = 0
    for start in range(0, count, chunk):
        shuffled = pair.y[order[start : start + chunk]]
        above += int((_wilks(np.matmul(pair.x.T, shuffled)) >= seen * (1 - 1e-9)).sum())
    return {"p_value": (1 + above) / (1 + count), "permutations": count}


def _wilks(cross: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b,) `-ln det(I - R R')` of each R in (b, p, q)."""
    if cross.shape[1] > cross.shape[2]:
        cross = cross.transpose(0, 2, 1)
    inner = np.eye(cross.shape[1]) - cross @ cross.transpose(0, 2, 1)
    return np.asarray(-np.linalg.slogdet(inner).logabsdet)


def _permutations(
    codes: NDArray[np.int64] | None, n: int, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(count, n) row numbers; whole groups move among groups of their size."""
    if codes is None:
        return rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    sizes = np.bincount(codes)
    members = np.argsort(codes, kind="stable")
    starts = np.cumsum(sizes) - sizes
    order = np.tile(np.arange(n), (count, 1))
    if np.unique(sizes).size == sizes.size:
        raise ValueError("no two groups have equally many rows, so no group can be permuted")
    for size in np.unique(sizes):
        rows = members[starts[sizes == size][:, None] + np.arange(size)]
        moved = rng.permuted(np.tile(np.arange(len(rows)), (count, 1)), axis=1)
        order[:, rows.reshape(-1)] = rows[moved].reshape(count, -1)
    return order
