"""Mean overlap of our set of units with those of all published methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.record import Record
from vlm_bridge.errors import BridgeError
from vlm_bridge.experiments.claims.coincidence import Coincidence, coincidence, safest
from vlm_bridge.experiments.claims.comparisons import compared_size, our_conditions, peers_of
from vlm_bridge.experiments.rule_benchmark import ModelBenchmark, RuleResult
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.rules import Evidence, find_rule, own_plans


@dataclass(frozen=True)
class Overlap(Record):
    """Our ranking against every published method of its mode, at equal size of the sets.

    Attributes:
        rule, mode: our rule and the mode of its units.
        size: number of units in each set.
        chosen: positions of our units, ascending.
        peers: our set against each method's; a method of another mode has it in its name.
        jaccard: mean Jaccard index over the methods.
        expected: its expectation if our set is drawn at random.
        p_permutation: share of random sets with a mean overlap at least as large, ours among them.
            The methods' sets are fixed, so methods that agree do not count as several.
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
    draws: int = 20_000,
    seed: int = 0,
) -> Overlap:
    """Mean overlap with several methods, against `draws` random sets.

    Scores are (n_units,), the lower, the safer; those of the methods by name.

    Example:
        >>> overlap([0, 1, 2, 3], {"a": [0, 1, 2, 3]}, 1, rule="r", mode="block").jaccard
        1.0
    """
    if not peers:
        raise BridgeError(f"rule '{rule}' needs a published method to be compared with")
    pairs = [coincidence(ours, scores, size, names=(rule, name)) for name, scores in peers.items()]
    n, chosen = len(ours), safest(ours, size)
    theirs = np.array([safest(scores, size) for scores in peers.values()])
    rng = np.random.default_rng(seed)
    drawn = np.zeros((draws, n), dtype=bool)
    places = rng.random((draws, n)).argpartition(size - 1, axis=1)[:, :size]
    np.put_along_axis(drawn, places, True, axis=1)
    rotated = np.array([np.roll(chosen, turn) for turn in range(n)])
    jaccard = float(_mean_jaccard(chosen[None], theirs, size)[0])
    as_large = [_mean_jaccard(sets, theirs, size) >= jaccard - 1e-12 for sets in (drawn, rotated)]
    return Overlap(
        rule=rule,
        mode=mode,
        size=size,
        chosen=tuple(np.flatnonzero(chosen).tolist()),
        peers=tuple(pairs),
        jaccard=jaccard,
        expected=float(np.mean([pair.expected for pair in pairs])),
        p_permutation=float((1 + as_large[0].sum()) / (1 + draws)),
        p_rotation=float(as_large[1].mean()),
    )


def overlaps(benchmark: ModelBenchmark, evidence: Evidence) -> list[Overlap]:
    """The overlap of each of our rankings that has published methods to compare with."""
    measured = []
    for ours in our_conditions(benchmark):
        rule, mode, size = ours.score.rule, ours.score.mode, compared_size(ours)
        peers = {}
        for peer in peers_of(benchmark, ours):
            own = peer.score
            name = own.rule if own.mode == mode else f"{own.rule} ({own.mode})"
            peers[name] = method_scores(peer, size, evidence)
        if peers:
            measured.append(overlap(ours.scores, peers, size, rule=rule, mode=mode))
    return measured


def method_scores(peer: RuleResult, size: int, evidence: Evidence) -> Sequence[float]:
    """A method's scores; if it has its own plans, 0 for the units of the plan of that size."""
    if peer.score.mode in LAYERWISE:
        for plan in own_plans(find_rule(peer.score.rule), evidence, peer.score.mode) or []:
            if len(plan.layers) == size:
                return [0.0 if layer in plan.layers else 1.0 for layer in range(plan.n_layers)]
    return peer.scores


def _mean_jaccard(
    sets: NDArray[np.bool_], theirs: NDArray[np.bool_], size: int
) -> NDArray[np.float64]:
    """(n_sets,) mean Jaccard index of each of `sets` with `theirs` (n_peers, n_units)."""
    common = sets.astype(np.int64) @ theirs.T.astype(np.int64)
    return np.asarray((common / (2 * size - common)).mean(axis=1))
