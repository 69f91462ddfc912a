"""Permutation test of independence for canonical correlations, in chunks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from estimators.information._canonical import Canonical
from estimators.information._request import Request

_CHUNK_NUMBERS = 4_000_000


def permutation_p_value(pair: Canonical, ask: Request) -> dict[str, float | int]:
    """Permutation p-value of Wilks' `T = -ln det(I - R R')`; empty without permutations.

    The p-value is `(1 + #{T_perm >= T}) / (1 + permutations)`.

    Whole clusters are permuted among clusters of equal size, which preserves dependence within
    clusters. The result goes into `diagnostics`.

    Raises:
        ValueError: no two clusters are equally large.

    Source:
        Phipson and Smyth 2010, Permutation p-values should never be zero.
    """
    count = ask.permutations
    if not count:
        return {}
    # Contiguous rows: otherwise indexing costs ten times the product.
    left, right = np.ascontiguousarray(pair.x.T), np.ascontiguousarray(pair.y)
    with np.errstate(divide="ignore"):
        seen = -float(np.log(pair.gaps).sum())
    least = seen * (1 - 1e-9)
    order = draw_permutations(ask, pair.rows)
    chunk = max(1, _CHUNK_NUMBERS // (len(left) * right.shape[1]))
    above = 0
    for start in range(0, count, chunk):
        cross = np.stack([left @ right[rows] for rows in order[start : start + chunk]])
        above += int((_wilks(cross) >= least).sum())
    return {"p_value": (1 + above) / (1 + count), "permutations": count}


def p_value(
    seen: float, statistic: Callable[[NDArray[np.int64]], float], ask: Request, n: int
) -> dict[str, float | int]:
    """Permutation p-value of a statistic of a row order; empty without permutations.

    Raises:
        ValueError: no two clusters are equally large.
    """
    if not ask.permutations:
        return {}
    above = sum(statistic(order) >= seen - 1e-12 for order in draw_permutations(ask, n))
    return {"p_value": (1 + above) / (1 + ask.permutations), "permutations": ask.permutations}


def _wilks(cross: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b,) `-ln det(I - R R')` of each R in (b, p, q)."""
    if cross.shape[1] > cross.shape[2]:
        cross = cross.transpose(0, 2, 1)
    inner = np.eye(cross.shape[1]) - cross @ cross.transpose(0, 2, 1)
    return np.asarray(-np.linalg.slogdet(inner).logabsdet)


def draw_permutations(ask: Request, n: int) -> NDArray[np.int64]:
    """Row numbers (permutations, n); whole clusters are permuted among clusters of equal size.

    Raises:
        ValueError: no two clusters have equally many rows.
    """
    codes, count, rng = ask.codes, ask.permutations, np.random.default_rng(ask.seed)
    if codes is None:
        return rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    sizes = np.bincount(codes)
    # Rows of two clusters are matched by their places in the file, not by what they hold.
    places = np.arange(n) if ask.positions is None else ask.positions
    members = np.lexsort((places, codes))
    starts = np.cumsum(sizes) - sizes
    order = np.tile(np.arange(n), (count, 1))
    if np.unique(sizes).size == sizes.size:
        raise ValueError("no two clusters have equally many rows, so no cluster can be permuted")
    for size in np.unique(sizes):
        rows = members[starts[sizes == size][:, None] + np.arange(size)]
        moved = rng.permuted(np.tile(np.arange(len(rows)), (count, 1)), axis=1)
        order[:, rows.reshape(-1)] = rows[moved].reshape(count, -1)
    return order
