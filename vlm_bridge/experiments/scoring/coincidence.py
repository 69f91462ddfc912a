"""Do two rules skip the same layers? Overlap at equal size, against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from estimators.record import Record
from vlm_bridge.errors import BridgeError


@dataclass(frozen=True)
class Coincidence(Record):
    """Overlap of two sets of equal size, and of random sets.

    Attributes:
        ours, theirs: names of the two rules.
        n_layers: number L of layers (units) to choose from.
        size: number k of layers in each set.
        jaccard: `|A & B| / |A | B|`.
        expected: mean Jaccard index if the second set is drawn at random.
        p_permutation: exact probability of an overlap at least as large if all sets of k layers
            are equally likely.
        p_rotation: the same over the L rotations of the second set, which keep neighbouring layers
            together; at least 1/L.
    """

    ours: str
    theirs: str
    n_layers: int
    size: int
    jaccard: float
    expected: float
    p_permutation: float
    p_rotation: float


def coincidence(
    ours: NDArray[np.float64] | Sequence[float],
    theirs: NDArray[np.float64] | Sequence[float],
    size: int,
    *,
    names: tuple[str, str] = ("ours", "theirs"),
) -> Coincidence:
    """Overlap of the `size` safest layers of two scores.

    `J = m / (2k - m)` for `m` layers in common; under the permutation null
    `m ~ Hypergeometric(L, k, k)`. Both scores are (n_layers,); the lower, the safer; ties go to the
    earlier layer.

    Example:
        >>> pair = coincidence([0, 1, 2, 3], [1, 0, 3, 2], 2)
        >>> pair.jaccard, round(pair.p_permutation, 4)
        (1.0, 0.1667)
    """
    a, b = (np.asarray(score, dtype=np.float64) for score in (ours, theirs))
    if a.shape != b.shape or a.ndim != 1:
        shapes = f"{a.shape} and {b.shape}"
        raise BridgeError(f"two scores of one length are needed, got shapes {shapes}")
    if np.isnan(a).any() or np.isnan(b).any():
        raise BridgeError(f"a score of {names} is NaN, so its safest layers are not defined")
    if not 1 <= size < len(a):
        raise BridgeError(f"size must lie between 1 and {len(a) - 1}, got {size}")
    first, second = (safest(score, size) for score in (a, b))
    n, common = len(a), int((first & second).sum())
    overlaps, chance = np.arange(size + 1), hypergeom(n, size, size)
    rotated = np.array([(first & np.roll(second, turn)).sum() for turn in range(n)])
    return Coincidence(
        *names,
        n_layers=n,
        size=size,
        jaccard=common / (2 * size - common),
        expected=float(np.sum(chance.pmf(overlaps) * overlaps / (2 * size - overlaps))),
        p_permutation=min(1.0, float(chance.sf(common - 1))),
        p_rotation=float((rotated >= common).mean()),
    )


def safest(score: NDArray[np.float64] | Sequence[float], size: int) -> NDArray[np.bool_]:
    """(n_layers,) whether a layer has one of the `size` lowest scores; ties go to the earlier.

    Example:
        >>> safest([0.5, 0.1, 0.5], 2).tolist()
        [True, True, False]
    """
    chosen = np.zeros(len(score), dtype=bool)
    chosen[np.argsort(score, kind="stable")[:size]] = True
    return chosen
