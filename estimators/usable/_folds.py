"""Folds that keep independent clusters together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def folds_of(codes: Indices, count: int, seed: int) -> list[tuple[Indices, Indices]]:
    """Training and held-out row numbers of every fold of clusters.

    Args:
        codes: (n,) cluster number of every row.
        count: number of folds.
        seed: seed of the assignment.

    Raises:
        ValueError: fewer than two folds, or fewer clusters than folds.

    Example:
        >>> [held.tolist() for _, held in folds_of(np.array([0, 0, 1]), 2, seed=0)]
        [[0, 1], [2]]
    """
    clusters = int(codes.max()) + 1
    if count < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, got {count}")
    if clusters < count:
        raise ValueError(f"{clusters} independent clusters cannot fill {count} folds")
    place = np.random.default_rng(seed).permutation(clusters) % count
    return [
        (np.flatnonzero(place[codes] != fold), np.flatnonzero(place[codes] == fold))
        for fold in range(count)
    ]
