"""Folds that keep independent clusters together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def folds_of(
    codes: Indices, count: int, seed: int, training: float = 1.0
) -> list[tuple[Indices, Indices]]:
    """Training and held-out row numbers of every fold of clusters.

    Args:
        codes: (n,) cluster number of every row.
        count: number of folds.
        seed: seed of the assignment.
        training: share of the training clusters that are used.

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
    used = np.random.default_rng([seed, count]).permutation(clusters) < training * clusters
    return [
        (np.flatnonzero((used & (place != fold))[codes]), np.flatnonzero(place[codes] == fold))
        for fold in range(count)
    ]
