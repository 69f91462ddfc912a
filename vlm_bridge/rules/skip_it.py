"""Our first rule: how far vision moves in a layer, times how much of it is read afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theory.conditions import functional_gap_from_cosine, functional_gap_from_tail
from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Origin, RuleBase

_TAIL = 0.1


@dataclass(frozen=True, kw_only=True)
class SkipIt(RuleBase):
    """Geometric and proximal change of the vision states, weighed by the cross-modal condition.

    `score_l = (sqrt(2 G_l) + 2 P_l) * sum_{j > l} VAR_j`, where `G_l` is the mean cosine
    distance of layer l's vision states, `P_l` the share of them farther than 0.1, and
    `VAR_j` the attention mass text puts on vision in layer j. The first factor is how far the
    directions move when the layer's vision update is left out: statement G-F (the mean chord
    is at most `sqrt(2 G)`) plus statement P-F for the tail alone (nothing moves more than 2,
    and what stays within 0.1 is already in the first term). Frozen vision is felt only where text
    reads it, which is in later layers, at most in proportion to the attention mass (a head
    changes by at most VAR times the diameter of its values). The same distance is
    therefore harmless after the last layer that reads vision and harmful before.

    It is a ranking, not a bound: constants are left out, and the cut is chosen by
    measured disagreement on tuning images.
    """

    name: str = "skip-it"
    modes: tuple[str, ...] = ("freeze",)
    source: str = "reconstruction of arXiv:2509.25584 (geometric, proximal, cross-modal)"
    condition: str = "geometric + proximal + cross-modal"
    requires: str = "forward pass"
    origin: Origin = "ours"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) predicted effect of freezing each layer; see the class."""
        profile = evidence.profile
        mean = profile.values("image", "cosine_distance")
        at = profile.tail_grid.index(_TAIL)
        tail = np.array([per_layer[at].value for per_layer in profile.tails["image"]])
        var = profile.values("text", "var")
        read_later = np.concatenate([np.cumsum(var[::-1])[::-1][1:], [0.0]])
        moved = [
            functional_gap_from_cosine(g).value + functional_gap_from_tail(p, threshold=0.0).value
            for g, p in zip(mean, tail, strict=True)
        ]
        return np.asarray(moved * read_later)
