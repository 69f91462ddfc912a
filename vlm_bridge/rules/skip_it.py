"""Our first rule: change of modality states by a layer, times later attention to them."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule

_TAIL = 0.1


class SkipIt(Rule):
    """Geometric and proximal change of the modality states, weighted by the cross-modal condition.

        score_l = (sqrt(2 G_l) + 2 P_l) * sum_{j > l} VAR_j

    `G_l` is the mean cosine distance of layer l's states of modality tokens (image, video, audio),
    `P_l` the share of them beyond 0.1, and `VAR_j` the attention mass of text on them in layer j.
    The first factor bounds how far directions move when the layer's update of them is skipped:
    statement G-F (mean chord at most `sqrt(2 G)`) plus statement P-F for the tail (no chord exceeds
    2). Text reads frozen tokens in later layers only, and a head changes by at most VAR times the
    diameter of its values: a move after the last layer that reads them is harmless.

    It is a ranking, not a bound: constants are omitted, and measured disagreement on tuning images
    sets the cut.
    """

    name = "skip-it"
    modes = ("freeze",)
    source = "reconstruction of arXiv:2509.25584 (geometric, proximal, cross-modal)"
    deviation = "a rule of this project; the paper states conditions, not a score"
    condition = "geometric + proximal + cross-modal"
    origin = "ours"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) predicted effect of freezing each layer; see the class."""
        profile = evidence.profile
        groups, at = evidence.modality_groups, profile.tail_grid.index(_TAIL)
        tails = [[layer[at].value for layer in profile.tails[group]] for group in groups]
        distances = [profile.values(group, "cosine_distance") for group in groups]
        rows = [profile.n_rows[group] for group in groups] if len(groups) > 1 else None
        tail, distance = (np.average(each, axis=0, weights=rows) for each in (tails, distances))
        moved = np.sqrt(2.0 * distance) + 2.0 * tail
        var = profile.values("text", "var")
        read_later = np.concatenate([np.cumsum(var[::-1])[::-1][1:], [0.0]])
        return np.asarray(moved * read_later)
