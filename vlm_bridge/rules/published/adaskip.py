"""AdaSkip (He et al. 2025, arXiv 2501.02336): skip sublayers with output similar to input."""

from __future__ import annotations

import numpy as np

from vlm_bridge.rules.evidence import Evidence
from vlm_bridge.rules.protocol import Floats, Rule


class AdaSkip(Rule):
    """`1 - mean cos(a, b)` of a sublayer's input a and output b, of attention and of MLP."""

    name = "adaskip"
    modes = ("sublayer",)
    source = "He et al. 2025, arXiv:2501.02336, input-output similarity of sublayers"
    deviation = (
        "a skipped sublayer adds nothing, where the authors scale its input by mean |b| / |a|; "
        "all tokens of the prompt"
    )
    condition = "geometric"
    stacks = "any"

    def score(self, evidence: Evidence, mode: str) -> Floats:
        """(2 n_layers,) mean cosine distance over all tokens, in [0, 2]."""
        return np.asarray(1 - evidence.sublayer_geometry().similarity)
