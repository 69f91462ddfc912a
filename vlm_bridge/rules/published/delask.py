"""DeLask (arXiv 2606.00819): layers whose update turns against the one before."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.measure.last_token import by_image, cosine, last_token_states
from vlm_bridge.rules.protocol import Origin, RuleBase


@dataclass(frozen=True, kw_only=True)
class DeLask(RuleBase):
    """`mean cos(u_{l-1}, u_l)` of consecutive updates at the last token; below 0 it reverses.

    The method blends the output of a reversing layer back towards its input, token by token; as a
    score, a layer that reverses more is left out first. Layer 0 has no update before it: 1.
    """

    name: str = "delask"
    modes: tuple[str, ...] = ("block",)
    source: str = "arXiv:2606.00819, reversal rule"
    condition: str = "none of the four"
    requires: str = "forward pass"
    origin: Origin = "published"

    def score(self, evidence: Evidence, mode: str) -> NDArray[np.float64]:
        """(n_layers,) mean cosine with the update before, in [-1, 1]."""
        updates = np.diff(last_token_states(evidence), axis=0)
        turns = [by_image(cosine(a, b), evidence.clusters) for a, b in pairwise(updates)]
        return np.array([1.0, *turns])
