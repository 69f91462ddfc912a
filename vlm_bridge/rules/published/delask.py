"""DeLask (arXiv 2606.00819): layers whose update opposes the previous one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule
from vlm_bridge.rules.published.angular import cosine


class DeLask(Rule):
    """`mean cos(u_{l-1}, u_l)` of consecutive updates at the last token; below 0 it reverses.

    Layer 0, without previous update, has 1.
    """

    name = "delask"
    modes = ("block",)
    source = "arXiv:2606.00819, reversal rule"
    deviation = (
        "skips the layers that reverse most, where the authors blend their output back, token by "
        "token and step by step; last token of a prompt; without their code"
    )
    condition = "none"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(n_layers,) mean cosine with the previous update, in [-1, 1]."""
        updates = np.diff(evidence.last_token_states(), axis=0)
        cosines = [evidence.image_mean(cosine(a, b)) for a, b in pairwise(updates)]
        return np.array([1.0, *cosines])
