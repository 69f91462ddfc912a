"""Folds and orders that depend on the content of rows only, never on ids or on file order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def row_hashes(*sides: Floats) -> Hashes:
    """A 64-bit hash of every row across all sides, each (n, d); equal rows have equal hashes."""
    total = np.zeros(len(sides[0]), dtype=np.uint64)
    for number, side in enumerate(sides):
        rng = np.random.default_rng([number, side.shape[1]])
        weights = rng.integers(2**63, size=side.shape[1], dtype=np.uint64) * np.uint64(
            2
        ) + np.uint64(1)
        step = max(1, (1 << 20) // side.shape[1])
        for start in range(0, len(side), step):
            # Adding zero turns -0.0 into 0.0.
            bits = np.ascontiguousarray(side[start : start + step] + 0.0).view(np.uint64)
            total[start : start + step] += ((bits ^ (bits >> np.uint64(32))) * weights).sum(axis=1)
    return _mixed(total)


def cluster_hashes(codes: NDArray[np.intp], *sides: Floats) -> Hashes:
    """A hash of every cluster 0, 1, ..., (clusters,), from its rows in any order."""
    hashes = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.uint64)
    np.add.at(hashes, codes, row_hashes(*sides))
    return _mixed(hashes)


def content_folds(codes: NDArray[np.intp], count: int, *sides: Floats) -> NDArray[np.intp]:
    """The fold of every row, (n,): the hash of its cluster, modulo the number of folds.

    Clusters of equal content go to successive folds; which of them goes where does not matter.

    Example:
        >>> x = np.arange(40.0)[:, None]
        >>> folds = content_folds(np.arange(40), 10, x)
        >>> bool((content_folds(np.arange(40), 10, x[::-1]) == folds[::-1]).all())
        True
    """
    hashes = cluster_hashes(codes, *sides)
    order = np.argsort(hashes, kind="stable")
    first = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order[:1]]))
    copy = np.empty(hashes.size, dtype=np.uint64)
    copy[order] = np.arange(hashes.size) - np.repeat(first, np.diff(first, append=hashes.size))
    return ((hashes % np.uint64(count) + copy) % np.uint64(count)).astype(np.intp)[codes]


def canonical_order(
    codes: NDArray[np.intp], *sides: Floats, ties: Floats | None = None
) -> NDArray[np.intp]:
    """An order of the rows, (n,), that depends on their content only: by cluster, then by row.

    `ties` are further columns that decide between equal rows only.
    """
    keys = [row_hashes(*sides), codes, cluster_hashes(codes, *sides)[codes]]
    if ties is not None:
        keys = [row_hashes(ties), keys[0], codes, cluster_hashes(codes, ties)[codes], keys[2]]
    return np.lexsort(keys)


def _mixed(hashes: Hashes) -> Hashes:
    """Every bit of a hash from all of its bits (the finaliser of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX[0]
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX[1]
    return hashes ^ (hashes >> np.uint64(31))
