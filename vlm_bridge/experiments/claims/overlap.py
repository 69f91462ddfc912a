"""Does the set we would skip coincide with those of the published methods, taken together?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.coincidence import Coincidence, coincidence, safest

#: Draws of a set at random in the permutation null of the mean.
DRAWS = 20_000


@dataclass(frozen=True)
class Overlap(Record):
    """One ranking of ours against every published method of the mode, at one size.

    Attributes:
        rule: ours.
        mode: of the units.
        size: units in each set.
        chosen: positions of our units, ascending.
        peers: each method beside ours; its name tells its mode where that is another.
        jaccard: mean over the methods.
        expected: mean of it where our set is drawn at random.
        p_permutation: share of random sets whose mean overlap is at least as large, ours counted
            among them. Our set is drawn anew and those of the methods stay, so that methods that
            agree with each other do not count as several.
        p_rotation: the same over the rotations of our set; see `Coincidence`.
    """

    rule: str
    mode: str
    size: int
    chosen: tuple[int, ...]
    peers: tuple[Coincidence, ...]
    jaccard: float
    expected: float
    p_permutation: float
    p_rotation: float


def overlap(
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    size: int,
    *,
    rule: str,
    mode: str,
    draws: int = DRAWS,
    seed: int = 0,
) -> Overlap:
    """Mean overlap with several methods, against a set drawn at random.

    Args:
        ours: (n_units,) the lower, the safer.
        peers: name -> (n_units,) scores of a method.
        size: units in each set.
        rule: ours, for the record.
        mode: for the record.
        draws: of the permutation null.
        seed: of the draws.

    Raises:
        BridgeError: no method, or as `coincidence`.

    Example:
        >>> overlap([0, 1, 2, 3], {"a": [0, 1, 2, 3]}, 1, rule="r", mode="block").jaccard
        1.0
    """
    if not peers:
        raise BridgeError(f"rule '{rule}' needs a published method to be compared with")
    pairs = [coincidence(ours, scores, size, names=(rule, name)) for name, scores in peers.items()]
    n = len(ours)
    mine = safest(ours, size)
    theirs = np.array([safest(scores, size) for scores in peers.values()])
    rng = np.random.default_rng(seed)
    drawn = np.zeros((draws, n), dtype=bool)
    places = rng.random((draws, n)).argpartition(size - 1, axis=1)[:, :size]
    np.put_along_axis(drawn, places, True, axis=1)
    found = float(_mean_jaccard(mine[None], theirs, size)[0])
    random = _mean_jaccard(drawn, theirs, size)
    turned = _mean_jaccard(np.array([np.roll(mine, turn) for turn in range(n)]), theirs, size)
    reached = found - 1e-12
    return Overlap(
        rule=rule,
        mode=mode,
        size=size,
        chosen=tuple(np.flatnonzero(mine).tolist()),
        peers=tuple(pairs),
        jaccard=found,
        expected=float(np.mean([pair.expected for pair in pairs])),
        p_permutation=float((1 + (random >= reached).sum()) / (1 + draws)),
        p_rotation=float((turned >= reached).mean()),
    )


def _mean_jaccard(
    sets: NDArray[np.bool_], theirs: NDArray[np.bool_], size: int
) -> NDArray[np.float64]:
    """(n_sets,) mean over `theirs` (n_peers, n_units) of the Jaccard index with each of `sets`."""
    common = sets.astype(np.int64) @ theirs.T.astype(np.int64)
    return np.asarray((common / (2 * size - common)).mean(axis=1))
